import type { CouponRow, UserCouponRow } from './coupon.ts';
import { currentTerms, type Holder, type Sale } from './sale.ts';
import type { Findings } from './verify-findings.ts';

/** One coupon's rows, in order of slot, and its winners that are set aside. */
export interface RowsOfCoupon {
  row: CouponRow;
  /** The coupon row's count as read after the rows. */
  issuedMax: number;
  rows: UserCouponRow[];
  byUser: Map<string, UserCouponRow>;
  aside: Map<string, Holder>;
  /** All of them, also two of one user. */
  letters: { userId: string; holder: Holder }[];
  found: Findings;
}

/** Holds one coupon's rows against the winners that the log gives; below `next` they must be complete. */
export function compareRows(subject: RowsOfCoupon, sale: Sale | undefined, next: number): void {
  const { row, rows, issuedMax, found } = subject;
  const stock = sale ? currentTerms(sale).stock : row.stock;
  if (rows.length > stock) found.add('over_issue', { detail: `${rows.length} rows for ${stock} units` });
  if (rows.length < row.issued || rows.length > issuedMax) {
    found.add('issued_count', { detail: `its row counts ${row.issued} issued, there are ${rows.length} rows` });
  }
  compareOneByOne(subject, sale, stock);
  findGaps(subject);
  for (const { userId, holder } of subject.letters) {
    if (isOf(sale?.holders.get(userId), holder)) continue;
    const { slot, offset } = holder;
    found.add('ghost', { detail: 'set aside as a winner, but it did not win so', slot, userId, offset });
  }
  if (!sale) return;
  for (const [userId, { slot, offset }] of sale.holders.entries()) {
    if (offset >= next || subject.byUser.has(userId) || subject.aside.has(userId)) continue;
    found.add('missing_row', { detail: 'won, and has no row', slot, userId, offset });
  }
}

const isOf = (won: Holder | undefined, there: Holder): boolean =>
  won !== undefined && won.slot === there.slot && won.offset === there.offset && won.key === there.key;

function compareOneByOne({ rows, byUser, found }: RowsOfCoupon, sale: Sale | undefined, stock: number): void {
  let before: UserCouponRow | undefined;
  for (const row of rows) {
    const { slot, userId, offset } = row;
    const place = { slot, userId, offset };
    const won = sale?.holders.get(userId);
    if (slot > stock) found.add('over_issue', { detail: `slot ${slot} of ${stock} units`, ...place });
    // The map keeps the last row of a user.
    if (byUser.get(userId) !== row) found.add('duplicate_user', { detail: 'the user has more than one row', ...place });
    if (before?.slot === slot) found.add('duplicate_slot', { detail: `slot ${slot} is given twice`, ...place });
    if (before && before.offset > offset) {
      found.add('order_inversion', { detail: `asked before slot ${before.slot}, stands after it`, ...place });
    }
    before = row;
    if (!won) {
      found.add('ghost', { detail: 'a row of somebody who did not win', ...place });
      continue;
    }
    if (won.slot !== slot) found.add('wrong_slot', { detail: `won slot ${won.slot}`, ...place });
    if (won.offset !== offset || won.key !== row.key || won.at !== row.issuedAt) {
      const request = `offset ${won.offset}, key ${won.key}, at ${won.at}`;
      found.add('wrong_request', { detail: `the request that won is ${request}`, ...place });
    }
  }
}

/** Slots 1..n are held by rows or set aside: batches are committed whole and in order. */
function findGaps({ rows, aside, found }: RowsOfCoupon): void {
  const waiting = new Set([...aside.values()].map(holder => holder.slot));
  let expected = 1;
  for (const { slot } of rows) {
    for (; expected < slot && waiting.has(expected); expected++);
    if (expected < slot) {
      const last = slot - 1;
      const detail = expected === last ? `slot ${last} has no row` : `slots ${expected} to ${last} have no row`;
      found.add('slot_gap', { detail, slot: expected });
    }
    expected = Math.max(expected, slot + 1);
  }
}
