/** The queues of the scheduler profile pass those parts of their port's suite that a queue owes; then what is theirs. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { type ServiceHandle, startServices } from '../scripts/services.ts';
import { changeLog, requestLog } from '../src/entry.ts';
import { NotAccepted, OutcomeUnknown, Refused, Unavailable } from '../src/errors.ts';
import { createHost, timers } from '../src/host.ts';
import type { CouponStore, StockLedger } from '../src/ports.ts';
import { takeLease, underLease } from '../src/redis/lease.ts';
import { leaseMs } from '../src/redis/limits.ts';
import { createRedisQueues, type QueueSettings, type RedisQueues } from '../src/redis/queues.ts';
import { eventLogConformance, type NotOwed } from './conformance/event-log.ts';
import { type RedisKeys, redisKeys } from './support/redis-keys.ts';
import { until } from './support/until.ts';

const url = process.env.DIBS_REDIS_URL;

const queue: NotOwed = {
  'reads again': 'what was read from a queue is gone',
  'several readers': 'what one has read the other does not get',
  'alarm when cut': 'a queue that was cut looks like one that was read',
};

if (!url) {
  void test.skip('Redis queues: DIBS_REDIS_URL is not set, so they are NOT tested; `npm test` starts a server');
} else {
  const opened: { close(): Promise<void> }[] = [];
  after(async () => {
    for (const one of opened.reverse()) await one.close();
  });
  const fresh = (): RedisKeys => {
    const keys = redisKeys(url);
    opened.push(keys);
    return keys;
  };
  const open = async (prefix: string, other: Partial<QueueSettings> = {}): Promise<RedisQueues> => {
    const log = await createRedisQueues({ url, prefix, partitions: 2, beginsAt: async () => 0, ...other });
    opened.push(log);
    return log;
  };
  const read = async (log: RedisQueues, from: number, max = 100) => {
    const { entries, next, end } = await log.read(requestLog, 0, from, max, 0);
    return { seen: entries.map(({ offset, text }) => `${offset} ${text}`), next, end };
  };

  eventLogConformance(
    'Redis queues',
    async () => {
      const log = await open(fresh().prefix);
      return { log, close: () => log.close() };
    },
    queue,
  );

  describe('Redis queues', { timeout: 60_000 }, () => {
    test('what waits is there for the next process, under the same identity, and offsets go on', async () => {
      const { prefix } = fresh();
      const [first, second] = [await open(prefix), await open(prefix)];
      await first.append(requestLog, 0, ['a', 'b', 'c', 'd']);
      assert.deepEqual(await read(first, 0, 2), { seen: ['0 a', '1 b'], next: 2, end: 4 });
      await first.close();
      assert.equal(second.identity, first.identity);
      assert.deepEqual(await read(second, 0), { seen: ['2 c', '3 d'], next: 4, end: 4 }, 'a and b died with the first');
      assert.equal(await second.append(requestLog, 0, ['e']), 4);
    });

    test('a batch that failed is read again by the same process, and counts as not handled until it is passed', async () => {
      const log = await open(fresh().prefix);
      await log.append(changeLog, 0, ['x', 'y', 'z']);
      const again = () => log.read(changeLog, 0, 0, 2, 0).then(({ entries }) => entries.map(({ text }) => text));
      assert.deepEqual(
        [await again(), await again()],
        [
          ['x', 'y'],
          ['x', 'y'],
        ],
      );
      assert.equal(await log.unhandled(changeLog, 0), 3);
      assert.equal((await log.read(changeLog, 0, 2, 2, 0)).entries[0]?.text, 'z');
      assert.equal(await log.unhandled(changeLog, 0), 1);
      assert.deepEqual((await log.read(changeLog, 0, 3, 2, 0)).entries, []);
      assert.equal(await log.unhandled(changeLog, 0), 0);
    });

    test('what is being popped at this moment is not handled, whoever asks', async () => {
      const log = await open(fresh().prefix);
      await log.append(changeLog, 0, ['x']);
      await log.append(requestLog, 0, ['warms the script up']);
      await log.read(requestLog, 0, 0, 1, 0);
      const [{ entries }, unhandled] = await Promise.all([
        log.read(changeLog, 0, 0, 1, 0),
        log.unhandled(changeLog, 0),
      ]);
      assert.deepEqual([entries.length, unhandled], [1, 1]);
    });

    test('what is appended while a pop of nothing is under way is not passed over', async () => {
      const log = await open(fresh().prefix);
      const { popper } = log as unknown as { popper: { script(...args: unknown[]): Promise<unknown> } };
      const script = popper.script.bind(popper);
      const popped = Promise.withResolvers<void>();
      const appended = Promise.withResolvers<void>();
      popper.script = async (...args) => {
        const answer = await script(...args);
        popped.resolve();
        await appended.promise;
        return answer;
      };
      const reading = log.read(changeLog, 0, 0, 100, 0);
      await popped.promise;
      assert.equal(await log.append(changeLog, 0, ['x']), 0);
      appended.resolve();
      const { entries, next } = await reading;
      assert.deepEqual([entries, next], [[], 0]);
      assert.equal((await log.read(changeLog, 0, next, 100, 0)).entries[0]?.text, 'x');
    });

    test('offsets are never given twice: neither after all is lost nor after an older copy came back', async () => {
      const { prefix, admin, loseAll, names } = fresh();
      const log = await open(prefix, { beginsAt: async () => 5_000 });
      assert.equal(await log.append(requestLog, 0, ['a', 'b']), 5_000);
      const older = await Promise.all((await names()).map(async name => [name, await admin.dumpBuffer(name)] as const));
      assert.equal(await log.append(requestLog, 0, ['c']), 5_002);
      for (const [name, bytes] of older) await admin.restore(name, 0, bytes as Buffer, 'REPLACE');
      assert.equal(await log.append(requestLog, 0, ['d']), 5_003);
      assert.deepEqual(
        (await read(log, 5_001)).seen,
        ['5001 b', '5003 d'],
        'and what was read before is not given again',
      );
      await loseAll();
      assert.deepEqual(await read(log, 5_004), { seen: [], next: 5_004, end: 5_004 });
      assert.equal(await log.append(requestLog, 0, ['e']), 5_004);
      const beginning = await open(prefix, { beginsAt: async () => 9_000 });
      await loseAll();
      assert.equal(await beginning.append(requestLog, 0, ['f']), 9_000, 'a process that knows nothing asks');
    });

    test('an older copy is put where its reader is, before a process that knows less gives offsets', async () => {
      const { prefix, admin } = fresh();
      const [reader, other] = [await open(prefix), await open(prefix)];
      await other.append(requestLog, 0, ['a']);
      await admin.set(`${prefix}:{0}:queue:${requestLog}:next`, '2');
      await reader.read(requestLog, 0, 9, 100, 0);
      assert.equal(await other.append(requestLog, 0, ['b']), 9);
      assert.deepEqual((await read(reader, 9)).seen, ['9 b']);
    });

    test('a lease has one holder, who may give it back; who comes while it is held is refused with the remedy', async () => {
      const { prefix } = fresh();
      const lost = Promise.withResolvers<string>();
      const settings = { url, prefix, name: 'the schedulers', remedy: 'go away', lost: lost.resolve };
      const first = await takeLease(settings);
      await assert.rejects(takeLease(settings), error => {
        assert.ok(error instanceof Refused);
        assert.equal(error.message, 'another process runs the schedulers here: go away');
        return true;
      });
      await first.close();
      const second = await takeLease(settings);
      opened.push(second);
      const { admin } = fresh();
      await admin.set(`${prefix}:lease:the schedulers`, 'somebody else');
      assert.match(await lost.promise, /another process has taken over the schedulers/);
    });

    test('a holder that stood still holds nothing until Redis has said so again', async () => {
      let stoodMs = 0;
      const host = { ...createHost(), elapsed: () => performance.now() + stoodMs };
      const { prefix, admin } = fresh();
      const lost = Promise.withResolvers<string>();
      const settings = { url, prefix, host, name: 'the schedulers', remedy: 'go away', lost: lost.resolve };
      const lease = await takeLease(settings);
      opened.push(lease);
      const calls: string[] = [];
      const port = new Proxy({}, { get: (_, name) => async () => calls.push(String(name)) });
      const { ledger, store } = underLease({ ledger: port as StockLedger, store: port as CouponStore }, lease);
      const writes = [ledger.apply, ledger.rebuild, store.commit] as (() => Promise<unknown>)[];
      for (const write of writes) await write();
      stoodMs += leaseMs;
      assert.equal(lease.holds(), false);
      for (const write of writes) await assert.rejects(write(), Unavailable);
      await ledger.place(0);
      assert.deepEqual(calls, ['apply', 'rebuild', 'commit', 'place']);
      await until(async () => lease.holds());
      // Another has taken it meanwhile, and given it back.
      await admin.multi().del(lease.key).set(`${lease.key}:taken`, 'another').exec();
      assert.match(await lost.promise, /another process has taken over the schedulers/);
      stoodMs += leaseMs;
      assert.equal(lease.holds(), false);
      const next = await takeLease(settings);
      await next.close();
      assert.deepEqual(
        await admin.mget(lease.key, `${lease.key}:taken`),
        [null, next.holder],
        'it is known who had it',
      );
    });

    test('who does not hold the lease any more neither reads a queue nor puts changes into it', async () => {
      const { prefix, admin } = fresh();
      const lease = { key: `${prefix}:lease:the schedulers`, holder: 'first' };
      const [first, api] = [await open(prefix, { lease: () => lease }), await open(prefix)];
      await admin.set(`${lease.key}:taken`, 'first');
      assert.equal(await first.append(changeLog, 0, ['x', 'y']), 0);
      assert.equal((await first.read(changeLog, 0, 0, 1, 0)).entries.length, 1);
      await admin.set(`${lease.key}:taken`, 'second');
      await assert.rejects(first.append(changeLog, 0, ['z']), NotAccepted);
      await assert.rejects(first.read(changeLog, 0, 1, 1, 0), Unavailable);
      assert.equal(await first.append(requestLog, 0, ['a']), 0, 'anybody may press');
      assert.equal(await api.append(changeLog, 0, ['redriven']), 2);
      const { entries } = await api.read(changeLog, 0, 1, 9, 0);
      assert.deepEqual(
        entries.map(({ text }) => text),
        ['y', 'redriven'],
      );
    });

    test('a Redis that comes back without the lease is told at once who holds it', async t => {
      const services = await startServices({ own: true, only: ['redis'] });
      opened.push({ close: () => services.stop() });
      const server = services.redis as ServiceHandle;
      t.mock.timers.enable({ apis: ['setInterval'] });
      const settings = { name: 'the schedulers', remedy: 'go away', lost: () => {} };
      const lease = await takeLease({ ...settings, url: services.redisUrl });
      opened.push(lease);
      await server.kill();
      await server.start();
      const keys = redisKeys(services.redisUrl);
      opened.push(keys);
      await until(async () => (await keys.admin.get(lease.key)) === lease.holder);
    });

    test('Redis is back with an older copy: who knows few offsets gives none that were given', async () => {
      const services = await startServices({ own: true, only: ['redis'] });
      opened.push({ close: () => services.stop() });
      const server = services.redis as ServiceHandle;
      let beginsAt = 0;
      const settings = { url: services.redisUrl, beginsAt: async () => beginsAt };
      const [reader, other] = [await open('dibs', settings), await open('dibs', settings)];
      assert.equal(await other.append(requestLog, 0, ['a']), 0);
      const keys = redisKeys(services.redisUrl);
      await keys.admin.save();
      await keys.close();
      await reader.append(requestLog, 0, ['b', 'c']);
      assert.deepEqual((await read(reader, 0)).next, 3);
      await server.kill();
      await server.start();
      beginsAt = 700;
      await until(async () => reader.reachable() && other.reachable());
      assert.equal(await other.append(requestLog, 0, ['d']), 700);
      beginsAt = 900;
      assert.equal(await other.append(requestLog, 0, ['e']), 701, 'once a run of Redis');
      assert.deepEqual((await read(reader, 3)).seen, ['700 d', '701 e']);
    });

    test('Redis away: surely not accepted, and it goes on afterwards; hung: the outcome is not known', async () => {
      const services = await startServices({ own: true, only: ['redis'] });
      opened.push({ close: () => services.stop() });
      const server = services.redis as ServiceHandle;
      const log = await open('dibs', { url: services.redisUrl, commandMs: 300, beginsAt: async () => 700 });
      assert.equal(await log.append(requestLog, 0, ['a']), 700);
      server.pause();
      await assert.rejects(log.append(requestLog, 0, ['b']), OutcomeUnknown);
      server.resume();
      await server.kill();
      await until(async () => !log.reachable());
      await assert.rejects(log.append(requestLog, 0, ['c']), NotAccepted);
      await server.start();
      await until(async () => log.reachable());
      assert.equal(await log.append(requestLog, 0, ['d']), 701);
      assert.deepEqual((await read(log, 0)).seen, ['701 d'], 'the others died with Redis');
      await server.kill();
      await assert.rejects(
        createRedisQueues({ url: services.redisUrl, partitions: 1, beginsAt: async () => 0, host: hurried() }),
        /^Refused: DIBS_REDIS_URL: Redis .* does not answer/,
      );
    });
  });
}

/** A host whose clock runs a thousand times as fast, and which never waits long. */
function hurried() {
  const began = Date.now();
  return {
    ...timers,
    now: () => began + (Date.now() - began) * 1_000,
    elapsed: () => (Date.now() - began) * 1_000,
    randomBytes: (n: number) => Buffer.alloc(n),
    delay: (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms / 1_000)),
  };
}
