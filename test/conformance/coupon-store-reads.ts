/** What every CouponStore promises to those who read it, and to users and stages who write a little. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { CouponId, UserId } from '../../src/coupon.ts';
import type { CouponStore, PageEnd, StatsUpdate } from '../../src/ports.ts';
import { type Holder, holderPairs, noCounts } from '../../src/sale.ts';
import { k as keyOf } from '../support/entries.ts';
import { collected, heldIn, Road, t0 } from './coupon-road.ts';
import type { CouponStoreUnderTest } from './coupon-store.ts';

export function couponStoreReads(made: () => CouponStoreUnderTest): void {
  const store = () => made().store;
  views(made);
  snapshots(made);
  usersCoupons(store);
  setAside(store);
  statistics(store);

  it('keeps the places of stages, by stage and partition', async () => {
    const { partition } = new Road(store());
    assert.equal(await store().place('mail', partition), 0);
    assert.equal(await store().savePlace('mail', partition, 0, 5), 5);
    assert.equal(await store().savePlace('mail', partition, 5, 2 ** 40), 2 ** 40);
    assert.equal(await store().savePlace('sums', partition, 0, 1), 1);
    assert.equal(await store().place('mail', partition), 2 ** 40);
    assert.equal(await store().place('sums', partition), 1);
    assert.equal(await store().place('mail', partition + 1_000_000), 0);
  });

  it('moves a place only from where it is, and answers where that is', async () => {
    const { partition } = new Road(store());
    assert.equal(await store().savePlace('mail', partition, 3, 5), 0, 'there is none: it is 0');
    assert.equal(await store().place('mail', partition), 0);
    await store().savePlace('mail', partition, 0, 4);
    assert.equal(await store().savePlace('mail', partition, 0, 9), 4);
    assert.equal(await store().savePlace('mail', partition, 5, 9), 4);
    assert.equal(await store().place('mail', partition), 4);
    assert.equal(await store().savePlace('mail', partition, 4, 2), 2, 'back too, if that is where it was');
  });
}

const holderOf = (n: number): Holder => ({ slot: n, offset: n, key: keyOf(n), at: t0 + n });

function views(made: () => CouponStoreUnderTest): void {
  const store = () => made().store;

  it('gives views as of the checkpoint, in the order of the queries', async () => {
    const road = await Road.open(store());
    const { couponId } = road;
    await made().refuse(road.user(2));
    await road.commit({ won: road.wins(1, 2), setAside: [road.malformed(3)], sales: [road.sale(4)], next: 5 });
    await road.commit({ won: [road.won(5)], sales: [road.sale(6)] });
    const view = { next: 5, committedNext: 5, holder: undefined, malformed: false, holderSetAside: false };
    const ofSale = { ...view, changes: [road.sale(0), road.sale(4)].map(({ type: _, couponId: __, ...c }) => c) };
    const query = (n: number, offset: number, id = couponId) => ({ couponId: id, userId: road.user(n), offset });
    const queries = [query(5, 5), query(1, 9), query(2, 2), query(7, 3), query(1, 1, 'none' as typeof couponId)];
    assert.deepEqual(await store().read(road.partition, queries), [
      ofSale,
      { ...ofSale, holder: holderOf(1) },
      { ...ofSale, holder: holderOf(2), holderSetAside: true },
      { ...ofSale, malformed: true },
      { ...view, changes: [] },
    ]);
    assert.deepEqual(await store().read(road.partition, []), []);
    const elsewhere = new Road(store());
    assert.deepEqual(
      await store().read(
        elsewhere.partition,
        [query(1, 3)].map(q => ({ ...q, couponId: elsewhere.couponId })),
      ),
      [{ ...view, next: 0, committedNext: 0, changes: [] }],
    );
    await made().allow(road.user(2));
  });

  it('shows nobody a row that no mark has reached', async () => {
    const road = await Road.open(store());
    await road.commit({ won: [road.won(1)] });
    const seen = async () => {
      const [view] = await store().read(road.partition, [{ couponId: road.couponId, userId: road.user(1), offset: 1 }]);
      const { items } = await store().userCoupons(road.user(1), 10);
      const taken = await store().withSnapshot(road.partition, async s => (await heldIn(s)).length);
      return [view?.holder?.slot, items.length, taken];
    };
    assert.deepEqual(await seen(), [undefined, 0, 0]);
    assert.deepEqual(await store().redeem(road.user(1), road.couponId, 1, t0), { kind: 'unknown' });
    await road.commit({ next: 2 });
    assert.deepEqual(await seen(), [1, 1, 1]);
  });
}

function snapshots(made: () => CouponStoreUnderTest): void {
  const store = () => made().store;

  it('gives nothing of a partition that nothing was persisted of', async () => {
    const { partition } = new Road(store());
    const got = await store().withSnapshot(partition, async s => ({ ...s, holders: await heldIn(s) }));
    const frontier = { next: 0, clock: 0, hash: '', strays: { malformed: 0, unknown_coupon: 0 } };
    assert.deepEqual(got, { frontier, sales: [], malformed: [], holders: [] });
  });

  it('is the whole fold as of the checkpoint: winners set aside count, what lies beyond does not', async () => {
    const road = await Road.open(store());
    const other = new Road(store(), road);
    await other.create();
    await made().refuse(road.user(2));
    const counts = { duplicated: 1, closed: 2, not_open: 3, sold_out: 4 };
    await road.commit({ won: road.wins(1, 3), counts: { [road.couponId]: counts }, setAside: [road.malformed(4)] });
    await road.commit({ won: [other.won(6)], sales: [other.sale(5)], next: 7 });
    await road.commit({ won: road.wins(7, 8), sales: [road.sale(9)], setAside: [road.malformed(10)] });
    await road.commit({ setAside: [road.unreadable(0, 'y')] });
    const got = await store().withSnapshot(road.partition, async s => ({ ...s, holders: await heldIn(s) }));
    assert.deepEqual(got.frontier, { next: 7, clock: t0 + 7, hash: 'h7', strays: { malformed: 1, unknown_coupon: 7 } });
    assert.deepEqual(got.malformed, [4]);
    assert.deepEqual(
      got.sales.toSorted((a, b) => (a.changes[0]?.offset ?? 0) - (b.changes[0]?.offset ?? 0)),
      [
        { couponId: road.couponId, changes: changesOf(road.sale(0)), counts },
        { couponId: other.couponId, changes: changesOf(other.sale(5)), counts: noCounts() },
      ],
    );
    assert.deepEqual(
      got.holders.toSorted((a, b) => a[1].offset - b[1].offset),
      [1, 2, 3].map(n => [road.user(n), holderOf(n)]).concat([[other.user(6), holderOf(6)]]),
    );
    await made().allow(road.user(2));
  });

  it('gives a user who has a row and was set aside as well once, by the row', async () => {
    const road = await Road.open(store());
    const again = road.won(3, { userId: road.user(2) });
    const { refused } = await road.commit({ won: [...road.wins(1, 2), again], next: 4 });
    assert.deepEqual(
      refused.map(r => [r.slot, r.userId]),
      [[3, road.user(2)]],
    );
    assert.deepEqual(
      await store().withSnapshot(road.partition, heldIn),
      [1, 2].map(n => [road.user(n), holderOf(n)]),
    );
  });

  it('holds still while others commit, and gives the value or the error of `use`', async () => {
    const road = await Road.open(store());
    await road.commit({ won: road.wins(1, 5), next: 6 });
    const held = await store().withSnapshot(road.partition, async s => {
      await road.commit({ won: road.wins(6, 9), next: 10 });
      return [s.frontier.next, (await heldIn(s)).length];
    });
    assert.deepEqual(held, [6, 5]);
    const broken = store().withSnapshot(road.partition, async () => {
      throw new Error('ledger gone');
    });
    await assert.rejects(broken, /ledger gone/);
    assert.equal(await store().withSnapshot(road.partition, async s => s.frontier.next), 10);
  });

  it('gives many rows in chunks, and those of verify in order of slot', async () => {
    const road = await Road.open(store(), { stock: 100_000 });
    const many = 21_000;
    for (let from = 1; from <= many; from += 1_000) {
      await road.commit({ won: road.wins(from, from + 999), next: from + 1_000 });
    }
    const chunks = await store().withSnapshot(road.partition, s => collected(s.holders));
    assert.ok(chunks.length > 1 && chunks.every(c => c.couponId === road.couponId));
    assert.equal(new Set(chunks.flatMap(c => holderPairs(c.holders).map(([userId]) => userId))).size, many);
    const rows = await collected(store().rows(road.couponId));
    assert.ok(rows.length > 1);
    assert.deepEqual(
      rows.flat().map(r => r.slot),
      Array.from({ length: many }, (_, i) => i + 1),
    );
    assert.deepEqual(await collected(store().rows('none' as Road['couponId'])), []);
  });
}

const changesOf = ({ type: _, couponId: __, ...change }: ReturnType<Road['sale']>) => [change];

function usersCoupons(store: () => CouponStore): void {
  it("pages through a user's coupons, newest first", async () => {
    const roads = await Promise.all([1, 2, 3, 4, 5].map(() => Road.open(store())));
    const userId = `pager@${roads[0]?.couponId}` as UserId;
    // Two of them were won in the same millisecond.
    const times = [50, 10, 30, 30, 20];
    for (const [i, road] of roads.entries()) {
      await road.commit({ won: [road.won(1, { userId, at: t0 + (times[i] as number) })], next: 2 });
    }
    const found: number[] = [];
    const seen = new Set<string>();
    let pages = 0;
    for (let after: PageEnd | undefined; pages === 0 || after !== undefined; pages++) {
      const page = await store().userCoupons(userId, 2, after);
      for (const { issuedAt, couponId } of page.items) {
        found.push(issuedAt - t0);
        seen.add(couponId);
      }
      after = page.next;
    }
    assert.deepEqual([pages, found, seen.size], [3, [50, 30, 30, 20, 10], 5]);
    const all = await store().userCoupons(userId, 5);
    assert.deepEqual([all.items.length, all.next], [5, undefined]);
    // Behind any place, whether a row is there or not.
    const behind = async (ms: number, couponId: string) => {
      const page = await store().userCoupons(userId, 5, { issuedAt: t0 + ms, couponId: couponId as CouponId });
      return page.items.map(item => item.issuedAt - t0);
    };
    assert.deepEqual(await behind(30, 'z'.repeat(64)), [30, 30, 20, 10]);
    assert.deepEqual(await behind(30, '-'), [20, 10]);
    assert.deepEqual(await behind(-t0, 'a'), []);
    assert.deepEqual(await behind(999_999_999_999_999 - t0, 'a'), [50, 30, 30, 20, 10]);
    assert.deepEqual(await store().userCoupons('nobody' as UserId, 5), { items: [], next: undefined });
  });

  it('redeems once, before it expires, and only for its owner', async () => {
    const road = await Road.open(store(), { validUntil: t0 + 1_000 });
    await road.commit({ won: road.wins(1, 3), next: 4 });
    const redeem = (n: number, slot: number, now: number) => store().redeem(road.user(n), road.couponId, slot, now);
    const [row] = (await store().userCoupons(road.user(1), 1)).items;
    const redeemed = { ...row, redeemedAt: t0 + 500 };
    assert.deepEqual(await redeem(1, 1, t0 + 500), { kind: 'redeemed', row: redeemed });
    assert.deepEqual(await redeem(1, 1, t0 + 600), { kind: 'already', row: redeemed });
    assert.deepEqual(await redeem(1, 1, t0 + 2_000), { kind: 'already', row: redeemed });
    const [second] = (await store().userCoupons(road.user(2), 1)).items;
    assert.deepEqual(await redeem(2, 2, t0 + 1_001), { kind: 'expired', row: second });
    assert.deepEqual(await redeem(2, 3, t0), { kind: 'unknown' });
    assert.equal((await redeem(2, 2, t0 + 1_000)).kind, 'redeemed', 'until then, that moment too');
    assert.deepEqual(await redeem(9, 9, t0), { kind: 'unknown' });
    assert.deepEqual(await store().redeem(road.user(2), 'none' as Road['couponId'], 2, t0), { kind: 'unknown' });
    const atOnce = await Promise.all(Array.from({ length: 8 }, (_, i) => redeem(3, 3, t0 + i)));
    assert.deepEqual(atOnce.map(a => a.kind).sort(), [...Array(7).fill('already'), 'redeemed']);
    assert.deepEqual((await store().userCoupons(road.user(1), 1)).items, [redeemed]);
  });

  it('redeems without end what has no validUntil', async () => {
    const road = await Road.open(store());
    await road.commit({ won: road.wins(1, 1), next: 2 });
    const answer = await store().redeem(road.user(1), road.couponId, 1, t0 * 2);
    assert.equal(answer.kind, 'redeemed');
  });
}

function setAside(store: () => CouponStore): void {
  it('lists what is set aside, oldest first, by partition and coupon, bounded', async () => {
    const road = await Road.open(store(), { stock: 0 });
    const other = new Road(store(), road);
    await other.create({ stock: 0 });
    await road.commit({ won: [road.won(5), other.won(3)], setAside: [road.malformed(9), road.malformed(1)], next: 10 });
    assert.deepEqual(
      (await road.asides()).map(a => a.offset),
      [1, 3, 5, 9],
    );
    assert.deepEqual(
      (await road.asides(2)).map(a => a.offset),
      [1, 3],
    );
    const ofCoupon = await store().setAside({ couponId: other.couponId, limit: Number.MAX_SAFE_INTEGER });
    assert.deepEqual(
      ofCoupon.map(a => [a.offset, a.userId]),
      [[3, other.user(3)]],
    );
    const none = await store().setAside({ partition: road.partition + 1_000_000, couponId: road.couponId, limit: 5 });
    assert.deepEqual(none, []);
  });

  it('keeps bytes as they are, one for each place of each log; a repeat changes nothing', async () => {
    const road = await Road.open(store());
    const odd = 'nul \0, "quote", back\\slash, \u{1f39f}, \ufffd';
    const given = [road.malformed(7, odd), road.unreadable(7, 'AAH//g=='), road.malformed(8, '')];
    await road.commit({ setAside: given, next: 9 });
    await road.commit({ setAside: [...given, ...given] });
    const byPlace = (a: { log: string; offset: number }) => `${a.offset} ${a.log}`;
    const sorted = (list: typeof given) => list.toSorted((a, b) => (byPlace(a) < byPlace(b) ? -1 : 1));
    assert.deepEqual(sorted(await road.asides()), sorted(given));
  });
}

function statistics(store: () => CouponStore): void {
  const update = (road: Road, over: Partial<StatsUpdate>): StatsUpdate => ({
    couponId: road.couponId,
    second: t0,
    issued: 0,
    counts: null,
    firstWonAt: null,
    lastWonAt: null,
    ...over,
  });
  const lost = (n: number) => ({ duplicated: n, closed: 0, not_open: n, sold_out: 2 * n });

  it('has no statistics at first', async () => {
    const empty = { firstWonAt: null, lastWonAt: null, issued: 0, counts: noCounts(), series: [] };
    assert.deepEqual(await store().stats(new Road(store()).couponId, 10, t0), empty);
    await store().saveStats([]);
  });

  it('keeps maxima and minima, so that repeats and late news change nothing', async () => {
    const road = new Road(store());
    const updates = [
      update(road, { issued: 10, firstWonAt: t0 + 5, lastWonAt: t0 + 900 }),
      update(road, { second: t0 + 1_000, issued: 25, firstWonAt: t0 + 1_001, lastWonAt: t0 + 1_900 }),
      update(road, { second: t0 + 1_000, counts: lost(3) }),
      update(road, { second: t0 + 4_000, counts: lost(8) }),
    ];
    await store().saveStats(updates);
    const stats = () => store().stats(road.couponId, 60, t0 + 10_000);
    const first = await stats();
    assert.deepEqual(first, {
      firstWonAt: t0 + 5,
      lastWonAt: t0 + 1_900,
      issued: 25,
      counts: lost(8),
      series: [
        { second: t0, issued: 10, counts: noCounts() },
        { second: t0 + 1_000, issued: 25, counts: lost(3) },
        // Totals: what a second has no news of is as before.
        { second: t0 + 4_000, issued: 25, counts: lost(8) },
      ],
    });
    await store().saveStats(updates.toReversed());
    await store().saveStats([
      update(road, { issued: 4, counts: noCounts(), firstWonAt: t0 + 400, lastWonAt: t0 + 400 }),
    ]);
    assert.deepEqual(await stats(), first);
  });

  it('gives the last seconds asked for, newest last, with the totals of before', async () => {
    const road = new Road(store());
    const updates = [0, 1, 2, 3, 4].map(n => update(road, { second: t0 + n * 1_000, issued: n + 1 }));
    await store().saveStats([update(road, { second: t0 - 1_000, counts: lost(2) }), ...updates]);
    const { series } = await store().stats(road.couponId, 2, t0 + 4_500);
    assert.deepEqual(series, [
      { second: t0 + 3_000, issued: 4, counts: lost(2) },
      { second: t0 + 4_000, issued: 5, counts: lost(2) },
    ]);
  });

  it('drops the seconds that are an hour older than the newest, and no totals', async () => {
    const road = new Road(store());
    const hours = (n: number) => t0 + n * 3_600_000;
    const points = [t0, hours(1), hours(2) + 1_000];
    for (const second of points) await store().saveStats([update(road, { second, issued: 7 })]);
    const { issued, series } = await store().stats(road.couponId, 3 * 3_600, hours(3));
    assert.equal(issued, 7);
    assert.deepEqual(
      series.map(({ second }) => second),
      [hours(2) + 1_000],
    );
  });
}
