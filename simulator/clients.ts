/**
 * The crowd. Each client presses, asks again with the same key when it was not answered, and follows its task until
 * the outcome; whatever the core tells it on the way is checked, whether it arrives or not.
 */
import type { CouponId, UserId } from '../src/coupon.ts';
import { Unavailable } from '../src/errors.ts';
import type { Answer } from '../src/issue.ts';
import { keyHash, type Task } from '../src/task.ts';
import type { Press, StreamSeen } from './checks/told.ts';
import type { Instance } from './instance.ts';
import type { ClientPlan } from './plan.ts';
import type { World } from './world.ts';

/** How long a client waits for an answer before it asks again. */
const patienceMs = 3_000;
const againMs = 300;
/** How often, and for how long, whoever has its outcome looks again. */
const lookMs = 300;
const asksAgainMs = 300;
/** Places of which one task is sealed and opened again, which takes longer than its other checks. */
const sealedEvery = 4;

type Pressed = Pick<Press, 'couponId' | 'userId' | 'key'>;

/** Under which presses are counted: all of a user, and those with one key. */
export const idsOf = ({ couponId, userId, key }: { [K in keyof Pressed]: string | undefined }): string[] => [
  `${couponId} ${userId}`,
  `${couponId} ${userId} ${key}`,
];

export class Crowd {
  /** Every task that was given out, with the place of its client's instance. */
  readonly tasks: Task[] = [];
  /** By coupon and user, and by key as well: whether any press of it may have got into the log. */
  readonly mayBeIn = new Map<string, boolean>();
  /** Presses that the core has not answered. */
  readonly open = new Set<Pressed>();
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  start(): void {
    for (const plan of this.world.plan.clients) {
      this.world.busy++;
      void this.live(plan).then(() => this.world.busy--);
    }
  }

  private async live(plan: ClientPlan): Promise<void> {
    await this.world.sleep(plan.at, `client ${plan.id} comes`);
    await this.press(plan, plan.instance, plan.losesAnswer);
    if (plan.againAfterMs === 0) return;
    await this.world.sleep(plan.againAfterMs, `client ${plan.id} comes again`);
    await this.press(plan, plan.instance + 1, false);
  }

  private async press(plan: ClientPlan, place: number, losesAnswer: boolean): Promise<void> {
    const { world } = this;
    for (let tries = 0; ; tries++) {
      const answer = await this.post(plan, place + tries, losesAnswer && tries === 0);
      if (answer !== 'lost' && 'task' in answer) return this.follow(plan, answer.task, place + tries);
      const isUnknown = answer === 'lost' || answer.code === 'OUTCOME_UNKNOWN';
      // Without a key another press is another request: some give up, some press again.
      if (isUnknown && plan.key === null && (plan.id + tries) % 2 === 0) return;
      const isClosed =
        answer !== 'lost' && answer.code === 'INACTIVE_COUPON' && answer.reason === 'not_open' && tries < 3;
      const goesOn = isUnknown || isClosed || answer.code === 'NOT_ACCEPTED';
      if (!goesOn) return;
      await world.sleep(isClosed ? 1_000 : againMs, `client ${plan.id} waits`);
    }
  }

  /** One request and its answer; `lost` when none arrives. */
  private async post(plan: ClientPlan, place: number, losesAnswer: boolean): Promise<Answer | 'lost'> {
    const { world } = this;
    const { random, name } = world.wire.draw(`client ${plan.id} posts`);
    await world.sleep(random.int(0, 5), name);
    const instance = world.serving(place);
    if (!instance) return 'lost';
    return world.asked<Answer | 'lost'>(instance, patienceMs, name.and('has no answer'), 'lost', tell => {
      const told = (answer: Answer) =>
        void world.scheduler.in(random.int(0, 5), undefined, name.and('is answered'), () => tell(answer));
      this.issue(plan, instance, losesAnswer ? () => {} : told);
    });
  }

