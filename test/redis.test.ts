/** What the Redis adapters do when the server is away, hung, full or restarted. A server of their own, to break it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import { type ServiceHandle, type Services, startServices } from '../scripts/services.ts';
import type { CouponId, RequestKey, UserId } from '../src/coupon.ts';
import type { Located } from '../src/entry.ts';
import type { Snapshot } from '../src/ports.ts';
import { createRedisBoard } from '../src/redis/board.ts';
import { createRedisLedger, type RedisLedger } from '../src/redis/ledger.ts';
import type { Holder } from '../src/sale.ts';

const skip = process.env.DIBS_TEST_SERVICES === 'none' && 'no services (DIBS_TEST_SERVICES=none)';
const couponId = 'welcome' as CouponId;
const key = '0123456789abcdef' as RequestKey;
const commandMs = 300;

const snapshot = (holders: Snapshot['holders'] = (async function* () {})()): Snapshot => ({
  frontier: { next: 0, clock: 0, hash: '', strays: { malformed: 0, unknown_coupon: 0 } },
  sales: [
    {
      couponId,
      counts: { duplicated: 0, closed: 0, not_open: 0, sold_out: 0 },
      changes: [{ offset: 0, at: 0, stock: 9, opensAt: null, closesAt: null, closed: false, phase: 'open', key: null }],
    },
  ],
  malformed: [],
  holders,
});
async function* oneHolder(): Snapshot['holders'] {
  yield { couponId, holders: [['u0' as UserId, { slot: 1, offset: 0, key, at: 0 }]] };
}
const entries: Located[] = [{ type: 'request', couponId, userId: 'u1' as UserId, key, offset: 1, at: 1 }];
const batch = { from: 0, next: 2, hash: 'h', entries, alsoCount: [] };

async function buildOf(ledger: RedisLedger): Promise<string> {
  const place = await ledger.rebuild(0, 'log', snapshot(), undefined);
  assert.equal(place.kind, 'present');
  return (place as { build: string }).build;
}

/** Asks until it is answered: the adapters reconnect by themselves, so there is no event to wait for from outside. */
async function answered<T>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      assert.equal((error as Error).name, 'Unavailable');
      await new Promise(resolve => setImmediate(resolve));
    }
  }
}

