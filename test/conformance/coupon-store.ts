/** What every CouponStore promises (src/ports.ts), asked of the real thing. Reads: coupon-store-reads.ts. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { UserId } from '../../src/coupon.ts';
import { decodeChange } from '../../src/entry.ts';
import { Refused } from '../../src/errors.ts';
import type { CouponStore } from '../../src/ports.ts';
import { body, collected, Road, t0, zero } from './coupon-road.ts';
import { couponStoreReads } from './coupon-store-reads.ts';

export interface CouponStoreUnderTest {
  /** Empty. */
  store: CouponStore;
  /** The store refuses rows of this user for good from now on, by a trigger that raises. */
  refuse(userId: UserId): Promise<void>;
  /** The cause is gone. */
  allow(userId: UserId): Promise<void>;
  /** Closes the store, too; called once. */
  close(): Promise<void>;
}

export function couponStoreConformance(name: string, make: () => Promise<CouponStoreUnderTest>): void {
  describe(`${name} as CouponStore`, () => {
    let made: CouponStoreUnderTest;
    before(async () => {
      made = await make();
    });
    after(async () => {
      await made?.store.close();
      await made?.close();
    });
    describe('coupons', () => createsCoupons(() => made.store));
    describe('commit', () => commits(() => made.store));
    describe('commit, refused rows', () => setsAside(() => made));
    describe('reads', () => couponStoreReads(() => made));
    describe('claim', () => claims(() => made.store));
  });
}

function createsCoupons(store: () => CouponStore): void {
  it('creates a coupon once; whoever comes later gets the row that is there', async () => {
    const road = new Road(store());
    const first = await road.create({ stock: 5, name: 'nul \0, quote \', "double", \u{1f39f}' });
    assert.equal(first.created, true);
    assert.deepEqual(first.row, {
      couponId: road.couponId,
      partition: road.partition,
      body: body({ stock: 5, name: 'nul \0, quote \', "double", \u{1f39f}' }),
      createdAt: t0,
      stock: 5,
      closed: false,
      issued: 0,
      firstIssuedAt: null,
      lastIssuedAt: null,
    });
    const later = await road.create({ stock: 6 }, t0 + 1);
    assert.deepEqual(later, { row: first.row, created: false });
    assert.deepEqual(await road.row(), first.row);
  });

  it('lets one of many that create at the same time win, and all see the same row', async () => {
    const road = new Road(store());
    const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => road.create({ stock: i + 1 })));
    assert.equal(answers.filter(a => a.created).length, 1);
    for (const { row } of answers) assert.deepEqual(row, answers[0]?.row);
  });

  it('lists coupons newest first, bounded, and gives those asked for that exist', async () => {
    const [older, newer] = [new Road(store()), new Road(store())];
    await older.create({}, t0 + 1_000_000);
    await newer.create({}, t0 + 2_000_000);
    const listed = await store().listCoupons(2);
    assert.deepEqual(
      listed.map(r => r.couponId),
      [newer.couponId, older.couponId],
    );
    const asked = await store().coupons([older.couponId, 'none' as Road['couponId']]);
    assert.deepEqual(
      asked.map(r => r.couponId),
      [older.couponId],
    );
    assert.deepEqual(await store().coupons([]), []);
  });
}