  private issue(plan: ClientPlan, instance: Instance, told: (answer: Answer) => void): void {
    const { world } = this;
    const { scheduler } = world;
    const couponId = plan.couponId as CouponId;
    const userId = plan.userId as UserId;
    const key = plan.key === null ? undefined : keyHash(`${couponId} ${userId}`, plan.key);
    const press = { couponId, userId, key, sentAt: scheduler.now, asked: instance.life.name };
    this.note(press, false);
    this.open.add(press);
    world.served(instance, instance.door.issue(couponId, userId, key)).then(
      answer => {
        this.open.delete(press);
        const surelyOut = answer.kind === 'refused' && answer.code !== 'OUTCOME_UNKNOWN';
        if (!surelyOut) this.note(press, true);
        scheduler.note(`${instance.life.name} answers client ${plan.id}: ${wordsOf(answer)}`);
        world.told.atTheDoor(press, answer);
        if (answer.kind !== 'refused') this.given(instance, answer.task);
        told(answer);
      },
      error => {
        this.open.delete(press);
        if (!(error instanceof Unavailable)) world.facts.fail('no_crash', `issue rejects with ${error}`);
      },
    );
  }

  private note(press: Pressed, mayBe: boolean): void {
    for (const id of idsOf(press)) this.mayBeIn.set(id, mayBe || this.mayBeIn.get(id) === true);
  }

  /** The client gets no more than the id. */
  private given(instance: Instance, task: Task): void {
    this.tasks.push(task);
    // What an id is made of is the task and nothing that a run could change.
    if (task.offset % sealedEvery !== 0) return;
    const opened = instance.sealer.open(instance.sealer.seal(task));
    const isSame = opened && (Object.keys(task) as (keyof Task)[]).every(name => opened[name] === task[name]);
    this.world.facts.expect(
      isSame === true,
      'right_person',
      () => `${JSON.stringify(task)} opens as ${JSON.stringify(opened)}`,
    );
  }

  private async follow(plan: ClientPlan, task: Task, place: number): Promise<void> {
    for (let tries = 0; ; tries++) {
      const instance = this.world.serving(place + tries);
      const done =
        instance &&
        (await (plan.follow === 'stream' ? this.watch(plan, task, instance, tries) : this.ask(plan, task, instance)));
      if (done) return this.askAgain(plan, task, place + tries);
      await this.world.sleep(plan.follow === 'stream' ? againMs : plan.pollMs, `client ${plan.id} follows on`);
    }
  }

  /** Whoever has its outcome looks again, there and elsewhere. */
  private async askAgain(plan: ClientPlan, task: Task, place: number): Promise<void> {
    const everyMs = Math.min(lookMs, plan.pollMs);
    for (let i = 0; i * everyMs < asksAgainMs; i++) {
      await this.world.sleep(everyMs, `client ${plan.id} looks again`);
      const instance = this.world.serving(place + (i % 2));
      if (instance) await this.ask(plan, task, instance);
    }
  }

  /** One stream, until the outcome or its end. */
  private watch({ id, cutsAfterMs }: ClientPlan, task: Task, instance: Instance, tries: number): Promise<boolean> {
    const { scheduler, told } = this.world;
    const asked = { name: instance.life.name, at: scheduler.now };
    const seen: StreamSeen = { task, asked, rank: -1, ahead: Number.POSITIVE_INFINITY, ended: false };
    return new Promise(resolve => {
      const end = (done: boolean) => {
        instance.onEnd.delete(cut);
        resolve(done);
      };
      const cut = () => {
        if (instance.life.alive) leave();
        end(false);
      };
      instance.onEnd.add(cut);
      const leave = instance.hub.watch(task, {
        tell: (status, ahead) => {
          scheduler.note(`client ${id} is told ${JSON.stringify(status)} ahead ${ahead}`);
          told.told(seen, status, ahead);
          if (status.state === 'done') end(true);
        },
      });
      if (cutsAfterMs > 0 && tries === 0)
        scheduler.in(cutsAfterMs, instance.life, `the stream of client ${id} is cut`, cut);
    });
  }

  /** One question. */
  private ask({ id }: ClientPlan, task: Task, instance: Instance): Promise<boolean> {
    const { world } = this;
    const asked = { name: instance.life.name, at: world.scheduler.now };
    return world.asked(instance, patienceMs, `client ${id} is not told`, false, tell => {
      instance.status.read(task).then(
        ({ status }) => {
          world.scheduler.note(`client ${id} reads ${JSON.stringify(status)}`);
          world.told.answered(task, status, asked);
          tell(status.state === 'done');
        },
        // Neither ledger nor store answers: it asks again.
        () => tell(false),
      );
    });
  }
}

const wordsOf = (answer: Answer): string =>
  answer.kind === 'refused'
    ? `${answer.code}${'reason' in answer ? ` ${answer.reason}` : ''}`
    : `${answer.kind} at ${answer.task.offset}`;
