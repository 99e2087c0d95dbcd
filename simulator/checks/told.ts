/** Checks of what people are told: at the door, on their streams, when they ask, and the operator. */
import type { CouponId, RequestKey, UserId } from '../../src/coupon.ts';
import type { Answer } from '../../src/issue.ts';
import type { Closed, Created, Stocked } from '../../src/operator.ts';
import type { Status } from '../../src/outcome.ts';
import type { Task } from '../../src/task.ts';
import type { Plan } from '../plan.ts';
import { endOf, holderOf, type Known, type Phase, type Winner } from '../truth.ts';
import { type Facts, rowId, type Spell } from './facts.ts';

/** The clocks of a process and of a broker are each at most this far from the run's, ms. */
export const skewMsMax = 900;
/** From the commit to the push and through the reads that it asks for, without faults: ways to a server and back. */
const calmWays = 10;
/** Of who asks before, where not all questions go in one read. */
const readWays = 4;
/** After the last fault, besides a call that is slow on both ways: all serve again and have read again, ms. */
const mendedMsMax = 10_000;
/** How long a latch may hold, with the read that set it, ms: see limits.ts. */
const latchMs = 1_000;

export interface Press {
  couponId: CouponId;
  userId: UserId;
  key: RequestKey | undefined;
  sentAt: number;
  /** The process that was asked. */
  asked: string;
}

/** Which process was asked, and when. */
export interface Asked {
  name: string;
  at: number;
}

export interface StreamSeen {
  task: Task;
  asked: Asked;
  rank: number;
  ahead: number;
  ended: boolean;
}

const ranks = { accepted: 0, reserved: 1, set_aside: 2, done: 3 } as const;

export class ToldChecks {
  private readonly facts: Facts;
  private readonly plan: Pick<Plan, 'slowMs' | 'coupons'>;
  /** No fault is planned, of a server or of a call. */
  private readonly isCalm: boolean;
  private readonly faultsUntil: number;
  /** An outcome that can be told is told within this time, ms. */
  private readonly soonMs: number;
  /** What an outcome was told from is lost in this run: what is told again may be less, until it is made good. */
  private readonly forgets: boolean;
  /** When each task was first told its outcome, by who told it and its place. */
  private readonly outcomeAt = new Map<string, number>();
  /** Who was accepted where, by process and coupon. */
  private readonly order = new Map<string, { sentAt: number; offset: number }[]>();

  constructor(
    facts: Facts,
    plan: Pick<Plan, 'slowMs' | 'callMsMax' | 'bounds' | 'clients' | 'coupons' | 'faults' | 'rates' | 'calmAt'>,
  ) {
    this.facts = facts;
    this.plan = plan;
    this.isCalm = plan.faults.length === 0 && Object.values(plan.rates).every(rate => rate === 0);
    this.faultsUntil = this.isCalm ? 0 : Math.max(plan.calmAt, ...plan.faults.map(({ at }) => at));
    const reads = Math.ceil(plan.clients.length / plan.bounds.statusBatchMax);
    this.soonMs = this.isCalm
      ? (calmWays + readWays * (reads - 1)) * plan.callMsMax + 10
      : mendedMsMax + 2 * plan.slowMs;
    this.forgets = plan.faults.some(({ kind }) => ['board_back', 'redis_back', 'store_back'].includes(kind));
  }

  atTheDoor(press: Press, answer: Answer) {
    switch (answer.kind) {
      case 'accepted':
        return this.accepted(press, answer.task, answer.ahead);
      case 'won_before':
        return this.wonBefore(press, answer.task);
      case 'refused':
        break;
    }
    switch (answer.code) {
      case 'NOT_ACCEPTED':
      case 'OUTCOME_UNKNOWN':
        return this.expect(!this.isCalm, 'let_in', () => `${press.userId} is told ${answer.code}`);
      case 'UNKNOWN_COUPON': {
        const createdAt = this.facts.createdAt.get(press.couponId) ?? Number.POSITIVE_INFINITY;
        return this.expect(
          createdAt >= press.sentAt,
          'door_unknown_true',
          () => `${press.couponId} was there at ${createdAt} ms`,
        );
      }
      case 'DUPLICATED_COUPON':
        return this.duplicated(press, answer.slot);
      case 'INACTIVE_COUPON':
        this.keyDidNotWin(press, answer.reason);
        if (answer.reason === 'not_open') return this.notOpen(press);
        return this.shut(press, answer.reason);
    }
  }