describe('Redis in trouble', { skip, timeout: 60_000 }, () => {
  let services: Services;
  let server: ServiceHandle;
  let url: string;
  let admin: Redis;
  const lines: string[] = [];
  const log = (_level: string, line: string) => void lines.push(line);
  before(async () => {
    services = await startServices({ own: true, only: ['redis'] });
    server = services.redis as ServiceHandle;
    url = services.redisUrl;
    admin = new Redis(url, { retryStrategy: () => 50 });
    admin.on('error', () => {});
  });
  after(async () => {
    admin.disconnect();
    await services.stop();
  });

  test('away at the start: created all the same, unavailable at once, there when it comes', async t => {
    await server.stop();
    const ledger = createRedisLedger({ url: url.replace('//', '//user:geheim@'), commandMs, log });
    t.after(() => ledger.close());
    const board = createRedisBoard({ url, commandMs, log });
    t.after(() => board.close());
    for (const ask of [
      () => ledger.place(0),
      () => ledger.apply(0, 'b', batch),
      () => ledger.told(0, 'b', 0, 0),
      () => ledger.rebuild(0, 'log', snapshot(), undefined),
      () => ledger.read(0, [{ couponId, userId: 'u1' as UserId, offset: 0 }]),
      () => ledger.sales([{ couponId, partition: 0 }]),
      () => board.read(0, []),
      () => board.announce(0, 1),
    ]) {
      await assert.rejects(ask(), (error: Error) => {
        assert.equal(error.name, 'Unavailable');
        assert.match(error.message, /ECONNREFUSED/);
        assert.doesNotMatch(error.message, /geheim/);
        return true;
      });
    }
    const heard: string[] = [];
    const hinted = Promise.withResolvers<void>();
    const again = Promise.withResolvers<void>();
    await board.subscribe({
      hint: () => hinted.resolve(),
      broken: () => {
        if (heard.push('broken') === 2) again.resolve();
      },
    });
    assert.deepEqual(heard, ['broken'], 'subscribe answers though Redis is away, and says so');
    await server.start();
    await again.promise;
    await answered(() => board.announce(0, 1));
    await hinted.promise;
    assert.ok(!lines.some(line => line.includes('geheim')));
  });

  test('a hung server is unavailable within the bound; what was sent may have been carried out, and is repeated', async t => {
    const ledger = createRedisLedger({ url, prefix: 'hung', commandMs });
    t.after(() => ledger.close());
    const build = await buildOf(ledger);
    server.pause();
    const asked = performance.now();
    await assert.rejects(ledger.apply(0, build, batch), { name: 'Unavailable' });
    assert.ok(performance.now() - asked < 10 * commandMs);
    server.resume();
    const applied = await answered(() => ledger.apply(0, build, batch));
    assert.equal(applied.kind === 'applied' && applied.changes.length, 1);
  });

  test('killed and started empty: unavailable, then missing, then rebuilt', async t => {
    const ledger = createRedisLedger({ url, prefix: 'killed', commandMs });
    t.after(() => ledger.close());
    const build = await buildOf(ledger);
    await server.kill();
    await assert.rejects(ledger.apply(0, build, batch), { name: 'Unavailable' });
    await server.start();
    assert.deepEqual(await answered(() => ledger.apply(0, build, batch)), { kind: 'missing' });
    await buildOf(ledger);
  });

  test('full memory and a read-only replica are unavailable, and nothing is half written', async t => {
    const ledger = createRedisLedger({ url, prefix: 'full', commandMs });
    t.after(() => ledger.close());
    const build = await buildOf(ledger);
    await admin.config('SET', 'maxmemory', '1');
    await assert.rejects(ledger.apply(0, build, batch), { name: 'Unavailable', message: /OOM/ });
    await admin.config('SET', 'maxmemory', '0');
    await admin.replicaof('127.0.0.1', '1');
    await assert.rejects(ledger.apply(0, build, batch), { name: 'Unavailable' });
    await admin.replicaof('NO', 'ONE');
    const applied = await answered(() => ledger.apply(0, build, batch));
    assert.equal(applied.kind === 'applied' && applied.decided, 1);
  });

  test('a replica that refuses writes is said to once, by its reason, and to be back once it takes them', async t => {
    const said: string[] = [];
    const back = Promise.withResolvers<void>();
    const ledger = createRedisLedger({
      ...{ url, prefix: 'replica', commandMs },
      log: (_level, line) => {
        said.push(line);
        if (/connected again/.test(line)) back.resolve();
      },
    });
    t.after(() => ledger.close());
    await buildOf(ledger);
    await admin.replicaof('127.0.0.1', '1');
    for (let refused = 0; refused < 5; ) {
      const rebuilt = ledger.rebuild(0, 'log', snapshot(), undefined);
      await assert.rejects(rebuilt, (error: Error) => {
        if (/refuses: READONLY/.test(error.message)) refused++;
        return error.name === 'Unavailable';
      });
      await new Promise(resolve => setImmediate(resolve));
    }
    await admin.replicaof('NO', 'ONE');
    await back.promise;
    assert.equal(said.length, 2, said.join('\n'));
    assert.match(said[0] as string, /is not connected: READONLY/);
  });

  test('a database that the server does not have is unavailable, and nothing is written to another', async t => {
    const said: string[] = [];
    const ledger = createRedisLedger({
      url: `${url}/99`,
      prefix: 'nowhere',
      commandMs,
      log: (_l, line) => said.push(line),
    });
    t.after(() => ledger.close());
    for (let i = 0; i < 3; i++) {
      const rebuilt = ledger.rebuild(0, 'log', snapshot(), undefined);
      await assert.rejects(rebuilt, { name: 'Unavailable', message: /DB index is out of range/ });
    }
    assert.deepEqual(await admin.keys('nowhere:*'), []);
    assert.match(said.join(), /^[^,]* is not connected: ERR DB index is out of range$/);
  });

  test('a policy that evicts is warned of', async t => {
    await admin.config('SET', 'maxmemory-policy', 'allkeys-lru');
    const warned = Promise.withResolvers<string>();
    const ledger = createRedisLedger({
      url,
      commandMs,
      log: (level, line) => level === 'warn' && warned.resolve(line),
    });
    t.after(() => ledger.close());
    assert.match(await warned.promise, /maxmemory-policy allkeys-lru: set it to noeviction/);
    await admin.config('SET', 'maxmemory-policy', 'noeviction');
  });

  test('a rebuild leaves no keys behind: those of the old build, of a refused one and of a broken one are gone', async t => {
    const ledger = createRedisLedger({ url, prefix: 'tidy', commandMs });
    t.after(() => ledger.close());
    const keys = async () => (await admin.keys('tidy:*')).sort();
    const first = await ledger.rebuild(0, 'log', snapshot(oneHolder()), undefined);
    const old = (first as { build: string }).build;
    assert.deepEqual(await keys(), [`tidy:{0}:holders:${old}:${couponId}`, 'tidy:{0}:state']);
    await ledger.rebuild(0, 'log', snapshot(oneHolder()), undefined);
    assert.equal((await keys()).length, 2, 'refused');
    async function* broken(): Snapshot['holders'] {
      yield* oneHolder();
      throw new Error('the store went away');
    }
    await assert.rejects(ledger.rebuild(0, 'log', snapshot(broken()), old));
    assert.equal((await keys()).length, 2, 'broken');
    const second = await ledger.rebuild(0, 'log', snapshot(oneHolder()), old);
    const holders = `tidy:{0}:holders:${(second as { build: string }).build}:${couponId}`;
    assert.deepEqual(await keys(), [holders, 'tidy:{0}:state']);
    assert.deepEqual([await admin.pttl(holders), await admin.pttl('tidy:{0}:state')], [-1, -1]);
  });

  test('a rebuild of many chunks is whole, however they overlap', async t => {
    const ledger = createRedisLedger({ url, prefix: 'chunks', commandMs });
    t.after(() => ledger.close());
    const many = 3 * 1_234;
    async function* chunks(): Snapshot['holders'] {
      for (let slot = 1; slot <= many; slot += 1_234) {
        const holders = Array.from({ length: 1_234 }, (_, i): [UserId, Holder] => {
          const one = slot + i;
          return [`u${one}` as UserId, { slot: one, offset: one, key, at: one }];
        });
        yield { couponId, holders };
      }
    }
    await ledger.rebuild(0, 'log', snapshot(chunks()), undefined);
    const asked = [1, 1_234, 1_235, many].map(offset => ({ couponId, userId: `u${offset}` as UserId, offset }));
    const views = await ledger.read(0, asked);
    assert.deepEqual(
      views.map(view => view?.holder?.slot),
      asked.map(({ offset }) => offset),
    );
  });

  test('a rebuild has as many coupons, malformed requests and dead letters as there are', async t => {
    const patient = { url, prefix: 'many', commandMs: 15_000 };
    const [ledger, board] = [createRedisLedger(patient), createRedisBoard(patient)];
    t.after(() => Promise.all([ledger.close(), board.close()]));
    // More than a function takes as arguments one by one.
    const malformed = Array.from({ length: 80_000 }, (_, i) => i);
    const [sale] = snapshot().sales;
    const sales = Array.from({ length: 40_000 }, (_, i) => ({ ...(sale as object), couponId: `c${i}` })) as never;
    const next = malformed.length;
    const frontier = { next, clock: 1, hash: 'h', strays: { malformed: next, unknown_coupon: 0 } };
    await ledger.rebuild(0, 'log', { ...snapshot(), sales: [], malformed, frontier }, undefined);
    await ledger.rebuild(1, 'log', { ...snapshot(), sales }, undefined);
    const seen = [await ledger.place(0), await ledger.place(1)].map(({ kind }) => kind);
    assert.deepEqual(seen, ['present', 'present']);
    const setAside = Array.from({ length: 150_000 }, (_, i) => i);
    await board.restore(0, { changeNext: 1, committedNext: next, setAside }, undefined);
    assert.deepEqual((await board.read(0, [79_999]))?.setAside, new Set([79_999]));
  });

  test('holders of a build that is under way expire', async t => {
    const ledger = createRedisLedger({ url, prefix: 'underway', commandMs });
    t.after(() => ledger.close());
    async function* watched(): Snapshot['holders'] {
      yield* oneHolder();
      // The next chunk is asked for while two before are on their way; when this one is taken, the first has arrived.
      yield { couponId, holders: [] };
      yield { couponId, holders: [] };
      const [name] = await admin.keys('underway:*');
      assert.ok((await admin.pttl(name as string)) > 0);
    }
    await ledger.rebuild(0, 'log', snapshot(watched()), undefined);
  });

  test('an address that is none is refused without being shown', () => {
    for (const bad of [
      'geheim',
      'http://geheim',
      'redis//:geheim@host',
      'redis://h:1/geheim',
      'redis://h:1/1/geheim',
    ]) {
      assert.throws(
        () => createRedisLedger({ url: bad }),
        (error: Error) => error.name === 'Refused' && !/geheim/.test(error.message),
      );
    }
  });

  test('closed: unavailable, and closing again is nothing', async () => {
    const ledger = createRedisLedger({ url, commandMs });
    await ledger.close();
    await ledger.close();
    await assert.rejects(ledger.place(0), { name: 'Unavailable' });
  });
});
