/** Short names for what tests put into logs and folds. */
import type { CouponId, Millis, RequestKey, UserId } from '../../src/coupon.ts';
import { encodeEntry, encodeRequest, type Located, type SaleChanged, type Won } from '../../src/entry.ts';
import { PartitionFold } from '../../src/sale.ts';

export const c = (id: string) => id as CouponId;
export const u = (id: string) => id as UserId;
/** A key of a small number. */
export const k = (n: number) => n.toString(16).padStart(16, '0') as RequestKey;

export const request = (user: string, key = 0, coupon = 'a') => ({
  type: 'request' as const,
  couponId: c(coupon),
  userId: u(user),
  key: k(key),
});
export const opened = (
  stock: number,
  { opensAt = null, closesAt = null }: { opensAt?: Millis | null; closesAt?: Millis | null } = {},
  coupon = 'a',
) => ({ type: 'opened' as const, couponId: c(coupon), stock, opensAt, closesAt });
export const added = (add: number, key = 0, coupon = 'a') => ({
  type: 'stock_added' as const,
  couponId: c(coupon),
  add,
  key: k(key),
});
export const closed = (coupon = 'a') => ({ type: 'closed' as const, couponId: c(coupon) });
export const malformed = () => ({ type: 'malformed' as const, why: 'not JSON' });

export type Step = ReturnType<typeof request | typeof opened | typeof added | typeof closed | typeof malformed>;

/** One entry at `at`. */
export type Timed = Step & { at?: Millis };

/** Gives entries their places, from `from` on. Without a time an entry has that of the one before it. */
export function located(steps: readonly Timed[], from = 0): Located[] {
  let at = 1_000;
  return steps.map((step, i) => {
    at = step.at ?? at;
    return { ...step, offset: from + i, at } as Located;
  });
}

export const textOf = (step: Step): string =>
  step.type === 'malformed'
    ? 'not an entry'
    : step.type === 'request'
      ? encodeRequest(step.couponId, step.userId, step.key)
      : encodeEntry(step);

/** Folds the entries, moving `next` and `hash` as a ledger does. */
export function fold(
  entries: readonly Located[],
  into = new PartitionFold(),
): { fold: PartitionFold; changes: (Won | SaleChanged)[] } {
  const changes: (Won | SaleChanged)[] = [];
  for (const entry of entries) {
    changes.push(...into.decide(entry));
    into.frontier.next = entry.offset + 1;
    into.frontier.hash = `hash of ${entry.offset}`;
  }
  return { fold: into, changes };
}

export const winnersOf = (changes: readonly (Won | SaleChanged)[]): string[] =>
  changes.flatMap(change => (change.type === 'won' ? [`${change.slot} ${change.userId}`] : []));
