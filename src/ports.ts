/**
 * The contracts between the core and what it stands on. Every adapter passes the conformance suite of its port
 * (test/conformance) against the real thing.
 *
 * Errors, for all ports: `Unavailable` when the server does not answer (nothing is known to have happened, repeating
 * is safe unless a method says otherwise), `Alarm` when going on would do harm. Anything else thrown is a defect.
 */
import type { CouponBody, CouponId, CouponRow, Millis, RequestKey, UserCouponRow, UserId } from './coupon.ts';
import type { Change, Located, LogEntry, LogName, SaleChanged, Won } from './entry.ts';
import type { View } from './outcome.ts';
import type { Counts, Frontier, HolderList, Phase, SaleChange } from './sale.ts';

// ---------------------------------------------------------------------------------------------------------------
// EventLog: durable, ordered by partition, never rewritten.
// ---------------------------------------------------------------------------------------------------------------

export interface ReadBatch {
  entries: LogEntry[];
  /** Where the next read goes on: `from` when there was nothing; it may be greater although no entries are for us. */
  next: number;
  /** End of the partition at the time of the read: `end - next` entries are still to come. */
  end: number;
}

export interface Assignment {
  /** Stops reading for this group; partitions go to others. */
  close(): Promise<void>;
}

export interface EventLog {
  /** Names this log among all logs: a topic made anew, or another cluster, has another identity. */
  readonly identity: string;
  readonly partitions: number;
  /** Appends of a partition that may be out at once without losing the order of the calls; 1 when absent. */
  readonly appendsMax?: number;
  /** Characters of an append of changes or dead letters that is of more than one value; `limits` when absent. */
  readonly appendCharactersMax?: number;
  /**
   * Appends in the order given and resolves with the offset of the first once all are durable: value i is at base + i.
   * The caller keeps at most `appendsMax` in flight a partition. `values` is not empty.
   * @throws NotAccepted: surely none is in the log. @throws OutcomeUnknown: some may be. A repeat appends again.
   * @throws Alarm: the log was made anew.
   */
  append(
    log: LogName,
    partition: number,
    values: readonly string[],
    keys?: readonly string[],
    /** What the values say, one each, for a log that keeps its last entries in memory: they need no decoding there. */
    changes?: readonly Change[],
  ): Promise<number>;
  /**
   * Entries from `from` on, at most `max`, waiting up to `waitMs` for the first. An empty answer is no error.
   * @throws Alarm when `from` lies before the beginning or beyond the end: the log was cut.
   */
  read(
    log: LogName,
    partition: number,
    from: number,
    max: number,
    waitMs: number,
    signal?: AbortSignal,
  ): Promise<ReadBatch>;
  /** The offset that the next entry will get. */
  end(log: LogName, partition: number): Promise<number>;
  /**
   * Present on a queue: entries are gone from it once they were read. Answers how many of a log are not handled, as
   * far as this process can know: those in the queue, and those of its last read until a read begins behind them.
   *
   * A queue keeps the order and never gives an offset twice. What it cannot promise, and others owe:
   * - Entries that a process has read and not handled die with it. A read goes on behind them; in the process itself
   *   the last read is kept, so that a batch that failed can be tried again.
   * - A read from an older offset gives nothing that was read before: no answers from the record after a restart, no
   *   second reader beside the first (statistics, a stage of a user's own), no `verify`. Whoever reads is alone.
   * - Nothing tells a queue that was cut from one that was read: no alarm, and the last entry cannot be compared.
   * - 202 is as durable as the server that holds the queue.
   * So a request may stay `accepted`, a winner's slot be lost, and what an operator was answered (an opening, more stock,
   * a close) be undone, for ever: a coupon whose opening died has its rows and is unknown to everybody else. What holds
   * all the same: never more winners than stock, never two coupons of one user, `issued` never without its row. The
   * ledger is rebuilt from the rows by each process that begins, once every change that is left has been stored: slots
   * of winners that died are free again where nothing behind them was stored, and lost with them where something was
   * (lost-slots.ts). What a loser was shown may then not hold: it lost against a winner that died before it was stored.
   */
  unhandled?(log: LogName, partition: number): Promise<number>;
  /**
   * Takes part in the group's sharing of `log`'s partitions: `assigned` and `revoked` say who reads what. It is no
   * fence: two members may for a while believe they own the same partition. Resolves at once; joining goes on for
   * ever in the background. The callbacks must not throw.
   */
  assign(
    group: string,
    log: LogName,
    on: { assigned(partition: number): void; revoked(partition: number): void },
  ): Promise<Assignment>;
  /** Notes a group's place in the log's own books for lag tools. Nothing is decided from it; failures are ignored. */
  commit(group: string, log: LogName, partition: number, next: number): Promise<void>;
  /** Whether appends are likely to be taken now. Never throws. */
  reachable(): boolean;
  close(): Promise<void>;
}

