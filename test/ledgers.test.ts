/** Both ledgers pass the suite of their port; then what only the one in memory and only the one in Redis does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CouponId, UserId } from '../src/coupon.ts';
import type { Change, Located } from '../src/entry.ts';
import { MemoryLedger } from '../src/memory/ledger.ts';
import type { Snapshot } from '../src/ports.ts';
import { createRedisLedger } from '../src/redis/ledger.ts';
import { type LedgerBench, stockLedgerSuite } from './conformance/stock-ledger.ts';
import { k as keyOf } from './support/entries.ts';
import { redisKeys } from './support/redis-keys.ts';

const url = process.env.DIBS_REDIS_URL;

stockLedgerSuite('memory', async () => {
  const ledger = new MemoryLedger();
  return {
    ledger,
    other: ledger,
    loseState: async partition => ledger.clear(partition),
    close: () => ledger.close(),
  };
});

if (url) stockLedgerSuite('redis', () => redisBench(url));
else test('StockLedger: redis', { skip: 'DIBS_REDIS_URL is not set' }, () => {});

async function redisBench(url: string): Promise<LedgerBench> {
  const keys = redisKeys(url);
  const { admin, prefix, loseAll, forgetScripts } = keys;
  const [ledger, other] = [createRedisLedger({ url, prefix }), createRedisLedger({ url, prefix })];
  return {
    ledger,
    other,
    loseState: async partition => void (await admin.unlink(`${prefix}:{${partition}}:state`)),
    faults: {
      async loseHolders(partition, couponId) {
        const build = await admin.hget(`${prefix}:{${partition}}:state`, 'build');
        assert.equal(await admin.unlink(`${prefix}:{${partition}}:holders:${build}:${couponId}`), 1);
      },
      async save(partition) {
        const names = (await keys.names()).filter(key => key.startsWith(`${prefix}:{${partition}}:`));
        const dumps = await Promise.all(names.map(name => admin.dumpBuffer(name)));
        return async () => {
          for (const [i, name] of names.entries()) await admin.restore(name, 0, dumps[i] as Buffer, 'REPLACE');
        };
      },
      loseAll,
      forgetScripts,
    },
    async close() {
      await ledger.close();
      await other.close();
      await keys.close();
    },
  };
}

const couponId = 'welcome' as CouponId;
const snapshot = (): Snapshot => ({
  frontier: { next: 0, clock: 0, hash: '', strays: { malformed: 0, unknown_coupon: 0 } },
  sales: [],
  malformed: [],
  holders: (async function* () {})(),
});

test('memory: a replica that follows the change log reads as the ledger that decided', async () => {
  const [decider, replica] = [new MemoryLedger(), new MemoryLedger()];
  const place = await decider.rebuild(0, 'log', snapshot(), undefined);
  const build = (place as { build: string }).build;
  const entries: Located[] = [
    { type: 'opened', couponId, stock: 1, opensAt: null, closesAt: null, offset: 0, at: 1 },
    { type: 'request', couponId, userId: 'u1' as UserId, key: keyOf(1), offset: 1, at: 2 },
    { type: 'request', couponId, userId: 'u2' as UserId, key: keyOf(2), offset: 2, at: 3 },
  ];
  const applied = await decider.apply(0, build, { from: 0, next: 3, hash: 'h', entries, alsoCount: [] });
  assert.ok(applied.kind === 'applied' && applied.frontier);
  await decider.told(0, build, 0, 3);
  const mark: Change = { type: 'mark', from: 0, ...applied.frontier };

  for (const change of [...applied.changes, mark]) replica.follow(0, change);
  assert.deepEqual(await replica.place(0), { kind: 'missing' }, 'without state there is nothing to follow');
  await replica.rebuild(0, 'log', snapshot(), undefined);
  for (let times = 0; times < 2; times++) for (const change of [...applied.changes, mark]) replica.follow(0, change);
  assert.deepEqual(await replica.place(0), await decider.place(0));
  const queries = ['u1', 'u2'].map(userId => ({ couponId, userId: userId as UserId, offset: 1 }));
  assert.deepEqual(await replica.read(0, queries), await decider.read(0, queries));
});
