/**
 * The front door: filter, append, answer with a place in the log. The filter only reads and refuses only who cannot
 * win; the answer comes only once the log has acknowledged. While one call is out the others queue, and go together
 * when it returns; only after a large batch the next is given a moment to grow.
 */
import type { CouponId, CouponRow, Millis, RequestKey, UserId } from './coupon.ts';
import { encodeRequest, requestLog } from './entry.ts';
import { messageOf, NotAccepted } from './errors.ts';
import { type Host, randomKey } from './host.ts';
import { Latch } from './latch.ts';
import {
  acceptQueueMax,
  appendAnswerMsMax,
  appendBatchMax,
  filterBatchMax,
  filterGatherBatchMin,
  filterGatherMs,
  filterMsMax,
  filterPauseMs,
} from './limits.ts';
import { LogClock } from './log-clock.ts';
import type { Log, Metrics } from './metrics.ts';
import type { CouponReader, EventLog, LedgerReader, LedgerView, OutcomeBoard } from './ports.ts';
import { within } from './retry.ts';
import type { Holder } from './sale.ts';
import { seldom } from './seldom.ts';
import { aheadOf } from './status.ts';
import type { Task } from './task.ts';

export type Answer =
  /** Durable in the log. `ahead`: at most so many entries are in front. */
  | { kind: 'accepted'; task: Task; ahead: number | undefined }
  /** The same Idempotency-Key has won: this is its task. */
  | { kind: 'won_before'; task: Task; holder: Holder }
  | Refusal;

export type Refusal =
  | { kind: 'refused'; code: 'UNKNOWN_COUPON' }
  | { kind: 'refused'; code: 'INACTIVE_COUPON'; reason: 'not_open'; opensAt: Millis; waitMs: number }
  | { kind: 'refused'; code: 'INACTIVE_COUPON'; reason: 'sold_out' | 'closed' }
  | { kind: 'refused'; code: 'DUPLICATED_COUPON'; slot: number }
  | NotAppended;

/** The log surely holds no entry, or did not say. */
export interface NotAppended {
  kind: 'refused';
  code: 'NOT_ACCEPTED' | 'OUTCOME_UNKNOWN';
}

const unknownCoupon: Refusal = { kind: 'refused', code: 'UNKNOWN_COUPON' };
const notAccepted: NotAppended = { kind: 'refused', code: 'NOT_ACCEPTED' };
const outcomeUnknown: NotAppended = { kind: 'refused', code: 'OUTCOME_UNKNOWN' };
export const inactive = {
  sold_out: { kind: 'refused', code: 'INACTIVE_COUPON', reason: 'sold_out' },
  closed: { kind: 'refused', code: 'INACTIVE_COUPON', reason: 'closed' },
} as const satisfies Record<string, Refusal>;

export interface DoorTools {
  log: EventLog;
  ledger: LedgerReader;
  board: Pick<OutcomeBoard, 'read'>;
  store: Pick<CouponReader, 'coupons'>;
  host: Host;
  metrics: Metrics;
  say: Log;
}

interface Waiting {
  couponId: CouponId;
  userId: UserId;
  key: RequestKey;
  /** The client sent no key: it repeats nothing that was accepted. */
  isNew: boolean;
  coupon: CouponRow;
  /** The ledger's next as the filter saw it. */
  next: number | undefined;
  resolve(answer: Answer): void;
}

/** An entry on its way into the log. */
interface Outgoing {
  value: string;
  couponId: CouponId;
  appended(offset: number): void;
  failed(refusal: NotAppended): void;
}

/** What waits in this process, and goes in one read or one append, at most. */
export const doorBounds = { acceptQueueMax, filterBatchMax, appendBatchMax };

type Lookups = Map<CouponId, PromiseWithResolvers<CouponRow | undefined>>;

export class FrontDoor {
  readonly latch: Latch;
  readonly clock: LogClock;
  private readonly tools: DoorTools;
  private readonly bounds: typeof doorBounds;
  private readonly known = new Map<string, CouponRow>();
  private readonly lanes: AppendLane[];
  private unfiltered: Waiting[] = [];
  private filtering = false;
  private filterPausedUntil = 0;
  /** Who waits for the next look-up, and for the one that is out. */
  private readonly lookups: Lookups = new Map();
  private lookedUp: Lookups = new Map();
  private lookingUp = false;
  private queued = 0;

