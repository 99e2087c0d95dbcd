/** What batching is worth to the store: rows in transactions of 500, and one row a transaction. */
import type { CouponId, RequestKey, UserId } from '../src/coupon.ts';
import type { Won } from '../src/entry.ts';
import type { Checkpoint } from '../src/ports.ts';
import { createPostgresStore, type PostgresStore } from '../src/postgres/store.ts';
import type { Measurement } from './bench.ts';
import { perSecond } from './reserve.ts';
import { alternate, median, type Side, summary } from './rounds.ts';

const batchRows = 500;
const stock = 10_000_000;

export const persist: Measurement = {
  name: 'persist',
  about: 'rows per second in batches of 500 / one row a transaction',
  seconds: 15,
  async run(bench) {
    const { services } = await bench.cluster();
    const store = await createPostgresStore({ url: services.databaseUrl, schema: 'bench_persist', log: () => {} });
    try {
      const [many, single] = [await Rows.of(store, 0), await Rows.of(store, 1)];
      const ms = Math.min(2, bench.seconds) * 500;
      const sides: Side<number>[] = [
        { name: 'batch', run: () => perSecond(ms, () => many.commit(batchRows)) },
        { name: 'single', run: () => perSecond(ms, () => single.commit(1)) },
      ];
      for (const side of sides) await side.run(-1);
      bench.say(` rows a second: ${batchRows} a transaction | one a transaction`);
      const rounds = await alternate(sides, bench.pace);
      await many.assertStored();
      await single.assertStored();
      const of = (side: number) => (median(rounds.map(({ values }) => values[side] ?? 0)) / 1000).toFixed(1);
      return {
        lines: [
          {
            what: `persist: rows/s, ${batchRows} a transaction / one a transaction`,
            ...{ reach: 20, aim: 35, better: 'more', unit: '' },
            measured: summary(rounds, ([batch = 0, one = 1]) => batch / one),
            note: `${of(0)} of ${of(1)} k/s`,
          },
        ],
        rounds,
      };
    } finally {
      await store.close();
    }
  },
};

/** One partition of the store with one coupon, as persist fills it. */
export class Rows {
  private readonly store: PostgresStore;
  private readonly partition: number;
  private readonly couponId: CouponId;
  private checkpoint: Checkpoint;
  private slots = 0;

  private constructor(store: PostgresStore, partition: number, couponId: CouponId, checkpoint: Checkpoint) {
    this.store = store;
    this.partition = partition;
    this.couponId = couponId;
    this.checkpoint = checkpoint;
  }

  static async of(store: PostgresStore, partition: number): Promise<Rows> {
    const couponId = `all-win-${partition}` as CouponId;
    const body = { name: couponId, stock, opensAt: null, closesAt: null, validUntil: null, discount: null };
    await store.createCoupon({ couponId, partition, body, createdAt: Date.now() });
    return new Rows(store, partition, couponId, await store.checkpoint(partition));
  }

  async commit(n: number): Promise<number> {
    const { couponId, checkpoint } = this;
    const at = Date.now();
    const won = Array.from({ length: n }, (_, i): Won => {
      const slot = this.slots + i + 1;
      const key = slot.toString(16).padStart(16, '0') as RequestKey;
      return { type: 'won', couponId, userId: userOf(slot), slot, offset: slot - 1, key, at };
    });
    const next = checkpoint.next + n;
    // The mark takes a place of the change log too.
    const moved = {
      ...checkpoint,
      next,
      clock: at,
      hash: 'bench',
      changeNext: checkpoint.changeNext + n + 1,
      changeHash: 'bench',
    };
    const counts = { [couponId]: { duplicated: 0, closed: 0, not_open: 0, sold_out: 0 } };
    const committed = await this.store.commit(this.partition, {
      ...{ expectChangeNext: checkpoint.changeNext, checkpoint: moved, won, counts },
      ...{ sales: [], setAside: [] },
    });
    if (committed.kind !== 'committed' || committed.inserted !== n) {
      throw new Error(`the store did not take ${n} rows: ${JSON.stringify(committed)}`);
    }
    this.checkpoint = moved;
    this.slots += n;
    return n;
  }

  async assertStored(): Promise<void> {
    const [row] = await this.store.coupons([this.couponId]);
    if (row?.issued !== this.slots) throw new Error(`${row?.issued} of ${this.slots} rows are stored`);
  }
}

/** In no order, as users come: the index by user is written all over. */
const userOf = (slot: number): UserId => `user-${Math.imul(slot, 0x9e3779b1) >>> 0}` as UserId;