  private accepted(press: Press, task: Task, ahead: number | undefined) {
    const { couponId, userId, key, sentAt } = press;
    const { partition, offset } = task;
    const known = this.facts.truth[partition]?.entries[offset];
    const isOurs =
      known?.couponId === couponId && known.userId === userId && known.key === task.key && known.type === 'request';
    const appendedAt = this.facts.appendedAt[partition]?.[offset] ?? -1;
    const asAsked = (key === undefined || task.key === key) && task.couponId === couponId && task.userId === userId;
    this.expect(
      isOurs && asAsked && appendedAt >= sentAt,
      'accepted_durable',
      () => `${show(task)} was accepted, the log has ${show(known)}`,
    );
    this.aheadIsTrue(partition, offset, ahead);
    this.cameInOrder(press, offset);
  }

  /** Who came earlier to the same process stands earlier in the log. */
  private cameInOrder({ asked, couponId, sentAt }: Press, offset: number): void {
    const id = `${asked} ${couponId}`;
    const others = this.order.get(id) ?? [];
    for (const other of others) {
      const isInOrder = other.sentAt === sentAt || other.sentAt < sentAt === other.offset < offset;
      const both = `${other.sentAt} ms at ${other.offset}, ${sentAt} ms at ${offset}`;
      this.expect(isInOrder, 'first_come', () => `at ${id} came ${both}`);
    }
    this.order.set(id, [...others, { sentAt, offset }]);
  }

  private wonBefore({ couponId, userId, key, sentAt }: Press, { offset, partition, key: ofTask }: Task): void {
    const winner = this.facts.truthOf(couponId).sales.get(couponId)?.byUser.get(userId);
    const isTrue =
      winner?.key === key &&
      ofTask === key &&
      winner?.offset === offset &&
      partition === this.facts.partitionOf(couponId);
    this.expect(isTrue, 'outcome_true', () => `${userId} has won before at ${offset}, won was ${show(winner)}`);
    if (winner) this.hasRow(couponId, winner, sentAt);
  }

  private duplicated({ couponId, userId, key, sentAt }: Press, slot: number) {
    const winner = this.facts.truthOf(couponId).sales.get(couponId)?.byUser.get(userId);
    this.expect(
      winner?.slot === slot,
      'door_duplicate_true',
      () => `${userId} is said to hold ${slot}, won was ${show(winner)}`,
    );
    this.expect(
      key === undefined || winner?.key !== key,
      'key_never_lost',
      () => `${userId} is told to be a duplicate of itself`,
    );
    if (winner) this.hasRow(couponId, winner, sentAt);
  }

  private notOpen({ couponId, sentAt }: Press): void {
    const opensAt = this.asked(couponId)?.opensAt ?? null;
    const isTrue = opensAt !== null && sentAt + skewMsMax < opensAt;
    this.expect(isTrue, 'door_not_open_true', () => `${couponId} opens at ${opensAt} ms`);
  }

  private shut(press: Press, reason: 'sold_out' | 'closed'): void {
    const { facts } = this;
    const { couponId, sentAt } = press;
    const check = reason === 'sold_out' ? 'door_sold_out_true' : 'door_closed_true';
    const heard = this.wasBehind(press)
      ? []
      : facts.restocked.filter(restock => restock.couponId === couponId && restock.at < sentAt);
    const from = Math.max(0, ...heard.map(({ offset }) => offset + 1));
    const truth = facts.truthOf(couponId);
    const end = truth.entries.length;
    for (let next = end; next >= from; next--) if (truth.phaseAt(couponId, next) === reason) return;
    facts.fail(check, `${couponId} was ${reason} for ${press.userId}, and is not from ${from} to ${end}`);
  }