// ---------------------------------------------------------------------------------------------------------------
// StockLedger: the fold's state, one a partition. A cache: it may be lost or rolled back at any time.
// ---------------------------------------------------------------------------------------------------------------

/** Where the ledger of one partition is. `next` is its offsetNext: decided; `told`: known to be in the change log. */
export interface LedgerPlace extends Frontier {
  told: number;
  /** Identity of the log it was folded from. */
  identity: string;
  /** Which build of the state this is; a rebuild makes a new one. */
  build: string;
}

/** What a rebuild starts from: the store's fold as of `frontier.next`, in one snapshot. */
export interface Snapshot {
  frontier: Frontier;
  sales: { couponId: CouponId; changes: SaleChange[]; counts: Counts }[];
  malformed: number[];
  /**
   * Holders of all sales, set-aside winners too, a user once: as many as slots are taken. Each coupon's may come in
   * several chunks, those with a row first. May be iterated again.
   */
  holders: AsyncIterable<{ couponId: CouponId; holders: HolderList }>;
}

export type Place =
  | ({ kind: 'present' } & LedgerPlace)
  /** No state: not zero and not full. */
  | { kind: 'missing' };

export type Applied =
  | {
      kind: 'applied';
      /** What the entries changed, recorded or new, in the order of the entries. */
      changes: (Won | SaleChanged)[];
      /** The fold as of `next` with totals of the coupons named; null when the ledger is already beyond `next`. */
      frontier: (Frontier & { counts: Record<string, Counts> }) | null;
      /** How many of the entries were decided now, not answered from the record. */
      decided: number;
    }
  /** `from` lies beyond the ledger's next: go back to the smaller of both places. */
  | { kind: 'gap'; next: number; told: number }
  | { kind: 'missing' }
  /** Slots taken differ from the number of holders, or another build than expected is there. */
  | { kind: 'damaged'; why: string };

export interface ApplyBatch {
  from: number;
  next: number;
  /** entryHash of the last entry before `next`. */
  hash: string;
  entries: readonly Located[];
  /** Coupons whose totals the frontier must name besides those of the entries. */
  alsoCount: readonly string[];
}

export interface LedgerQuery {
  couponId: CouponId;
  userId: UserId;
  offset: number;
}

/** Ledger's part of a View; `missing` and damaged states give none. `clock` is the partition's at the time of the read. */
export type LedgerView = Pick<View, 'next' | 'holder' | 'changes' | 'malformed' | 'inHand'> & { clock: Millis };

/** One coupon's side of the fold. `next` and `clock` are the partition's at the time of the read. */
export interface SaleView {
  next: number;
  clock: Millis;
  taken: number;
  phase: Phase;
  changes: SaleChange[];
}

export interface LedgerReader {
  /**
   * Answers of one consistent read, in the order of the queries; undefined where the state is missing or damaged.
   * `changes` is empty for a coupon without state. At most `statusBatchMax` queries.
   */
  read(partition: number, queries: readonly LedgerQuery[]): Promise<(LedgerView | undefined)[]>;
  /** Sales of these coupons; those that have no state, or whose partition has none, are left out. */
  sales(wanted: readonly { couponId: CouponId; partition: number }[]): Promise<Map<CouponId, SaleView>>;
}

export interface StockLedger extends LedgerReader {
  place(partition: number): Promise<Place>;
  /**
   * Decides entries from `batch.from` to `batch.next`; what lies before the ledger's next is answered from the record.
   * A repeat gives the same changes. After an error the batch may have been applied: repeat it.
   */
  apply(partition: number, build: string, batch: ApplyBatch): Promise<Applied>;
  /** Moves told to max(told, next), only if from <= told and next <= the ledger's next; answers the place of told, or undefined when refused. */
  told(partition: number, build: string, from: number, next: number): Promise<number | undefined>;
  /**
   * Makes the snapshot the state, under a new build id, unless something else than `replaces` (a build id, or
   * undefined for nothing) is there by then. `next` and `told` are the snapshot's next. Answers the place that is
   * there afterwards, ours or the other's.
   */
  rebuild(partition: number, identity: string, snapshot: Snapshot, replaces: string | undefined): Promise<Place>;
  close(): Promise<void>;
}

