import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { CouponBody, CouponId, UserId } from '../src/coupon.ts';
import { requestLog, type SaleChanged, type Won } from '../src/entry.ts';
import { Alarm, Unavailable } from '../src/errors.ts';
import { createHost } from '../src/host.ts';
import type { Checkpoint, CouponReader, StoreBatch } from '../src/ports.ts';
import { openDatabase } from '../src/sqlite/database.ts';
import { SqliteLog } from '../src/sqlite/log.ts';
import { SqliteStore } from '../src/sqlite/store.ts';
import { SqliteReader } from '../src/sqlite/store-read.ts';
import { heldIn } from './conformance/coupon-road.ts';
import { couponStoreConformance } from './conformance/coupon-store.ts';
import { k } from './support/entries.ts';

const folder = mkdtempSync(join(tmpdir(), 'dibs-sqlite-store-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;

couponStoreConformance('SQLite', async () => {
  const database = openDatabase(join(folder, `${++files}.db`));
  database.db.exec(`CREATE TEMP TABLE barred (user_id TEXT PRIMARY KEY);
    CREATE TEMP TRIGGER barred_users BEFORE INSERT ON main.user_coupon
    WHEN EXISTS (SELECT 1 FROM barred WHERE user_id = new.user_id)
    BEGIN SELECT RAISE(ABORT, 'this user is barred'); END`);
  return {
    store: new SqliteStore(database),
    async refuse(userId) {
      database.db.prepare('INSERT INTO barred VALUES (?)').run(userId);
    },
    async allow(userId) {
      database.db.prepare('DELETE FROM barred WHERE user_id = ?').run(userId);
    },
    async close() {
      database.close();
    },
  };
});

const welcome = 'welcome' as CouponId;
const body: CouponBody = { name: 'Welcome', stock: 5, opensAt: null, closesAt: null, validUntil: null, discount: null };
const opened: SaleChanged = {
  type: 'sale',
  couponId: welcome,
  ...{ offset: 0, at: 10, stock: 5, opensAt: null, closesAt: null, closed: false, phase: 'open', key: null },
};
const won = (slot: number, user = `u${slot}`, offset = slot): Won => ({
  ...{ type: 'won', couponId: welcome, userId: user as UserId, slot, offset, at: 100 + offset },
  key: k(offset),
});
const at = (changeNext: number, next = 1_000): Checkpoint => ({
  ...{ changeNext, changeHash: `c${changeNext}`, next, clock: 1, hash: 'h' },
  strays: { malformed: 0, unknown_coupon: 0 },
});
const batchOf = (from: number, to: number, winners: Won[], sales: SaleChanged[] = []): StoreBatch => ({
  ...{ expectChangeNext: from, checkpoint: at(to), won: winners, sales, setAside: [], counts: {} },
});

async function open(stock = body.stock) {
  const path = join(folder, `${++files}.db`);
  const database = openDatabase(path);
  const store = new SqliteStore(database);
  await store.createCoupon({ couponId: welcome, partition: 0, body: { ...body, stock }, createdAt: 1 });
  await store.commit(0, batchOf(0, 1, [], [{ ...opened, stock }]));
  return { path, database, store };
}

async function usersOf(store: CouponReader): Promise<string[]> {
  const users: string[] = [];
  for await (const rows of store.rows(welcome)) users.push(...rows.map(row => row.userId));
  return users;
}

test('one transaction carries the log and the rows; readers see both or neither', async () => {
  const { path, database, store } = await open();
  const log = new SqliteLog(database, createHost());
  const file = openDatabase(path, { readOnly: true });
  const reader = new SqliteReader(file);
  database.begin();
  await log.append(requestLog, 0, ['a request']);
  await store.commit(0, batchOf(1, 2, [won(1)]));
  assert.deepEqual(await usersOf(store), ['u1']);
  assert.deepEqual(await usersOf(reader), []);
  assert.equal((await reader.checkpoint(0)).changeNext, 1);
  database.rollback();
  assert.deepEqual(await usersOf(store), []);
  assert.equal(await log.end(requestLog, 0), 0);
  database.begin();
  await log.append(requestLog, 0, ['a request']);
  await store.commit(0, batchOf(1, 2, [won(1)]));
  database.commit();
  assert.deepEqual(await usersOf(reader), ['u1']);
  assert.deepEqual(await reader.checkpoint(0), at(2));
  database.close();
  file.close();
});

test('a refusal sets aside its row only, inside a transaction of the caller too', async () => {
  const { database, store } = await open();
  database.db.exec(`CREATE TRIGGER no_bob BEFORE INSERT ON user_coupon WHEN new.user_id = 'bob'
    BEGIN SELECT RAISE(ABORT, 'bob is barred'); END`);
  database.begin();
  const batch = [won(1), won(2, 'bob'), won(3, 'u1', 3), won(1, 'late', 4), won(0, 'zero', 5), won(4, 'u4', 6)];
  const result = await store.commit(0, batchOf(1, 2, batch));
  database.commit();
  assert.ok(result.kind === 'committed');
  assert.equal(result.inserted, 2);
  assert.deepEqual(
    result.refused.map(r => [r.offset, r.reason]),
    [
      [2, 'refused_by_store: bob is barred'],
      [3, 'refused_by_store: user u1 holds slot 1 since offset 1'],
      [4, 'refused_by_store: slot 1 is held by user u1 since offset 1'],
      [5, 'refused_by_store: CHECK constraint failed: slot >= 1'],
    ],
  );
  assert.deepEqual(await usersOf(store), ['u1', 'u4']);
  assert.deepEqual(await store.setAside({ limit: 9 }), result.refused);
  const [coupon] = await store.coupons([welcome]);
  assert.deepEqual([coupon?.issued, coupon?.firstIssuedAt, coupon?.lastIssuedAt], [2, 101, 106]);
  database.db.exec('DROP TRIGGER no_bob');
  const again = await store.commit(0, batchOf(2, 3, [won(2, 'bob')]));
  assert.deepEqual(again, { kind: 'committed', inserted: 1, refused: [], restored: [2] });
  assert.equal((await store.setAside({ limit: 9 })).length, 3);
  database.close();
});

test('winners beyond the stock are set aside; repeats of full coupons are not', async () => {
  const { database, store } = await open(2);
  const result = await store.commit(0, batchOf(1, 2, [won(1), won(2), won(3), won(1)]));
  assert.ok(result.kind === 'committed');
  assert.deepEqual([result.inserted, result.refused.map(r => r.offset)], [2, [3]]);
  const repeat = await store.commit(0, batchOf(2, 3, [won(1), won(2)]));
  assert.deepEqual(repeat, { kind: 'committed', inserted: 0, refused: [], restored: [] });
  assert.throws(() => database.db.exec('UPDATE coupon SET issued = 3'), /issued <= stock/);
  database.close();
});

test('a coupon without a row, or of another partition, gets no winners', async () => {
  const { database, store } = await open();
  const nowhere = await store.commit(0, batchOf(1, 2, [{ ...won(1), couponId: 'nowhere' as CouponId }]));
  const elsewhere = await store.commit(3, batchOf(0, 1, [won(1)]));
  for (const result of [nowhere, elsewhere]) assert.ok(result.kind === 'committed' && result.refused.length === 1);
  assert.deepEqual(await usersOf(store), []);
  database.close();
});

test('a sale change that the tables refuse stops persist and writes nothing', async () => {
  const { database, store } = await open();
  const bad = { ...opened, offset: 7, stock: -1 };
  await assert.rejects(store.commit(0, batchOf(1, 2, [won(1)], [bad])), Alarm);
  assert.deepEqual(await usersOf(store), []);
  assert.equal((await store.checkpoint(0)).changeNext, 1);
  database.close();
});

test('a full disk refuses the turn, and everything goes on when there is room', async () => {
  const { database, store } = await open(100_000);
  const log = new SqliteLog(database, createHost());
  const { page_count: pages } = database.db.prepare('PRAGMA page_count').get() as { page_count: number };
  database.db.exec(`PRAGMA max_page_count = ${pages + 30}`);
  let next = 1;
  const turn = async () => {
    database.begin();
    try {
      await log.append(requestLog, 0, [`request ${next}`]);
      const winners = Array.from({ length: 50 }, (_, i) => won((next - 1) * 50 + i + 1));
      await store.commit(0, batchOf(next, next + 1, winners));
      database.commit();
      next++;
    } finally {
      database.rollback();
    }
  };
  await assert.rejects(
    async () => {
      for (;;) await turn();
    },
    (error: Error) => error instanceof Unavailable || error.name === 'NotAccepted',
  );
  const check = async () => {
    assert.equal((await usersOf(store)).length, (next - 1) * 50);
    assert.equal((await store.coupons([welcome]))[0]?.issued, (next - 1) * 50);
    assert.equal(await log.end(requestLog, 0), next - 1);
    assert.equal((await store.checkpoint(0)).changeNext, next);
  };
  assert.ok(next > 1);
  await check();
  database.db.exec(`PRAGMA max_page_count = ${pages + 3_000}`);
  for (let i = 0; i < 5; i++) await turn();
  await check();
  database.close();
});

test('a snapshot stays as it was while rows are written, and may be read twice', async () => {
  const { database, store } = await open(30_000);
  const winners = Array.from({ length: 25_000 }, (_, i) => won(i + 1));
  await store.commit(0, { ...batchOf(1, 2, winners), checkpoint: at(2, 24_001) });
  await store.withSnapshot(0, async snapshot => {
    await store.commit(0, { ...batchOf(2, 3, [won(25_001)]), checkpoint: at(3, 30_000) });
    assert.equal(snapshot.frontier.next, 24_001);
    for (let pass = 0; pass < 2; pass++) {
      const holders = await heldIn(snapshot);
      assert.equal(holders.length, 24_000);
      const { slot, offset, key, at } = won(24_000);
      assert.deepEqual(holders[23_999], ['u24000', { slot, offset, key, at }]);
    }
  });
  assert.equal((await store.withSnapshot(0, heldIn)).length, 25_001);
  database.close();
});
