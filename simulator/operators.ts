/** The operator: creates, restocks, closes and redrives, and asks again until there is a definite answer. */
import type { CouponBody, CouponId } from '../src/coupon.ts';
import { keyHash } from '../src/task.ts';
import type { Instance } from './instance.ts';
import type { OperationPlan } from './plan.ts';
import type { World } from './world.ts';

/** An operator's call may wait 10 s for its entry and a second more. */
const patienceMs = 15_000;
const againMs = 400;
/** While nobody serves. */
const startMs = 60;
/**
 * An operator that is told to try a coupon that is not there yet tries no longer than this: for more than a process is
 * ever down, since a creation that is given up leaves a coupon that nobody can change.
 */
const triesMax = 5_000;

export class Operators {
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  start(): void {
    for (const plan of this.world.plan.operations) {
      this.world.busy++;
      void this.live(plan).then(() => this.world.busy--);
    }
  }

  private async live(plan: OperationPlan): Promise<void> {
    const { world } = this;
    await world.sleep(plan.at, `operator ${plan.id} comes`);
    for (let tries = 0; tries < triesMax; tries++) {
      const instance = world.serving(plan.instance + tries);
      if (instance && (await this.call(plan, instance))) return;
      await world.sleep(instance ? againMs : startMs, `operator ${plan.id} waits`);
    }
  }

  /** Whether that was a definite answer. */
  private call(plan: OperationPlan, instance: Instance): Promise<boolean> {
    const { world } = this;
    const said = (what: string) =>
      world.scheduler.note(`${instance.life.name} tells operator ${plan.id} (${plan.kind}) ${what}`);
    return world.asked(instance, patienceMs, `operator ${plan.id} has no answer`, false, tell => {
      world.served(instance, this.ask(plan, instance)).then(
        kind => {
          said(kind);
          tell(!['not_accepted', 'outcome_unknown', 'unknown'].includes(kind));
        },
        error => {
          said(`${error}`);
          tell(false);
        },
      );
    });
  }

  private async ask(
    { kind, couponId: id, add, id: operation }: OperationPlan,
    { operator }: Instance,
  ): Promise<string> {
    const { told, plan, epoch } = this.world;
    const couponId = id as CouponId;
    switch (kind) {
      case 'create': {
        const {
          stock = 0,
          opensAt = null,
          closesAt = null,
        } = plan.coupons.find(coupon => coupon.couponId === id) ?? {};
        const at = (ms: number | null) => (ms === null ? null : epoch + ms);
        const window = { opensAt: at(opensAt), closesAt: at(closesAt), validUntil: null };
        const body: CouponBody = { name: id, stock, ...window, discount: null };
        const created = await operator.create(couponId, body);
        told.created(couponId, created);
        return created.kind;
      }
      case 'add': {
        const stocked = await operator.addStock(couponId, add, `add ${operation}`);
        told.stocked(couponId, keyHash(couponId, `add ${operation}`), stocked);
        return stocked.kind;
      }
      case 'close': {
        const closed = await operator.close(couponId);
        told.closed(couponId, closed);
        return closed.kind;
      }
      case 'redrive':
        return `redriven ${await operator.redrive(couponId)}`;
    }
  }
}