  constructor(tools: DoorTools, bounds = doorBounds) {
    this.tools = tools;
    this.bounds = bounds;
    this.latch = new Latch(tools);
    this.clock = new LogClock(tools.host);
    const lane = (_: unknown, partition: number) => new AppendLane(partition, tools, this.clock, bounds.appendBatchMax);
    this.lanes = Array.from({ length: tools.log.partitions }, lane);
  }

  stop(): void {
    this.latch.stop();
  }

  /** Requests and entries that were taken in and have no answer yet. */
  get pending(): number {
    return this.queued;
  }

  /** One press of the button. `key` is there when the client sent one. Rejects with Unavailable only for a coupon it never saw. */
  issue(couponId: CouponId, userId: UserId, key: RequestKey | undefined): Promise<Answer> {
    const coupon = this.known.get(couponId);
    return coupon ? this.press(coupon, userId, key) : this.pressFirst(couponId, userId, key);
  }

  private async pressFirst(couponId: CouponId, userId: UserId, key: RequestKey | undefined): Promise<Answer> {
    const coupon = await this.firstSeen(couponId);
    if (!coupon) return unknownCoupon;
    return 'kind' in coupon ? coupon : this.press(coupon, userId, key);
  }

  private press(coupon: CouponRow, userId: UserId, key: RequestKey | undefined): Promise<Answer> {
    return new Promise(resolve => {
      const refusal = this.refuseNow(coupon, key);
      if (refusal) {
        resolve(refusal);
        return;
      }
      this.latch.watch(coupon);
      this.queued++;
      const settle = (answer: Answer) => {
        this.queued--;
        resolve(answer);
      };
      const { couponId } = coupon;
      const [isNew, k] = [key === undefined, key ?? randomKey(this.tools.host)];
      this.unfiltered.push({ couponId, userId, key: k, isNew, coupon, next: undefined, resolve: settle });
      if (!this.filtering) {
        this.filtering = true;
        // Whatever this turn of the event loop still reads goes along.
        this.tools.host.soon(() => void this.filter());
      }
    });
  }

  /** What can be said without reading anything. */
  private refuseNow(coupon: CouponRow, key: RequestKey | undefined): Refusal | undefined {
    // One with a key may be a retry of a win, so it goes on to the holders.
    if (key === undefined) {
      const shut = this.latch.shut(coupon.couponId);
      if (shut) return inactive[shut];
      // Where the phase is not known it may be closed before it opens: the filter reads it.
      const isUnopened = this.latch.phase(coupon.couponId) === 'not_open';
      const early = isUnopened ? this.early(coupon, false) : undefined;
      if (early) return early;
    }
    // Partitions were added since this process was started: others may know it.
    const isElsewhere = this.lanes[coupon.partition] === undefined;
    return isElsewhere || this.queued >= this.bounds.acceptQueueMax || !this.tools.log.reachable()
      ? notAccepted
      : undefined;
  }

  /** Appends an operator's entry in order with the requests; answers its offset. */
  append(coupon: CouponRow, value: string): Promise<number | NotAppended> {
    const lane = this.lanes[coupon.partition];
    if (!lane) return Promise.resolve(notAccepted);
    return new Promise(resolve => {
      this.queued++;
      const settle = (answer: number | NotAppended) => {
        this.queued--;
        resolve(answer);
      };
      lane.push({ value, couponId: coupon.couponId, appended: settle, failed: settle });
    });
  }

  /** The row of a coupon, from memory once it was seen: what is asked of it here never changes. */
  async coupon(couponId: CouponId): Promise<CouponRow | undefined> {
    return this.known.get(couponId) ?? this.lookUp(couponId);
  }

  /** A row that was read, by whomever, is found for all who wait for it, so that nobody who comes later overtakes. */
  know(row: CouponRow): void {
    this.known.set(row.couponId, row);
    this.lookedUp.get(row.couponId)?.resolve(row);
    this.lookups.get(row.couponId)?.resolve(row);
    this.lookups.delete(row.couponId);
  }

  /** Requests for a coupon that this process has not seen wait together for one look-up, in order, and bounded. */
  private async firstSeen(couponId: CouponId): Promise<CouponRow | NotAppended | undefined> {
    if (this.queued >= this.bounds.acceptQueueMax) return notAccepted;
    this.queued++;
    try {
      return await this.coupon(couponId);
    } finally {
      this.queued--;
    }
  }

