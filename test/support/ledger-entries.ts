/** What the suite of the ledger applies, and what it expects back. */
import type { CouponId, UserId } from '../../src/coupon.ts';
import type { Located, SaleChanged, Won } from '../../src/entry.ts';
import type { ApplyBatch, Snapshot } from '../../src/ports.ts';
import { type Counts, type Holder, type HolderList, holderText, type Phase, type SaleChange } from '../../src/sale.ts';
import { k as keyOf } from './entries.ts';

export const identity = 'log-1';
export const welcome = 'welcome' as CouponId;
export const autumn = 'autumn' as CouponId;

export const request = (
  offset: number,
  user: string,
  couponId = welcome,
  key = keyOf(offset),
  at = 1_000 + offset,
): Located => ({
  type: 'request',
  couponId,
  userId: user as UserId,
  key,
  offset,
  at,
});
export const opened = (
  offset: number,
  stock: number,
  couponId = welcome,
  opensAt = null as number | null,
): Located => ({
  type: 'opened',
  couponId,
  stock,
  opensAt,
  closesAt: null,
  offset,
  at: 1_000 + offset,
});
export const added = (offset: number, add: number, key: number): Located => ({
  type: 'stock_added',
  couponId: welcome,
  add,
  key: keyOf(key),
  offset,
  at: 1_000 + offset,
});
export const closed = (offset: number): Located => ({ type: 'closed', couponId: welcome, offset, at: 1_000 + offset });
export const malformed = (offset: number): Located => ({
  type: 'malformed',
  why: 'not JSON',
  offset,
  at: 1_000 + offset,
});

export const won = (offset: number, user: string, slot: number, couponId = welcome): Won => ({
  type: 'won',
  couponId,
  userId: user as UserId,
  slot,
  offset,
  key: keyOf(offset),
  at: 1_000 + offset,
});
export function sale(offset: number, stock: number, phase: Phase, more: Partial<SaleChanged> = {}): SaleChanged {
  const terms = { stock, opensAt: null, closesAt: null, closed: false, phase, key: null };
  return { type: 'sale', couponId: welcome, offset, at: 1_000 + offset, ...terms, ...more };
}
export const change = ({ type: _, couponId: __, ...saleChange }: SaleChanged): SaleChange => saleChange;
export const counts = (more: Partial<Counts> = {}): Counts => ({
  duplicated: 0,
  closed: 0,
  not_open: 0,
  sold_out: 0,
  ...more,
});

/** A batch that begins where its entries do, and says all that follows from them. */
export function batchOf(entries: Located[], more: Partial<ApplyBatch> = {}): ApplyBatch {
  const from = entries[0]?.offset ?? 0;
  const next = (entries.at(-1)?.offset ?? from - 1) + 1;
  return { from, next, hash: `hash-${next}`, entries, alsoCount: [], ...more };
}

export const holder = (slot: number, offset: number): Holder => ({
  slot,
  offset,
  key: keyOf(offset),
  at: 1_000 + offset,
});

export function snapshotOf(more: Partial<Snapshot> = {}, holders: { couponId: CouponId; holders: HolderList }[] = []) {
  const frontier = { next: 0, clock: 0, hash: '', strays: { malformed: 0, unknown_coupon: 0 } };
  async function* chunks() {
    yield* holders;
  }
  return { frontier, sales: [], malformed: [], holders: chunks(), ...more } satisfies Snapshot;
}

/** Two of three slots taken, up to offset 10. One of the holders comes as a pair, the other as text. */
export const halfSold = (users = ['u0', 'u1'], held = [holder(1, 4), holder(2, 6)]): Snapshot =>
  snapshotOf(
    {
      frontier: { next: 10, clock: 1_009, hash: 'hash-10', strays: { malformed: 1, unknown_coupon: 2 } },
      sales: [
        { couponId: welcome, counts: counts({ duplicated: 3 }), changes: [change(sale(0, 3, 'open'))] },
        { couponId: autumn, counts: counts(), changes: [change(sale(1, 5, 'open'))] },
      ],
      malformed: [5],
    },
    users.map((user, i) => {
      const of = held[i] as Holder;
      return { couponId: welcome, holders: i % 2 === 0 ? [[user as UserId, of]] : `${user} ${holderText(of)}` };
    }),
  );