function commits(store: () => CouponStore): void {
  it('starts at a checkpoint of zeros', async () => {
    assert.deepEqual(await store().checkpoint(new Road(store()).partition), zero());
  });

  it('writes sale, rows, what is set aside and the checkpoint', async () => {
    const road = new Road(store());
    await road.create({ stock: 3 });
    const batch = road.batch({
      sales: [road.sale(0, { stock: 3 }), road.sale(7, { stock: 3, phase: 'sold_out' })],
      won: [road.won(1, { offset: 2 }), road.won(2, { offset: 4 }), road.won(3, { offset: 7 })],
      setAside: [road.malformed(5)],
      counts: { [road.couponId]: { duplicated: 1, closed: 2, not_open: 3, sold_out: 4 } },
      next: 8,
    });
    const committed = await store().commit(road.partition, batch);
    assert.deepEqual(committed, { kind: 'committed', inserted: 3, refused: [], restored: [] });
    assert.deepEqual(await store().checkpoint(road.partition), batch.checkpoint);
    const { issued, stock, closed, firstIssuedAt, lastIssuedAt } = await road.row();
    assert.deepEqual([issued, stock, closed, firstIssuedAt, lastIssuedAt], [3, 3, false, t0 + 1, t0 + 3]);
    const rows = (await collected(store().rows(road.couponId))).flat();
    assert.deepEqual(rows[1], {
      couponId: road.couponId,
      userId: road.user(2),
      slot: 2,
      offset: 4,
      key: road.won(2).key,
      issuedAt: t0 + 2,
      redeemedAt: null,
    });
    assert.deepEqual(await road.asides(), [road.malformed(5)]);
  });

  it('answers moved, with the checkpoint, to a batch that begins elsewhere, and writes nothing of it', async () => {
    const road = await Road.open(store());
    const batch = road.batch({ won: road.wins(1, 3), next: 4 });
    await store().commit(road.partition, batch);
    for (const repeat of [batch, { ...road.batch({ won: [road.won(9)], next: 10 }), expectChangeNext: 999 }]) {
      const answer = await store().commit(road.partition, repeat);
      assert.deepEqual(answer, { kind: 'moved', checkpoint: batch.checkpoint });
    }
    assert.deepEqual(
      (await road.slots()).map(([slot]) => slot),
      [1, 2, 3],
    );
    assert.deepEqual(await store().checkpoint(road.partition), batch.checkpoint);
    const empty = new Road(store());
    const answer = await store().commit(empty.partition, { ...empty.batch(), expectChangeNext: 1 });
    assert.deepEqual(answer, { kind: 'moved', checkpoint: zero() });
  });

  it('lets one of two commits of the same batch at once win; the other is moved', async () => {
    const road = await Road.open(store());
    const batch = road.batch({ won: road.wins(1, 50), next: 51 });
    const answers = await Promise.all([1, 2, 3].map(() => store().commit(road.partition, batch)));
    assert.deepEqual(answers.map(a => a.kind).sort(), ['committed', 'moved', 'moved']);
    assert.equal((await road.row()).issued, 50);
  });

  it('takes rows that are there, or twice in a batch, as repeats', async () => {
    const road = await Road.open(store());
    await road.commit({ won: road.wins(1, 3), next: 4 });
    const again = await road.commit({ won: [...road.wins(1, 5), ...road.wins(3, 5)], next: 6 });
    assert.deepEqual(again, { kind: 'committed', inserted: 2, refused: [], restored: [] });
    assert.equal((await road.row()).issued, 5);
    assert.deepEqual(await road.asides(), []);
  });

  it('keeps changes before their mark, and the frontier where the last mark left it', async () => {
    const road = await Road.open(store());
    await road.commit({ won: road.wins(1, 2) });
    const { changeNext, next, clock, hash } = await store().checkpoint(road.partition);
    assert.deepEqual([changeNext, next, clock, hash], [road.checkpoint.changeNext, 1, t0 + 1, 'h1']);
    assert.equal((await road.row()).issued, 2);
  });

  it('commits a batch without rows', async () => {
    const road = new Road(store());
    const committed = await road.commit({ next: 3 });
    assert.deepEqual(committed, { kind: 'committed', inserted: 0, refused: [], restored: [] });
    assert.deepEqual(await store().checkpoint(road.partition), road.checkpoint);
  });

  it('lets the coupon row follow the latest sale change only, and only one that is new', async () => {
    const road = await Road.open(store(), { stock: 10 });
    const terms = async () => {
      const { stock, closed } = await road.row();
      return [stock, closed];
    };
    await road.commit({
      sales: [road.sale(5, { stock: 20 }), road.sale(9, { stock: 30, closed: true, phase: 'closed' })],
    });
    assert.deepEqual(await terms(), [30, true]);
    // A repeat, an older one that is there, one that is there with other content, and an older one that is not.
    await road.commit({ sales: [road.sale(5, { stock: 20 })] });
    await road.commit({
      sales: [road.sale(9, { stock: 99 }), road.sale(0, { stock: 10 }), road.sale(7, { stock: 25 })],
    });
    assert.deepEqual(await terms(), [30, true]);
    await road.commit({ sales: [road.sale(12, { stock: 40 }), road.sale(11, { stock: 35 })], next: 20 });
    assert.deepEqual(await terms(), [40, false]);
    const [view] = await store().read(road.partition, [{ couponId: road.couponId, userId: road.user(1), offset: 19 }]);
    assert.deepEqual(
      view?.changes.map(c => [c.offset, c.stock]),
      [
        [0, 10],
        [5, 20],
        [7, 25],
        [9, 30],
        [11, 35],
        [12, 40],
      ],
    );
  });

  it('makes room by a sale change for the rows of the same batch', async () => {
    const road = await Road.open(store(), { stock: 1 });
    const committed = await road.commit({ won: road.wins(1, 3), sales: [road.sale(2, { stock: 3 })], next: 4 });
    assert.deepEqual([committed.inserted, committed.refused], [3, []]);
  });

  it('writes for several coupons of a partition at once', async () => {
    const road = await Road.open(store());
    const other = new Road(store(), road);
    await other.create();
    await road.commit({ won: road.wins(1, 2).concat(other.wins(3, 5)), sales: [other.sale(2)], next: 6 });
    assert.deepEqual([(await road.row()).issued, (await other.row()).issued], [2, 3]);
  });
}

