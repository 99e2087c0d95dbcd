/**
 * Fills an embedded file as a server would have: the same stages, in transactions of the same kind, without HTTP and
 * without waiting for the disk. Meant for benches: a million requests take half a minute.
 */
import type { CouponId, UserId } from '../src/coupon.ts';
import { encodeEntry, encodeRequest, requestLog } from '../src/entry.ts';
import { createHost, type Host, randomKey } from '../src/host.ts';
import { MemoryBoard } from '../src/memory/board.ts';
import { MemoryLedger } from '../src/memory/ledger.ts';
import { noMetrics } from '../src/metrics.ts';
import { persistStage } from '../src/persist.ts';
import { reserveStage } from '../src/reserve.ts';
import { openDatabase } from '../src/sqlite/database.ts';
import { SqliteLog } from '../src/sqlite/log.ts';
import { SqliteStore } from '../src/sqlite/store.ts';
import { PartitionLoop } from '../src/stage.ts';
import { statsStage } from '../src/stats.ts';

const partition = 0;
/** Requests of one transaction. */
const batch = 5_000;

/** `requests` users each get one of a coupon that has twice as many, so that it stays open. The file is a new one. */
export async function fill(path: string, couponId: CouponId, requests: number): Promise<void> {
  const database = openDatabase(path);
  try {
    database.db.exec('PRAGMA synchronous = OFF');
    const host = createHost();
    const [log, store] = [new SqliteLog(database, host), new SqliteStore(database)];
    const [ledger, board] = [new MemoryLedger(), new MemoryBoard()];
    const tools = { log, store, ledger, board, host, metrics: noMetrics, say() {} };
    const stages = [reserveStage(tools), persistStage(tools), statsStage(store)({ store })];
    const loops = stages.map(stage => new PartitionLoop(stage, partition, tools));
    const stock = 2 * requests;
    const body = { name: couponId, stock, opensAt: null, closesAt: null, validUntil: null, discount: null };
    await store.createCoupon({ couponId, partition, body, createdAt: host.now() });
    const opened = encodeEntry({ type: 'opened', couponId, stock, opensAt: null, closesAt: null });
    log.appendNow(requestLog, partition, [opened]);
    for (let from = 0; from < requests; from += batch) {
      database.begin();
      log.appendNow(requestLog, partition, requestsOf(couponId, from, Math.min(requests, from + batch), host));
      for (const loop of loops) while (await loop.step(0));
      database.commit();
    }
    const [row] = await store.coupons([couponId]);
    if (row?.issued !== requests) throw new Error(`${row?.issued} of ${requests} rows came to be`);
    database.checkpoint();
  } finally {
    database.close();
  }
}

const requestsOf = (couponId: CouponId, from: number, to: number, host: Host): string[] =>
  Array.from({ length: to - from }, (_, i) => encodeRequest(couponId, userOf(from + i), randomKey(host)));

/** In no order, as users come. */
const userOf = (n: number): UserId => `user-${Math.imul(n, 0x9e3779b1) >>> 0}` as UserId;
