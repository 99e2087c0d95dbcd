/** What happened in a run, as far as a check asks for it, and the first check that failed. */
import type { UserCouponRow } from '../../src/coupon.ts';
import type { Life, Scheduler } from '../scheduler.ts';
import { TruePartition } from '../truth.ts';

export const checkNames = {
  no_oversell: 'never more issued than stock',
  one_a_user: 'never two coupons for one user',
  rows_true: 'a row is there only for who won, with slot, offset, key and time',
  rows_complete: 'below the checkpoint every winner has a row or is set aside, every sale change is stored',
  checkpoint_forward: 'the checkpoint only goes on',
  checkpoint_true: 'the checkpoint is a place of the log, its clock, hash and totals are those of the fold there',
  letters_kept: 'no dead letter is lost: what is malformed, unreadable or refused is set aside and copied, whole',
  changes_true: 'the change log says what the request log gives',
  changes_in_order: 'first occurrences stand in the change log in request order',
  marks_true: 'a mark carries the fold as of its place, names all that its range touched and leaves no hole',
  marks_whole: 'what stands after a mark with an offset before it is a repeat',
  told_acknowledged: 'told is never beyond what stands in the change log',
  ledger_true: 'the ledger decides as the fold does',
  rebuild_true: 'a rebuilt ledger is the fold at its place',
  first_come: 'who came first to a process stands first in the log',
  accepted_durable: 'a 202 is in the log, at the place it names, as it was asked',
  not_accepted_true: 'what was surely not queued is not in the log',
  door_sold_out_true: 'refused as sold out only when it was, and had heard of every answered restock',
  door_closed_true: 'refused as closed only when it was',
  door_not_open_true: 'refused as not open only when nobody could win yet',
  door_unknown_true: 'refused as unknown only before it was created',
  door_duplicate_true: 'refused as a duplicate only with a committed row of this user',
  key_never_lost: 'a request with a key that won is never told that it lost',
  ahead_true: 'ahead is never less than what is in front',
  stream_forward: 'on one stream the state never goes back and ahead never grows; the outcome is last, and once',
  outcome_true: 'an outcome is what was decided, on every instance, whenever it is asked for',
  outcome_stays: 'what a process has told as an outcome it does not take back when it is asked later',
  let_in: 'without faults nobody is turned away, or left without an answer',
  told_soon: 'once it is stored, an outcome is pushed and answered at once without faults, and soon after them',
  issued_has_row: 'issued and duplicated are told only once the row is committed',
  reserved_true: 'reserved is told only to who won, with the slot',
  set_aside_true: 'only a winner whose user is barred is set aside, and only such a one is told so',
  right_person: 'a task id opens to the task that it was sealed for',
  operator_true: 'an operator is told what became of the entry',
  stats_true: 'statistics end as the totals of the log',
  board_true: 'the board never shows more than the store had, is put back when that went back, and ends as the store',
  verify_clean: 'verify finds nothing',
  no_alarm: 'no stage stops: nothing that happened here needs an operator',
  no_crash: 'nothing is thrown that nobody catches',
  answered: 'every 202 has a final answer soon after the faults are over',
  comes_to_rest: 'soon after the faults are over all is decided, told, stored, counted and copied',
} as const;
export type CheckName = keyof typeof checkNames;

export interface Failure {
  check: CheckName;
  detail: string;
  atMs: number;
}

/** Whether something is so, and until when it last was. */
export interface Spell {
  now: boolean;
  until: number;
}

export class Facts {
  failure: Failure | undefined;
  readonly truth: TruePartition[];
  /** When each request entry was appended, ms of the run. */
  readonly appendedAt: number[][];
  /** Greatest next that the ledger had, and when it first passed each offset. */
  readonly nextMax: number[];
  readonly decidedAt: number[][];
  /** The ledger is behind where it was. */
  readonly behind: Spell[];
  /** All that was ever in the change log: won, sale and refused, with the offset of the request. */
  readonly changesSeen: Set<string>[];
  readonly unreadable: number[][];
  readonly checkpointMax: number[];
  /** When the checkpoint last passed each offset. */
  readonly storedAt: number[][];
  /** The board may tell what a store that went back has lost. */
  readonly boardAhead: Spell[];
  /** Refused winners whose copy a process still has to append, by process and place. */
  readonly uncopied = new Map<string, Life>();
  readonly asideEver: Set<number>[];
  readonly rowsEver = new Set<string>();
  /** Rows as of the last look, by partition. */
  readonly rowsNow: Set<string>[];
  /** How often the store went back. */
  storeBacks = 0;
  /** Processes between the two calls in which statistics are stored, and whether the store went back just then. */
  readonly counting = new Set<string>();
  countsTorn = false;
  readonly createdAt = new Map<string, number>();
  readonly restocked: { couponId: string; offset: number; at: number }[] = [];
  /** What `partition` a coupon is of. */
  readonly partitionOf: (couponId: string) => number;
  /** Clocks of the run begin here. */
  readonly epoch: number;
  readonly scheduler: Scheduler;

  constructor(scheduler: Scheduler, partitions: number, partitionOf: (couponId: string) => number, epoch: number) {
    this.scheduler = scheduler;
    this.partitionOf = partitionOf;
    this.epoch = epoch;
    const each = <T>(make: () => T): T[] => Array.from({ length: partitions }, make);
    this.truth = each(() => new TruePartition());
    this.appendedAt = each(() => []);
    this.nextMax = each(() => 0);
    this.decidedAt = each(() => []);
    this.behind = each(() => ({ now: false, until: -1 }));
    this.changesSeen = each(() => new Set<string>());
    this.unreadable = each(() => []);
    this.checkpointMax = each(() => 0);
    this.storedAt = each(() => []);
    this.boardAhead = each(() => ({ now: false, until: -1 }));
    this.asideEver = each(() => new Set<number>());
    this.rowsNow = each(() => new Set<string>());
  }

  get now(): number {
    return this.scheduler.now;
  }

  truthOf(couponId: string): TruePartition {
    return this.truth[this.partitionOf(couponId)] as TruePartition;
  }

  /** Nothing is heard in between: what was so until now still counts as of now. */
  note(spell: Spell, isSo: boolean): void {
    if (spell.now || isSo) spell.until = this.now;
    spell.now = isSo;
  }

  /** The first failure is the run's. */
  fail(check: CheckName, detail: string): void {
    if (this.failure) return;
    this.failure = { check, detail, atMs: this.now };
    this.scheduler.note(`FAILED ${check}: ${detail}`);
  }

  expect(holds: boolean, check: CheckName, detail: () => string): void {
    if (!holds) this.fail(check, detail());
  }
}

export const rowId = ({ couponId, userId, slot }: Pick<UserCouponRow, 'couponId' | 'userId' | 'slot'>): string =>
  `${couponId} ${slot} ${userId}`;