// ---------------------------------------------------------------------------------------------------------------
// CouponStore: rows. The truth about what users own, and the whole fold as of checkpoint.next.
// ---------------------------------------------------------------------------------------------------------------

/** Persist's place in the change log, and the request log's frontier that the rows are complete up to. */
export interface Checkpoint extends Frontier {
  changeNext: number;
  /** entryHash of the change before changeNext; empty at the beginning. */
  changeHash: string;
}

/** Something the road could not carry on, kept with its reason. Identified by log, partition and offset. */
export interface SetAside {
  log: LogName;
  partition: number;
  /** In `coupon-issued`: the request's offset. In `coupon-issued-success`: that of a change that cannot be read. */
  offset: number;
  couponId: CouponId | null;
  userId: UserId | null;
  slot: number | null;
  key: RequestKey | null;
  at: Millis;
  /** `malformed: why` and `unreadable: why` can never be redriven; `refused_by_store: why` can. */
  reason: string;
  /** The bytes of the entry (request or change) as text; base64 when they are not UTF-8. */
  bytes: string;
}

export interface SetAsideFilter {
  partition?: number;
  couponId?: CouponId;
  /** Only winners that the store refused. */
  winners?: boolean;
  limit: number;
}

/** One persist transaction, already planned: see persist.ts. */
export interface StoreBatch {
  /** The transaction goes on only if the stored changeNext is this. */
  expectChangeNext: number;
  /** What the checkpoint becomes. */
  checkpoint: Checkpoint;
  won: Won[];
  sales: SaleChanged[];
  setAside: SetAside[];
  /** Totals to store, by coupon. */
  counts: Record<string, Counts>;
}

export type Committed =
  | {
      kind: 'committed';
      /** Users' rows that are new. */
      inserted: number;
      /** Winners that the store refused for good, now set aside; one refused again is listed again. */
      refused: SetAside[];
      /** Offsets (of the request log) that were set aside and have their row now. */
      restored: number[];
    }
  /** Another process moved the checkpoint: go on from there. */
  | { kind: 'moved'; checkpoint: Checkpoint };

export interface Identity {
  log: string;
  /** Sealer's fingerprint of the secret. */
  secret: string;
}

export interface SeriesPoint {
  /** Start of the second, ms since 1970 by the log's clock. */
  second: Millis;
  /** Totals as of the end of this second. */
  issued: number;
  counts: Counts;
}

export interface SaleStats {
  firstWonAt: Millis | null;
  lastWonAt: Millis | null;
  issued: number;
  counts: Counts;
  /** Newest last; at most the seconds asked for. */
  series: SeriesPoint[];
}

/** What the stats stage adds to what is stored: maxima and minima only, so that a repeat changes nothing. */
export interface StatsUpdate {
  couponId: CouponId;
  second: Millis;
  issued: number;
  counts: Counts | null;
  firstWonAt: Millis | null;
  lastWonAt: Millis | null;
}

/** The last row of a page. No two of a user are the same in both. */
export type PageEnd = Pick<UserCouponRow, 'issuedAt' | 'couponId'>;

export interface UserCouponPage {
  items: UserCouponRow[];
  /** Give it back as `after`; undefined on the last page. */
  next: PageEnd | undefined;
}

export type Redeemed =
  | { kind: 'redeemed'; row: UserCouponRow }
  | { kind: 'unknown' }
  | { kind: 'already'; row: UserCouponRow }
  | { kind: 'expired'; row: UserCouponRow };