  /** One that won, and was decided before it was asked for again. */
  private keyDidNotWin(press: Press, reason: Phase): void {
    const { couponId, userId, key, sentAt } = press;
    if (key === undefined || this.wasBehind(press)) return;
    const { facts } = this;
    const winner = facts.truthOf(couponId).sales.get(couponId)?.byUser.get(userId);
    if (winner?.key !== key) return;
    const decidedAt = facts.decidedAt[facts.partitionOf(couponId)]?.[winner.offset] ?? Number.POSITIVE_INFINITY;
    this.expect(
      decidedAt >= sentAt,
      'key_never_lost',
      () => `${userId} won ${winner.slot} with this key and is told ${reason}`,
    );
  }

  /** The ledger had lost its newest state while an answer could be read from it. */
  private wasBehind({ couponId, sentAt }: Pick<Press, 'couponId' | 'sentAt'>): boolean {
    const behind = this.facts.behind[this.facts.partitionOf(couponId)];
    return behind?.now === true || (behind?.until ?? -1) >= sentAt - latchMs - this.plan.slowMs;
  }

  told(stream: StreamSeen, status: Status, ahead: number | undefined): void {
    const rank = ranks[status.state];
    const { task } = stream;
    this.expect(!stream.ended, 'stream_forward', () => `${show(task)} is told after its outcome`);
    this.expect(rank >= stream.rank, 'stream_forward', () => `${show(task)} goes back to ${status.state}`);
    this.expect(
      ahead === undefined || ahead <= stream.ahead,
      'stream_forward',
      () => `ahead grows from ${stream.ahead} to ${ahead}`,
    );
    stream.rank = rank;
    stream.ahead = ahead ?? stream.ahead;
    stream.ended = status.state === 'done';
    this.aheadIsTrue(task.partition, task.offset, ahead);
    if (stream.ended) this.cameSoon(task, stream.asked.at, this.facts.now);
    this.answered(task, status, stream.asked);
  }

  /** Any answer about a task, on any way. */
  answered(task: Task, status: Status, asked: Asked) {
    const { facts } = this;
    this.stays(task, status, asked);
    if (status.state !== 'done') this.cameSoon(task, 0, asked.at);
    const known = facts.truth[task.partition]?.entries[task.offset];
    if (!known) return facts.fail('outcome_true', `${show(task)} is not in the log`);
    const { verdict } = known;
    const holder = holderOf(verdict);
    const mine = holder && holder.key === task.key ? holder : undefined;
    switch (status.state) {
      case 'accepted':
        return;
      case 'reserved':
        return this.expect(
          mine?.slot === status.slot,
          'reserved_true',
          () => `${show(task)} is told ${show(status)}, won was ${show(holder)}`,
        );
      case 'set_aside': {
        const was = mine !== undefined && facts.asideEver[task.partition]?.has(mine.offset) === true;
        return this.expect(was, 'set_aside_true', () => `${show(task)} is told that it is set aside`);
      }
      case 'done': {
        const [told, ought] = [wordOf(status), endOf(known)];
        this.expect(told === ought, 'outcome_true', () => `${show(task)} is told ${told}, decided was ${ought}`);
        if (told === ought && holder && holder.slot === (status as { slot?: number }).slot)
          this.hasRow(task.couponId, holder, asked.at);
      }
    }
  }

  /** `at`: when a stream made at `from` was told its outcome, or when a question came that was not told it. */
  private cameSoon(task: Task, from: number, at: number): void {
    const { facts } = this;
    const { partition, offset } = task;
    const entry = facts.truth[partition]?.entries[offset];
    const holder = entry && holderOf(entry.verdict);
    if (holder && facts.asideEver[partition]?.has(holder.offset)) return;
    // Most losers hear sooner, and nobody has to: the push of the commit is for all that it covers.
    const storedAt = facts.storedAt[partition]?.[offset] ?? Number.POSITIVE_INFINITY;
    const ms = at - Math.max(from, storedAt, this.faultsUntil);
    this.expect(ms <= this.soonMs, 'told_soon', () => `${show(task)} is not told after ${ms} ms`);
  }

