/**
 * What a queue leaves behind: winners in hand of a process that died are no rows, those behind them in the queue are.
 * The slots between are lost with them: nobody is given a slot that comes before one that is stored.
 */
import type { CouponId, RequestKey, UserId } from './coupon.ts';
import type { CouponReader, LedgerQuery, LedgerReader, LedgerView, Snapshot } from './ports.ts';
import { currentTerms, type Holder, holderPairs } from './sale.ts';

/**
 * The snapshot in which slots that are lost are taken by nobody: those before the last one that is stored, and once
 * the coupon is stored as sold out all that have no row. Slots at the end of an open sale are free again. A winner who
 * was refused because another has a row with that slot, which no redrive changes, holds nothing.
 */
export async function withLostSlots(snapshot: Snapshot): Promise<Snapshot> {
  const held = new Map(snapshot.sales.map(sale => [sale.couponId, new Uint8Array(currentTerms(sale).stock + 1)]));
  const beaten = new Map<CouponId, Set<UserId>>();
  for await (const { couponId, holders } of snapshot.holders) {
    const slots = held.get(couponId);
    if (!slots) continue;
    for (const [userId, { slot }] of holderPairs(holders)) {
      if (slots[slot] === 1) beaten.set(couponId, (beaten.get(couponId) ?? new Set()).add(userId));
      slots[slot] = 1;
    }
  }
  const lost = snapshot.sales.map(({ couponId, changes }) => {
    const slots = held.get(couponId) as Uint8Array;
    const isSoldOut = currentTerms({ changes }).phase === 'sold_out';
    return { couponId, holders: nobody(slots, isSoldOut ? slots.length : slots.lastIndexOf(1)) };
  });
  return {
    ...snapshot,
    holders: {
      async *[Symbol.asyncIterator]() {
        for await (const { couponId, holders } of snapshot.holders) {
          const without = beaten.get(couponId);
          const left = without ? holderPairs(holders).filter(([userId]) => !without.has(userId)) : holders;
          yield { couponId, holders: left };
        }
        yield* lost.filter(({ holders }) => holders.length > 0);
      },
    },
  };
}

const noKey = '0'.repeat(16) as RequestKey;

/** Holders of the slots below `end` that have none. Their ids are none that a user can have. */
function nobody(slots: Uint8Array, end: number): [UserId, Holder][] {
  const holders: [UserId, Holder][] = [];
  for (let slot = 1; slot < end; slot++) {
    if (slots[slot] !== 1) holders.push([`?${slot}` as UserId, { slot, offset: 0, key: noKey, at: 0 }]);
  }
  return holders;
}

/**
 * The ledger as it may be shown beside a queue. Until it is put back to the rows, which a Redis that comes back with an
 * older copy needs as well, it names winners who died in hand, while what is stored behind them covers their places. And
 * after that it knows nothing of a sale whose opening died. So who has a coupon is what the store says, and who may yet
 * have one is behind the store's checkpoint.
 */
export const withoutLostWinners = (ledger: LedgerReader, store: Pick<CouponReader, 'read'>): LedgerReader => ({
  async read(partition, queries) {
    const views = await ledger.read(partition, queries);
    const isDoubtful = (view: LedgerView | undefined) => view && (view.holder || view.changes.length === 0);
    const doubtful = queries.filter((_, i) => isDoubtful(views[i]));
    if (doubtful.length === 0) return views;
    const rows = await store.read(partition, doubtful);
    const rowOf = new Map(doubtful.map((query, i) => [query, rows[i]]));
    return views.map((view, i) => {
      const row = rowOf.get(queries[i] as LedgerQuery);
      if (!view || !row) return view;
      if (row.holder) return { ...view, holder: row.holder };
      const isInHand = view.holder !== undefined && view.holder.offset >= row.committedNext;
      return isInHand ? { ...view, inHand: true } : { ...view, holder: undefined };
    });
  },
  sales: wanted => ledger.sales(wanted),
});
