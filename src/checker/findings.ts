export const findingKinds = ['lost', 'unexpected', 'duplicated', 'out_of_order', 'contradicted', 'unanswered'] as const;

/**
 * - `lost`: accepted or won, and not there any more.
 * - `unexpected`: there, and nobody asked for it or it was not won.
 * - `duplicated`: one user or one slot has more than one, or more were issued than there were.
 * - `out_of_order`: a later request stands before an earlier one, or a stream went back.
 * - `contradicted`: told something else than what the log gives, or two things.
 * - `unanswered`: accepted and never told how it ended.
 */
export type FindingKind = (typeof findingKinds)[number];

export interface Finding {
  kind: FindingKind;
  detail: string;
  /** What shows it: lines of the history, entries, rows, dead letters. */
  witnesses: unknown[];
}

export interface CheckReport {
  ok: boolean;
  /** Calls, frames, entries and rows that were looked at. */
  calls: number;
  frames: number;
  entries: number;
  rows: number;
  /** Calls answered with what a history knows nothing of, by code: rates and tokens, which others know of, and 5xx but 503. */
  unjudged: Record<string, number>;
  /** All of each kind. */
  totals: Record<FindingKind, number>;
  /** The first of each kind. */
  findings: Finding[];
}

/** Of one kind; the rest is only counted. */
const perKindMax = 20;

export class Found {
  readonly findings: Finding[] = [];
  readonly totals = Object.fromEntries(findingKinds.map(kind => [kind, 0])) as Record<FindingKind, number>;

  add(kind: FindingKind, detail: string, ...witnesses: unknown[]): void {
    if (++this.totals[kind] <= perKindMax) this.findings.push({ kind, detail, witnesses });
  }
}