  private lookUp(couponId: CouponId): Promise<CouponRow | undefined> {
    let wanted = this.lookups.get(couponId);
    if (!wanted) {
      wanted = Promise.withResolvers<CouponRow | undefined>();
      this.lookups.set(couponId, wanted);
      if (!this.lookingUp) {
        this.lookingUp = true;
        queueMicrotask(() => void this.lookUpAll());
      }
    }
    return wanted.promise;
  }

  /** Who asks while a read is out waits for the next one: the coupon may have been created since that was sent. */
  private async lookUpAll(): Promise<void> {
    while (this.lookups.size > 0) {
      this.lookedUp = new Map([...this.lookups].slice(0, this.bounds.filterBatchMax));
      for (const id of this.lookedUp.keys()) this.lookups.delete(id);
      try {
        for (const row of await this.tools.store.coupons([...this.lookedUp.keys()])) this.know(row);
        for (const { resolve } of this.lookedUp.values()) resolve(undefined);
      } catch (error) {
        for (const { reject } of this.lookedUp.values()) reject(error);
      }
    }
    this.lookingUp = false;
  }

  /** Whether the log's clock is surely before the opening. */
  private early({ body: { opensAt }, partition }: CouponRow, asks: boolean): Refusal | undefined {
    if (opensAt === null) return undefined;
    const waitMs = this.clock.msBefore(partition, opensAt, asks);
    if (waitMs === undefined) return undefined;
    return { kind: 'refused', code: 'INACTIVE_COUPON', reason: 'not_open', opensAt, waitMs };
  }

  private async filter(): Promise<void> {
    while (this.unfiltered.length > 0) {
      const batch = this.unfiltered.splice(0, this.bounds.filterBatchMax);
      try {
        if (this.tools.host.elapsed() >= this.filterPausedUntil) await this.filterBatch(batch);
        else this.sendUnread(batch);
      } catch (error) {
        // The filter is advice: without it everyone who was not answered yet goes to the log.
        this.filterPausedUntil = this.tools.host.elapsed() + filterPauseMs;
        this.tools.say('debug', `filter off: ${messageOf(error)}`);
        this.sendUnread(batch);
      }
      if (this.mayGrow(batch.length)) await this.tools.host.delay(filterGatherMs);
    }
    this.filtering = false;
  }

  /** What memory alone tells: a crowd before its opening would fill the log while the ledger is away. */
  private sendUnread(batch: readonly Waiting[]): void {
    for (const request of batch) {
      const early = request.isNew ? this.early(request.coupon, true) : undefined;
      if (early) request.resolve(early);
      else this.send(request);
    }
  }

  private mayGrow(last: number): boolean {
    return !this.tools.log.appendsMax && last >= filterGatherBatchMin && this.unfiltered.length < last;
  }

  private async filterBatch(batch: Waiting[]): Promise<void> {
    const byPartition = Map.groupBy(batch, request => request.coupon.partition);
    const reads = [...byPartition].map(async ([partition, requests]) => {
      const queries = requests.map(({ couponId, userId }) => ({ couponId, userId, offset: 0 }));
      const views = await this.tools.ledger.read(partition, queries);
      return { partition, requests, views, board: await this.boardOf(partition, views) };
    });
    const answers = await within(Promise.all(reads), filterMsMax, 'the filter', this.tools.host);
    this.tools.metrics.observe('batch_size', batch.length, 'filter');
    for (const { partition, requests, views, board } of answers) {
      const [first] = views;
      if (first) this.clock.seen(partition, first.next, first.clock);
      requests.forEach((request, i) => {
        const view = views[i];
        request.next = view?.next;
        const refusal = view && this.judge(request, partition, view, board);
        if (refusal) request.resolve(refusal);
        else this.send(request);
      });
    }
  }

  /** Only for those who hold the coupon: whether their row is committed. */
  private async boardOf(partition: number, views: (LedgerView | undefined)[]) {
    const offsets = views.flatMap(view => (view?.holder ? [view.holder.offset] : []));
    return offsets.length === 0 ? undefined : this.tools.board.read(partition, offsets);
  }