  private stays({ partition, offset, ...task }: Task, status: Status, { name, at: sentAt }: Asked): void {
    const id = `${name} ${partition} ${offset}`;
    const toldAt = this.outcomeAt.get(id);
    if (toldAt === undefined) {
      if (status.state === 'done') this.outcomeAt.set(id, this.facts.now);
      return;
    }
    const mayBe = status.state === 'done' || toldAt >= sentAt || this.forgets;
    // Who answers without the ledger has only the store, which need not be as far as who lost.
    const hasWon = this.facts.truth[partition]?.entries[offset]?.verdict.kind === 'won';
    const isAgain = status.state === 'accepted' && (!hasWon || this.wasBehind({ ...task, sentAt }));
    this.expect(mayBe || isAgain, 'outcome_stays', () => `${id} had its outcome at ${toldAt}, and is ${show(status)}`);
  }

  private hasRow(couponId: string, winner: Winner, sentAt: number): void {
    const { facts } = this;
    const id = rowId({ couponId: couponId as CouponId, userId: winner.userId as UserId, slot: winner.slot });
    const partition = facts.partitionOf(couponId);
    // Until persist looks, which it does every second, a board tells what a store that went back has lost.
    const ahead = facts.boardAhead[partition] as Spell;
    const mayBeLost = ahead.now || ahead.until >= sentAt;
    const rows = mayBeLost ? facts.rowsEver : facts.rowsNow[partition];
    const reached = winner.offset < (facts.checkpointMax[partition] as number);
    this.expect(rows?.has(id) === true && reached, 'issued_has_row', () => `${id} is shown and has no committed row`);
  }

  private aheadIsTrue(partition: number, offset: number, ahead: number | undefined): void {
    const next = this.facts.nextMax[partition] as number;
    this.expect(
      ahead === undefined || offset - ahead <= next,
      'ahead_true',
      () => `${ahead} ahead of ${offset} with ${next} decided`,
    );
  }

  created(couponId: string, created: Created): void {
    if (created.kind !== 'created' && created.kind !== 'existed') return;
    const isOpened = this.facts.truthOf(couponId).sales.has(couponId);
    this.expect(isOpened, 'operator_true', () => `${couponId} is created and not opened in the log`);
  }

  stocked(couponId: string, key: string, stocked: Stocked): void {
    const { facts } = this;
    const truth = facts.truthOf(couponId);
    const change = truth.sales.get(couponId)?.changes.find(each => each.key === key);
    if (stocked.kind === 'stocked') {
      this.expect(
        change !== undefined && stocked.view.stock >= change.stock,
        'operator_true',
        () => `${couponId} is said to be restocked`,
      );
      if (change) facts.restocked.push({ couponId, offset: change.offset, at: facts.now });
    } else if (stocked.kind === 'closed' || stocked.kind === 'too_much') {
      this.expect(
        change === undefined,
        'operator_true',
        () => `${couponId} is said to be ${stocked.kind}, and was restocked at ${change?.offset}`,
      );
    }
  }

  closed(couponId: string, closed: Closed): void {
    if (closed.kind !== 'closed') return;
    const terms = this.terms(couponId);
    this.expect(terms === undefined || terms.closed, 'operator_true', () => `${couponId} is said to be closed`);
  }

  /** The coupon as it was asked for: its window is never another, from the row on. */
  private asked(couponId: string) {
    return this.plan.coupons.find(coupon => coupon.couponId === couponId);
  }

  private terms(couponId: string) {
    return this.facts.truthOf(couponId).sales.get(couponId)?.changes.at(-1);
  }

  private expect: Facts['expect'] = (holds, check, detail) => this.facts.expect(holds, check, detail);
}

/** The words of `endOf`. */
function wordOf(status: Extract<Status, { state: 'done' }>): string {
  switch (status.outcome) {
    case 'issued':
    case 'duplicated':
      return `${status.outcome} ${status.slot}`;
    case 'inactive':
    case 'refused':
      return status.reason;
  }
}

const show = (what: Task | Known | Status | Winner | undefined): string => JSON.stringify(what);
