export type ProblemKind =
  /** More rows than units, or a slot beyond them. */
  | 'over_issue'
  | 'duplicate_user'
  | 'duplicate_slot'
  | 'slot_gap'
  /** A row, or a winner set aside, that nobody asked for or that did not win. */
  | 'ghost'
  /** A winner without a row that is not set aside either. */
  | 'missing_row'
  /** The winner's row has another slot than the one that was won. */
  | 'wrong_slot'
  /** A later request stands before an earlier one. */
  | 'order_inversion'
  /** The row's offset, key or time is not that of the request that won. */
  | 'wrong_request'
  /** The coupon's row counts other than there are rows. */
  | 'issued_count'
  /** The stored stock, window, close or phases are not what the log gives. */
  | 'stock'
  /** The stored totals by reason are not what the log gives. */
  | 'counts'
  | 'unanswered'
  /** The store would tell something else than was decided. */
  | 'wrong_answer'
  /** The checkpoint is not a place of this log. */
  | 'checkpoint'
  /** A malformed entry that is not kept, one that is kept as malformed and is not, a winner set aside that has its row. */
  | 'dead_letter'
  | 'unknown_coupon';

export interface Problem {
  kind: ProblemKind;
  detail: string;
  slot?: number;
  userId?: string;
  offset?: number;
}

/** Of one kind; the rest is only counted. */
const perKindMax = 20;

/** The first problems of each kind, and how many there are in all. */
export class Findings {
  readonly problems: Problem[] = [];
  total = 0;
  private readonly ofKind = new Map<ProblemKind, number>();

  add(kind: ProblemKind, rest: Omit<Problem, 'kind'>): void {
    this.total++;
    const n = (this.ofKind.get(kind) ?? 0) + 1;
    this.ofKind.set(kind, n);
    if (n <= perKindMax) this.problems.push({ kind, ...rest });
  }
}