  private judge(
    request: Waiting,
    partition: number,
    { holder, inHand, changes, clock }: LedgerView,
    board: Awaited<ReturnType<OutcomeBoard['read']>>,
  ): Answer | undefined {
    const { couponId, userId, key, coupon } = request;
    if (holder) {
      const committed = board && !inHand && holder.offset < board.committedNext && !board.setAside.has(holder.offset);
      if (!committed) return undefined;
      if (holder.key !== key) return { kind: 'refused', code: 'DUPLICATED_COUPON', slot: holder.slot };
      return { kind: 'won_before', task: { couponId, userId, partition, offset: holder.offset, key }, holder };
    }
    const { closesAt } = coupon.body;
    const phase = changes.at(-1)?.phase;
    if (phase === 'closed') return inactive.closed;
    const early = this.early(coupon, true);
    if (early) return early;
    // The clock of a partition never goes back: what comes after this place comes too late.
    if (phase !== undefined && closesAt !== null && clock >= closesAt) return inactive.closed;
    return phase === 'sold_out' ? inactive.sold_out : undefined;
  }

  private send(request: Waiting): void {
    const { couponId, userId, key, coupon, next, resolve } = request;
    const { partition } = coupon;
    // `refuseNow` lets nobody in whose partition has none.
    (this.lanes[partition] as AppendLane).push({
      value: encodeRequest(couponId, userId, key),
      couponId,
      appended: offset =>
        resolve({
          kind: 'accepted',
          task: { couponId, userId, partition, offset, key },
          ahead: aheadOf(offset, next),
        }),
      failed: resolve,
    });
  }
}

/**
 * One partition's way into the log: one append in flight (more where the log itself keeps the order of the calls), the
 * others queue behind it in order of arrival.
 */
class AppendLane {
  private readonly partition: number;
  private readonly tools: Pick<DoorTools, 'log' | 'host' | 'metrics' | 'say'>;
  private readonly clock: LogClock;
  private readonly batchMax: number;
  private queue: Outgoing[] = [];
  private pumping = false;
  private flying = 0;
  /** Appends that were handed over and of which the log says nothing: nothing new is taken in until it speaks. */
  private silent = 0;
  private readonly saySilent: Log;
  private readonly sayFailed: Log;

  constructor(
    partition: number,
    tools: Pick<DoorTools, 'log' | 'host' | 'metrics' | 'say'>,
    clock: LogClock,
    batchMax: number,
  ) {
    this.partition = partition;
    this.tools = tools;
    this.saySilent = seldom(tools.say, tools.host);
    this.sayFailed = seldom(tools.say, tools.host);
    this.clock = clock;
    this.batchMax = batchMax;
  }

  push(outgoing: Outgoing): void {
    if (this.silent > 0) {
      outgoing.failed(notAccepted);
      return;
    }
    this.queue.push(outgoing);
    if (this.pumping) return;
    this.pumping = true;
    queueMicrotask(() => this.pump());
  }

  private pump(): void {
    this.pumping = false;
    while (this.queue.length > 0 && this.flying < (this.tools.log.appendsMax ?? 1)) {
      this.flying++;
      void this.append(this.queue.splice(0, this.batchMax));
    }
  }

  private async append(batch: Outgoing[]): Promise<void> {
    const { log, host, metrics } = this.tools;
    let answered = false;
    const spoke = host.after(appendAnswerMsMax, () => {
      answered = true;
      this.silent++;
      this.saySilent('warn', 'the log is silent: refusing new requests', { partition: this.partition });
      for (const outgoing of batch) outgoing.failed(outcomeUnknown);
      for (const outgoing of this.queue.splice(0)) outgoing.failed(notAccepted);
    });
    const startedAt = host.elapsed();
    try {
      const base = await log.append(
        requestLog,
        this.partition,
        batch.map(o => o.value),
        batch.map(o => o.couponId),
      );
      metrics.observe('batch_size', batch.length, 'append');
      this.clock.appended(this.partition, base, startedAt);
      metrics.observe('batch_ms', host.elapsed() - startedAt, 'append');
      if (!answered) for (let i = 0; i < batch.length; i++) (batch[i] as Outgoing).appended(base + i);
    } catch (error) {
      this.sayFailed('warn', `append failed: ${messageOf(error)}`, { partition: this.partition });
      const refusal = error instanceof NotAccepted ? notAccepted : outcomeUnknown;
      if (!answered) for (const outgoing of batch) outgoing.failed(refusal);
    } finally {
      spoke();
      if (answered) this.silent--;
      this.flying--;
      this.pump();
    }
  }
}