function setsAside(made: () => CouponStoreUnderTest): void {
  const open = (over = {}) => Road.open(made().store, over);

  it('sets aside a winner whose slot or user has another row; the others go in', async () => {
    const road = await open();
    await road.commit({ won: road.wins(1, 3), next: 4 });
    const slotTaken = road.won(9, { slot: 2, offset: 4 });
    const userHolds = road.won(4, { userId: road.user(3), offset: 5 });
    const otherOffset = road.won(1, { offset: 6 });
    const bad = [slotTaken, userHolds, otherOffset];
    const committed = await road.commit({ won: [...bad, road.won(5, { offset: 7 }), road.won(1)], next: 8 });
    assert.equal(committed.inserted, 1);
    assert.deepEqual(
      committed.refused.map(a => a.offset),
      [4, 5, 6],
    );
    const kept = await road.asides();
    assert.deepEqual(
      kept.toSorted((a, b) => a.offset - b.offset),
      committed.refused,
    );
    for (const [i, won] of bad.entries()) {
      const aside = committed.refused[i];
      assert.match(aside?.reason ?? '', /^refused_by_store: ./);
      assert.deepEqual(
        [aside?.couponId, aside?.userId, aside?.slot, aside?.key, aside?.at],
        [won.couponId, won.userId, won.slot, won.key, won.at],
      );
      const { v: _, ...change } = decodeChange({ offset: 0, at: 0, text: aside?.bytes ?? '' }) as never as { v: 1 };
      assert.deepEqual(change, won);
    }
    assert.deepEqual(
      (await road.slots()).map(([slot]) => slot),
      [1, 2, 3, 5],
    );
    assert.equal((await road.row()).issued, 4);
    assert.deepEqual(await made().store.checkpoint(road.partition), road.checkpoint);
  });

  it('sets aside the later of two winners of a slot, or of two wins of a user, in one batch', async () => {
    const road = await open();
    const won = [road.won(1), road.won(2, { slot: 1 }), road.won(3, { slot: 2, userId: road.user(1) }), road.won(4)];
    const committed = await road.commit({ won, next: 5 });
    assert.deepEqual([committed.inserted, committed.refused.map(a => a.offset)], [2, [2, 3]]);
    assert.deepEqual(await road.slots(), [
      [1, road.user(1)],
      [4, road.user(4)],
    ]);
  });

  it('sets aside winners of a coupon that has no row, or one in another partition', async () => {
    const road = await open();
    const [none, elsewhere] = [new Road(made().store), await open()];
    const won = [road.won(1), none.won(2), elsewhere.won(3)];
    const committed = await road.commit({ won, next: 4 });
    assert.deepEqual([committed.inserted, committed.refused.map(a => a.offset)], [1, [2, 3]]);
    assert.equal((await elsewhere.row()).issued, 0);
  });

  it('finds the rows that are refused for good among good ones', async () => {
    const road = await open({ stock: 200 });
    const bad = [1, 2, 77, 149, 150];
    for (const n of bad) await made().refuse(road.user(n));
    const committed = await road.commit({
      won: road.wins(1, 150),
      sales: [road.sale(151, { stock: 200, closed: true, phase: 'closed' })],
      setAside: [road.malformed(152)],
      counts: { [road.couponId]: { duplicated: 7, closed: 0, not_open: 0, sold_out: 0 } },
      next: 153,
    });
    assert.equal(committed.inserted, 145);
    assert.deepEqual(
      committed.refused.map(a => a.offset),
      bad,
    );
    for (const { reason } of committed.refused) assert.match(reason, /^refused_by_store: ./);
    const { issued, closed, firstIssuedAt, lastIssuedAt } = await road.row();
    assert.deepEqual([issued, closed, firstIssuedAt, lastIssuedAt], [145, true, t0 + 3, t0 + 148]);
    assert.deepEqual(
      (await road.asides()).map(a => a.offset),
      [...bad, 152],
    );
    assert.deepEqual(await made().store.checkpoint(road.partition), road.checkpoint);
    const counts = await made().store.withSnapshot(road.partition, async s => s.sales[0]?.counts);
    assert.equal(counts?.duplicated, 7);
    for (const n of bad) await made().allow(road.user(n));
  });

  it('goes on when every row of a batch is refused', async () => {
    const road = await open();
    for (let n = 1; n <= 4; n++) await made().refuse(road.user(n));
    const committed = await road.commit({ won: road.wins(1, 4), next: 5 });
    assert.deepEqual([committed.inserted, committed.refused.length], [0, 4]);
    assert.deepEqual([(await road.row()).issued, await road.slots()], [0, []]);
    assert.equal((await made().store.checkpoint(road.partition)).next, 5);
  });

  it('never issues beyond the stock: what would is set aside, the earliest go in', async () => {
    const road = await open({ stock: 2 });
    const first = await road.commit({ won: road.wins(1, 5), next: 6 });
    assert.deepEqual([first.inserted, first.refused.map(a => a.offset)], [2, [3, 4, 5]]);
    const second = await road.commit({ won: [road.won(1), road.won(7)], next: 8 });
    assert.deepEqual([second.inserted, second.refused.map(a => a.offset)], [0, [7]]);
    assert.equal((await road.row()).issued, 2);
    assert.deepEqual(await road.slots(), [
      [1, road.user(1)],
      [2, road.user(2)],
    ]);
  });

  it('sets aside a slot below 1', async () => {
    const road = await open();
    const committed = await road.commit({ won: [road.won(1), road.won(2, { slot: 0 })], next: 3 });
    assert.deepEqual(
      committed.refused.map(a => [a.offset, a.slot]),
      [[2, 0]],
    );
    assert.equal(committed.inserted, 1);
  });

  it('sets aside once a winner that stands twice in a batch, as after two redrives', async () => {
    const road = await open();
    await made().refuse(road.user(2));
    const committed = await road.commit({ won: [...road.wins(1, 3), road.won(2), road.won(3)], next: 4 });
    assert.deepEqual([committed.inserted, committed.refused.map(a => a.offset)], [2, [2]]);
    assert.deepEqual(
      (await road.asides()).map(a => a.offset),
      [2],
    );
    await made().allow(road.user(2));
  });

  it('does not set aside who has a row, when what refuses it came later', async () => {
    const road = await open();
    await road.commit({ won: road.wins(1, 2), next: 3 });
    await made().refuse(road.user(2));
    const repeated = await road.commit({ won: [road.won(2)] });
    assert.deepEqual(repeated, { kind: 'committed', inserted: 0, refused: [], restored: [] });
    assert.deepEqual(await road.asides(), []);
    await made().allow(road.user(2));
  });

  it('redrives: the same win again has its row once the cause is gone, and is set aside no more', async () => {
    const road = await open();
    await made().refuse(road.user(2));
    await road.commit({ won: road.wins(1, 3), next: 4 });
    const still = await road.commit({ won: [road.won(2)] });
    assert.deepEqual([still.inserted, still.refused.map(a => a.offset), still.restored], [0, [2], []]);
    assert.equal((await road.asides()).length, 1);
    await made().allow(road.user(2));
    const redriven = await road.commit({ won: [road.won(2)] });
    assert.deepEqual(redriven, { kind: 'committed', inserted: 1, refused: [], restored: [2] });
    assert.deepEqual(await road.asides(), []);
    assert.equal((await road.row()).issued, 3);
    const repeated = await road.commit({ won: [road.won(2)] });
    assert.deepEqual(repeated, { kind: 'committed', inserted: 0, refused: [], restored: [] });
  });

  it('redrives among rows that are refused', async () => {
    const road = await open({ stock: 1 });
    await road.commit({ won: road.wins(1, 3), next: 4 });
    await made().refuse(road.user(4));
    const redriven = await road.commit({ won: road.wins(2, 4), sales: [road.sale(4, { stock: 4 })], next: 5 });
    assert.deepEqual([redriven.inserted, redriven.refused.map(a => a.offset)], [2, [4]]);
    assert.deepEqual(redriven.restored, [2, 3]);
    assert.deepEqual(
      (await road.asides()).map(a => a.offset),
      [4],
    );
  });
}

function claims(store: () => CouponStore): void {
  it('notes whose rows these are, and refuses another log or secret, without printing the secret', async () => {
    await store().claim({ log: 'log-one', secret: 'fingerprint-one' });
    await store().claim({ log: 'log-one', secret: 'fingerprint-one' });
    await assert.rejects(store().claim({ log: 'log-two', secret: 'fingerprint-one' }), (error: Error) => {
      assert.ok(error instanceof Refused);
      assert.match(error.message, /log/);
      return true;
    });
    await assert.rejects(store().claim({ log: 'log-one', secret: 'fingerprint-two' }), (error: Error) => {
      assert.ok(error instanceof Refused);
      assert.match(error.message, /secret/i);
      assert.doesNotMatch(error.message, /fingerprint/);
      return true;
    });
    await store().claim({ log: 'log-one', secret: 'fingerprint-one' });
  });
}
