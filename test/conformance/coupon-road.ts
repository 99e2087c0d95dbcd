/** One coupon in a partition of its own, and the batches that persist would write for it. */
import type { CouponBody, CouponId, UserId } from '../../src/coupon.ts';
import { changeLog, requestLog, type SaleChanged, type Won } from '../../src/entry.ts';
import type { Checkpoint, Committed, CouponStore, SetAside, Snapshot, StoreBatch } from '../../src/ports.ts';
import { type Holder, holderPairs } from '../../src/sale.ts';
import { k as keyOf } from '../support/entries.ts';

/** Of the tests' clock. */
export const t0 = 1_700_000_000_000;

export const body = (over: Partial<CouponBody> = {}): CouponBody => ({
  name: 'Welcome',
  stock: 100,
  opensAt: null,
  closesAt: null,
  validUntil: null,
  discount: { type: 'percent', value: 10 },
  ...over,
});

let roads = 0;

export class Road {
  readonly store: CouponStore;
  readonly partition: number;
  readonly couponId: CouponId;
  /** Where the last committed batch left the store. */
  checkpoint: Checkpoint = zero();

  constructor(store: CouponStore, like?: Road) {
    roads++;
    this.store = store;
    this.partition = like?.partition ?? roads;
    this.couponId = `coupon-${roads}` as CouponId;
  }

  /** With a row and, at offset 0, opened. */
  static async open(store: CouponStore, over: Partial<CouponBody> = {}): Promise<Road> {
    const road = new Road(store);
    await road.create(over);
    await road.commit({ sales: [road.sale(0, { stock: over.stock ?? 100 })], next: 1 });
    return road;
  }

  create(over: Partial<CouponBody> = {}, createdAt = t0) {
    const { couponId, partition } = this;
    return this.store.createCoupon({ couponId, partition, body: body(over), createdAt });
  }

  /** A user's name that no other road has. */
  user = (n: number): UserId => `user-${n}@${this.couponId}` as UserId;

  /** The win of slot n by user n, whose request is at offset n. */
  won(n: number, over: Partial<Won> = {}): Won {
    const { couponId } = this;
    return { type: 'won', couponId, userId: this.user(n), slot: n, offset: n, key: keyOf(n), at: t0 + n, ...over };
  }

  wins = (from: number, to: number): Won[] => Array.from({ length: to - from + 1 }, (_, i) => this.won(from + i));

  sale(offset: number, over: Partial<SaleChanged> = {}): SaleChanged {
    const terms = { stock: 100, opensAt: null, closesAt: null, closed: false, phase: 'open', key: null } as const;
    return { type: 'sale', couponId: this.couponId, offset, at: t0 + offset, ...terms, ...over };
  }

  malformed(offset: number, bytes = 'x'): SetAside {
    const nobody = { couponId: null, userId: null, slot: null, key: null };
    const { partition } = this;
    return { ...nobody, log: requestLog, partition, offset, at: t0 + offset, reason: 'malformed: not JSON', bytes };
  }

  unreadable = (offset: number, bytes: string): SetAside => ({
    ...this.malformed(offset, bytes),
    log: changeLog,
    reason: 'unreadable: not JSON',
  });

  /** A batch that begins where the last one ended. `next` given: it ends with a mark. */
  batch(given: Partial<StoreBatch> & { next?: number } = {}): StoreBatch {
    const { next, ...over } = given;
    const { changeNext } = this.checkpoint;
    const after = changeNext + (over.won?.length ?? 0) + (over.sales?.length ?? 0) + 1;
    const mark =
      next === undefined
        ? {}
        : { next, clock: t0 + next, hash: `h${next}`, strays: { malformed: 1, unknown_coupon: next } };
    const checkpoint = { ...this.checkpoint, ...mark, changeNext: after, changeHash: `c${after}` };
    return { expectChangeNext: changeNext, checkpoint, won: [], sales: [], setAside: [], counts: {}, ...over };
  }

  async commit(given: Partial<StoreBatch> & { next?: number }): Promise<Extract<Committed, { kind: 'committed' }>> {
    const batch = this.batch(given);
    const committed = await this.store.commit(this.partition, batch);
    if (committed.kind !== 'committed') throw new Error(`moved to ${committed.checkpoint.changeNext}`);
    this.checkpoint = batch.checkpoint;
    return committed;
  }

  async row() {
    const [row] = await this.store.coupons([this.couponId]);
    if (!row) throw new Error(`no row of ${this.couponId}`);
    return row;
  }

  async slots(): Promise<[slot: number, userId: UserId][]> {
    return (await collected(this.store.rows(this.couponId))).flat().map(r => [r.slot, r.userId]);
  }

  asides = (limit = 1000) => this.store.setAside({ partition: this.partition, limit });
}

export async function collected<T>(chunks: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
}

export const zero = (): Checkpoint => ({
  changeNext: 0,
  changeHash: '',
  next: 0,
  clock: 0,
  hash: '',
  strays: { malformed: 0, unknown_coupon: 0 },
});

/** All holders of a snapshot, in the order it gives them. */
export const heldIn = async (snapshot: Snapshot): Promise<[UserId, Holder][]> =>
  (await collected(snapshot.holders)).flatMap(chunk => holderPairs(chunk.holders));
