/**
 * Issuing statistics: the consumer that was added without touching the others. It is written with the same
 * `defineStage` that a user of the library gets. What it stores are maxima of totals, so that repeats change nothing.
 */
import type { CouponId, Millis } from './coupon.ts';
import { changeLog, decodeChange } from './entry.ts';
import { statsBatchMax } from './limits.ts';
import type { CouponStore, StatsUpdate } from './ports.ts';
import type { Counts } from './sale.ts';
import { defineStage } from './stage.ts';

/** Statistics may be a moment late; gathering makes their batches larger and their transactions few. */
const gatherMs = 250;

export const statsStage = (store: Pick<CouponStore, 'saveStats'>) =>
  defineStage({
    name: 'stats',
    log: changeLog,
    batchMax: statsBatchMax,
    gatherMs,
    async handle(batch) {
      const updates = new Map<string, StatsUpdate>();
      const at = (couponId: CouponId, ms: Millis): StatsUpdate => {
        const second = Math.floor(ms / 1000) * 1000;
        const id = `${couponId} ${second}`;
        let update = updates.get(id);
        if (!update) {
          update = { couponId, second, issued: 0, counts: null, firstWonAt: null, lastWonAt: null };
          updates.set(id, update);
        }
        return update;
      };
      for (const entry of batch.entries) {
        const change = decodeChange(entry);
        // What cannot be read is persist's to set aside.
        if (typeof change === 'string') continue;
        if (change.type === 'won') {
          const update = at(change.couponId, change.at);
          update.issued = Math.max(update.issued, change.slot);
          update.firstWonAt = Math.min(update.firstWonAt ?? change.at, change.at);
          update.lastWonAt = Math.max(update.lastWonAt ?? change.at, change.at);
        } else if (change.type === 'mark') {
          for (const [couponId, counts] of Object.entries(change.counts)) {
            const update = at(couponId as CouponId, change.clock);
            update.counts = greatest(update.counts, counts);
          }
        }
      }
      if (updates.size > 0) await store.saveStats([...updates.values()]);
    },
  });

/** A repeat of an earlier mark may stand behind a later one: totals never fall. */
const greatest = (a: Counts | null, b: Counts): Counts => ({
  duplicated: Math.max(a?.duplicated ?? 0, b.duplicated),
  closed: Math.max(a?.closed ?? 0, b.closed),
  not_open: Math.max(a?.not_open ?? 0, b.not_open),
  sold_out: Math.max(a?.sold_out ?? 0, b.sold_out),
});