export interface CouponReader {
  coupons(ids: readonly CouponId[]): Promise<CouponRow[]>;
  /** All coupons, newest first. */
  listCoupons(limit: number): Promise<CouponRow[]>;
  checkpoint(partition: number): Promise<Checkpoint>;
  /** Views as of the checkpoint, from one snapshot, in the order of the queries: the answer while the ledger is away. */
  read(partition: number, queries: readonly LedgerQuery[]): Promise<View[]>;
  /** A user's coupons below the checkpoint's next, newest first, from the beginning or behind a page's end. */
  userCoupons(userId: UserId, limit: number, after?: PageEnd): Promise<UserCouponPage>;
  /** Everything set aside, oldest first. */
  setAside(filter: SetAsideFilter): Promise<SetAside[]>;
  stats(couponId: CouponId, seconds: number, now: Millis): Promise<SaleStats>;
  /** Rows of one coupon in order of slot, for verify: chunks. */
  rows(couponId: CouponId): AsyncIterable<UserCouponRow[]>;
  /** The fold as of the checkpoint: one repeatable-read snapshot for as long as `use` runs. */
  withSnapshot<T>(partition: number, use: (snapshot: Snapshot) => Promise<T>): Promise<T>;
  place(stage: string, partition: number): Promise<number>;
}

export interface CouponStore extends CouponReader {
  /** Notes whose rows these are, or compares. @throws Refused naming what differs. */
  claim(identity: Identity): Promise<void>;
  /** The row that is there afterwards; `created` when it is ours. The caller compares the body. */
  createCoupon(row: {
    couponId: CouponId;
    partition: number;
    body: CouponBody;
    createdAt: Millis;
  }): Promise<{ row: CouponRow; created: boolean }>;
  /**
   * One transaction: lock and compare the checkpoint, sale changes, rows, set-aside, totals, checkpoint. After an
   * error it may have been committed: read the checkpoint and go on from there.
   * Rows that are there with the same slot, user and offset are repeats; every other refusal of the store that
   * repeating cannot cure is found by halving and set aside.
   */
  commit(partition: number, batch: StoreBatch): Promise<Committed>;
  /** Once: a second time, or after `validUntil`, says so. `now` is the caller's clock. */
  redeem(userId: UserId, couponId: CouponId, slot: number, now: Millis): Promise<Redeemed>;
  saveStats(updates: readonly StatsUpdate[]): Promise<void>;
  /**
   * Moves a stage's place from `from` to `next`, only if it is at `from`; answers the place that is there afterwards.
   * After an error it may have been moved: read it and go on from there.
   */
  savePlace(stage: string, partition: number, from: number, next: number): Promise<number>;
  close(): Promise<void>;
}

// ---------------------------------------------------------------------------------------------------------------
// OutcomeBoard: what is committed, shared by all instances, and the wake-up of those who wait.
// ---------------------------------------------------------------------------------------------------------------

export interface Hint {
  partition: number;
  /** Everything before it is decided and told. */
  decidedNext?: number;
  /** Everything before it is in the store. */
  committedNext?: number;
}

export interface BoardView {
  changeNext: number;
  committedNext: number;
  /** Those of the offsets asked for whose winner's row is set aside. */
  setAside: Set<number>;
}

/** All that a board says of one partition. */
export interface BoardContent {
  changeNext: number;
  committedNext: number;
  /** Request offsets of winners set aside. */
  setAside: readonly number[];
}

export interface BoardUpdate {
  /** The board's changeNext that this update builds on; a board that is elsewhere answers `behind`. */
  base: number;
  changeNext: number;
  committedNext: number;
  /** Request offsets of winners set aside, and of those that have their row now. */
  added: readonly number[];
  removed: readonly number[];
}

export interface OutcomeBoard {
  /**
   * Writes set-aside and committedNext together, then wakes subscribers. `ok` also when the board has a greater
   * changeNext (nothing is written); `behind` when it is not at `base`: restore it.
   */
  commit(partition: number, update: BoardUpdate): Promise<'ok' | 'behind'>;
  /**
   * The whole of it, ignored if the board has a greater or equal changeNext, unless that is `replaces`: a board that
   * is ahead of the store, which went back, is put right by it.
   */
  restore(partition: number, all: BoardContent, replaces?: number): Promise<void>;
  /** Undefined when the board has nothing for this partition. */
  read(partition: number, offsets: readonly number[]): Promise<BoardView | undefined>;
  /** Wakes subscribers: losers of this range may be told. */
  announce(partition: number, decidedNext: number): Promise<void>;
  /** `hint` is only that; `broken` says that hints may have been missed. */
  subscribe(on: { hint(hint: Hint): void; broken(): void }): Promise<{ close(): Promise<void> }>;
  close(): Promise<void>;
}
