import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { requestLog } from '../src/entry.ts';
import { Alarm, Unavailable } from '../src/errors.ts';
import { drainMsMax, groupCommitMs, idleTickMs, retryMsMax, retryMsMin } from '../src/limits.ts';
import { noMetrics } from '../src/metrics.ts';
import { backoffMs } from '../src/retry.ts';
import { type Batch, done, PartitionLoop, runStage, type Stage, type Verdict } from '../src/stage.ts';
import { fakeHost } from './support/fake-host.ts';
import { LogDouble } from './support/log-double.ts';

function setUp(stage: Partial<Stage> = {}, entries = 0) {
  const host = fakeHost();
  const log = new LogDouble(host);
  const said: string[] = [];
  const batches: Batch[] = [];
  const begins: number[] = [];
  const tools = { log, host, metrics: noMetrics, say: (level: string, m: string) => said.push(`${level} ${m}`) };
  const whole: Stage = {
    name: 'test',
    log: requestLog,
    batchMax: 4,
    gatherMs: 0,
    async begin(partition) {
      begins.push(partition);
      return 0;
    },
    async handle(batch) {
      batches.push(batch);
      return done;
    },
    ...stage,
  };
  log.put(
    requestLog,
    0,
    Array.from({ length: entries }, (_, i) => `e${i}`),
  );
  const loop = new PartitionLoop(whole, 0, tools);
  return { host, log, said, batches, begins, tools, stage: whole, loop };
}

const textsOf = (batch: Batch | undefined) => batch?.entries.map(entry => entry.text);

suite('one partition, step by step', () => {
  test('begins at the place of the truth, once, and hands over batches in order', async () => {
    const { loop, batches, begins } = setUp({}, 6);
    assert.equal(await loop.step(0), true);
    assert.equal(await loop.step(0), true);
    assert.equal(await loop.step(0), false);
    assert.deepEqual(batches.map(textsOf), [
      ['e0', 'e1', 'e2', 'e3'],
      ['e4', 'e5'],
    ]);
    assert.deepEqual(
      batches.map(({ partition, from, next, end }) => [partition, from, next, end]),
      [
        [0, 0, 4, 6],
        [0, 4, 6, 6],
      ],
    );
    assert.deepEqual(begins, [0]);
  });
  test('goes back to where the handler says, without asking for the place again', async () => {
    let sentBack = false;
    const { loop, begins } = setUp(
      {
        async handle({ from }): Promise<Verdict> {
          if (from === 0 || sentBack) return done;
          sentBack = true;
          return { kind: 'go_back', to: 2 };
        },
      },
      8,
    );
    await loop.step(0);
    await loop.step(0);
    assert.equal(loop.place, 2);
    await loop.step(0);
    assert.equal(loop.place, 6);
    assert.deepEqual(begins, [0]);
  });
  test('an error is thrown on, and the next step begins from the truth', async () => {
    let fail = true;
    const { loop, begins, batches, stage } = setUp({}, 2);
    const { handle } = stage;
    stage.handle = async batch => {
      if (fail) throw new Unavailable('redis is away');
      return handle(batch);
    };
    await assert.rejects(loop.step(0), /redis is away/);
    assert.equal(loop.lag().state, 'retrying');
    assert.equal(loop.lag().error, 'redis is away');
    fail = false;
    await loop.step(0);
    assert.deepEqual(begins, [0, 0]);
    assert.deepEqual(batches.map(textsOf), [['e0', 'e1']]);
    assert.deepEqual([loop.lag().state, loop.lag().error], ['running', undefined]);
  });
  test('an error is over when there is nothing to read', async () => {
    let fails = 1;
    const { loop } = setUp({
      async begin() {
        if (fails-- > 0) throw new Unavailable('away');
        return 0;
      },
    });
    await assert.rejects(loop.step(0));
    await loop.step(0);
    assert.deepEqual([loop.lag().state, loop.lag().error], ['running', undefined]);
  });
  test('an alarm by verdict stops it for good, and its reason stays in the report', async () => {
    const { loop, said } = setUp({ handle: async () => ({ kind: 'alarm', why: 'a hole' }) }, 2);
    await loop.step(0);
    assert.deepEqual([loop.lag().state, loop.lag().error], ['stopped', 'a hole']);
    assert.deepEqual(said, ['error ALARM: test stopped: a hole']);
    assert.equal(await loop.step(0), false);
  });
  test('an alarm that is thrown stops it too, and is not retried', async () => {
    const { loop, log } = setUp({
      async begin() {
        throw new Alarm('another log');
      },
    });
    assert.equal(await loop.step(0), false);
    assert.deepEqual([loop.lag().state, loop.lag().error], ['stopped', 'another log']);
    assert.equal(log.reads, 0);
  });
  test('a log that was cut stops it', async () => {
    const { loop } = setUp({ begin: async () => 9 }, 3);
    await loop.step(0);
    assert.equal(loop.lag().state, 'stopped');
    assert.match(loop.lag().error ?? '', /it was cut/);
  });
  test('idle is asked about once a second, only when there is nothing to read, and may go back', async () => {
    const asked: number[] = [];
    const { loop, host } = setUp(
      {
        async idle(_, next) {
          asked.push(next);
          return asked.length === 2 ? { kind: 'go_back', to: 1 } : done;
        },
      },
      3,
    );
    await loop.step(0);
    assert.deepEqual(asked, []);
    await loop.step(0);
    await loop.step(0);
    assert.deepEqual(asked, [3]);
    host.time += idleTickMs;
    // What has passed is not counted by the clock that somebody sets.
    host.clockSet = -600_000;
    await loop.step(0);
    assert.deepEqual(asked, [3, 3]);
    assert.equal(loop.place, 1);
  });
  test('places that hold no entry are passed over, and a batch still begins where the last one ended', async () => {
    const { loop, log, batches, stage } = setUp({}, 6);
    // As with Kafka's control records: offsets 2 and 3, and 5, are not given to readers.
    const hidden = new Set([2, 3, 5]);
    const read = log.read.bind(log);
    log.read = async (...args) => {
      const batch = await read(...args);
      return { ...batch, entries: batch.entries.filter(entry => !hidden.has(entry.offset)) };
    };
    stage.batchMax = 2;
    for (let i = 0; i < 5; i++) await loop.step(0);
    assert.deepEqual(
      batches.map(({ from, next, entries }) => [from, next, entries.map(e => e.offset)]),
      [
        [0, 2, [0, 1]],
        [2, 5, [4]],
      ],
    );
    assert.equal(loop.lag().lagEntries, 0);
  });
  test("notes its place in the log's own books, at most once a second, and the last one at rest", async () => {
    const { loop, log, host } = setUp({}, 16);
    await loop.step(0);
    await loop.step(0);
    host.time += groupCommitMs;
    await loop.step(0);
    await loop.step(0);
    host.time += groupCommitMs;
    for (let i = 0; i < 3; i++) await loop.step(0);
    assert.deepEqual(
      log.commits,
      [4, 12, 16].map(next => ({ group: 'test', partition: 0, next })),
    );
  });
});

suite('lag', () => {
  test('entries to come and the age of the oldest that is not handled', async () => {
    const { loop, host } = setUp({}, 6);
    assert.deepEqual([loop.lag().lagEntries, loop.lag().lagMs], [0, 0]);
    await loop.step(0);
    host.time += 700;
    assert.deepEqual([loop.lag().next, loop.lag().end, loop.lag().lagEntries, loop.lag().lagMs], [4, 6, 2, 700]);
    await loop.step(0);
    assert.deepEqual([loop.lag().lagEntries, loop.lag().lagMs], [0, 0]);
  });
  test('while it retries the report keeps the last place: the whole log is not behind', async () => {
    const { loop, stage, log } = setUp({}, 4);
    await loop.step(0);
    log.put(requestLog, 0, ['e4']);
    stage.begin = async () => 4;
    stage.handle = async () => {
      throw new Unavailable('away');
    };
    await assert.rejects(loop.step(0));
    assert.deepEqual([loop.lag().next, loop.lag().lagEntries, loop.lag().state], [4, 1, 'retrying']);
  });
  test('grows while the place cannot be read, also when the outage began at rest, and no read takes anything', async () => {
    const abort = new AbortController();
    let [isAway, tries] = [false, 0];
    const { loop, log, host } = setUp({
      async begin() {
        if (isAway && ++tries === 3) abort.abort();
        if (isAway) throw new Unavailable('postgres is away');
        return 0;
      },
      async idle() {
        throw new Unavailable('postgres is away');
      },
    });
    await assert.rejects(loop.step(0));
    isAway = true;
    log.put(
      requestLog,
      0,
      Array.from({ length: 100 }, () => 'e'),
    );
    const { reads } = log;
    await loop.run(abort.signal);
    const before = loop.lag();
    host.time += 5_000;
    assert.deepEqual([loop.lag().lagEntries, loop.lag().state], [100, 'retrying']);
    assert.ok(before.lagMs > 0);
    assert.equal(loop.lag().lagMs, before.lagMs + 5_000);
    assert.equal(log.reads, reads);
  });
  test('is not waited for: a log that does not answer holds up neither the next try nor the stop', async () => {
    const abort = new AbortController();
    let tries = 0;
    const { loop, log, host } = setUp({
      async begin() {
        if (++tries === 4) abort.abort();
        if (tries > 1) throw new Unavailable('redis is away');
        return 0;
      },
    });
    await loop.step(0);
    loop.restart();
    let looks = 0;
    log.end = () => {
      looks++;
      return new Promise(() => {});
    };
    await loop.run(abort.signal);
    assert.deepEqual([tries, looks, host.waits.length], [4, 1, 2]);
  });
  test('of a place that was never known says nothing', async () => {
    const abort = new AbortController();
    const { loop } = setUp(
      {
        async begin() {
          abort.abort();
          throw new Unavailable('postgres is away');
        },
      },
      100,
    );
    await loop.run(abort.signal);
    assert.deepEqual([loop.lag().lagEntries, loop.lag().state], [0, 'retrying']);
  });
});

suite('the loop', () => {
  test('retries with growing, bounded pauses, and does not spin', async () => {
    const abort = new AbortController();
    let tries = 0;
    const { loop, host, said } = setUp(
      {
        async handle() {
          if (++tries === 40) abort.abort();
          throw new Unavailable('away');
        },
      },
      1,
    );
    await loop.run(abort.signal);
    assert.equal(tries, 40);
    assert.equal(host.waits.length, 39);
    assert.ok((host.waits[0] as number) >= retryMsMin / 2 && (host.waits[0] as number) <= retryMsMin);
    assert.ok(host.waits.every(ms => ms <= retryMsMax));
    assert.ok(host.waits.slice(-20).every(ms => ms >= retryMsMax / 2));
    // It says so once to people, and goes on for ever.
    assert.equal(said.filter(line => line.startsWith('warn')).length, 1);
  });
  test('the pause starts small again after a success', async () => {
    const abort = new AbortController();
    const outcomes = ['fail', 'fail', 'fail', 'fail', 'fail', 'ok', 'fail', 'stop'];
    const { loop, host } = setUp(
      {
        async handle() {
          const outcome = outcomes.shift();
          if (outcome === 'stop') abort.abort();
          if (outcome === 'fail') throw new Unavailable('away');
          return { kind: 'go_back', to: 0 };
        },
      },
      1,
    );
    await loop.run(abort.signal);
    assert.ok((host.waits[5] as number) <= retryMsMin);
  });
  test('a handler that only ever goes back does not spin', async () => {
    const abort = new AbortController();
    let tries = 0;
    const { loop, host } = setUp(
      {
        async handle() {
          if (++tries === 30) abort.abort();
          return { kind: 'go_back', to: 0 };
        },
      },
      1,
    );
    await loop.run(abort.signal);
    assert.ok(host.waits.length >= 27);
    assert.ok(Math.max(...host.waits) >= retryMsMax / 2);
  });
  test('going back once costs no pause', async () => {
    const abort = new AbortController();
    const verdicts: Verdict[] = [{ kind: 'go_back', to: 0 }, done];
    const { loop, host } = setUp(
      {
        async handle() {
          const verdict = verdicts.shift() as Verdict;
          if (verdicts.length === 0) abort.abort();
          return verdict;
        },
      },
      1,
    );
    await loop.run(abort.signal);
    assert.deepEqual(host.waits, []);
  });
  test('ends when it is stopped by an alarm', async () => {
    const { loop } = setUp({ handle: async () => ({ kind: 'alarm', why: 'x' }) }, 1);
    await loop.run(new AbortController().signal);
    assert.equal(loop.lag().state, 'stopped');
  });
});

test('back-off: about retryMsMin at first, doubled each time, never above retryMsMax', () => {
  const host = fakeHost();
  for (let attempt = 1; attempt < 100; attempt++) {
    const full = Math.min(retryMsMax, retryMsMin * 2 ** (attempt - 1));
    const ms = backoffMs(attempt, host);
    assert.ok(ms >= full / 2 && ms <= full, `attempt ${attempt}: ${ms}`);
  }
});

suite('runStage', () => {
  const reached = () => Promise.withResolvers<void>();
  test('reads what its group gives it, and stops after what is under way', async () => {
    const [entered, leave] = [reached(), reached()];
    let handled = false;
    const { tools, stage, log } = setUp({
      async handle() {
        entered.resolve();
        await leave.promise;
        handled = true;
        return done;
      },
    });
    const running = await runStage(stage, tools);
    log.put(requestLog, 0, ['late']);
    await entered.promise;
    let stopped = false;
    const stopping = running.stop().then(() => {
      stopped = true;
    });
    for (let i = 0; i < 50; i++) await Promise.resolve();
    assert.equal(stopped, false);
    leave.resolve();
    await stopping;
    assert.equal(handled, true);
    assert.equal(log.on, undefined);
    await running.stop();
  });
  test('what cannot end, an append while the log is away, does not keep it from stopping', async t => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const entered = reached();
    const { tools, stage, log } = setUp({
      handle() {
        entered.resolve();
        return new Promise(() => {});
      },
    });
    const running = await runStage(stage, tools);
    log.put(requestLog, 0, ['late']);
    await entered.promise;
    const stopping = running.stop();
    for (let i = 0; i < 50; i++) await Promise.resolve();
    t.mock.timers.tick(drainMsMax);
    await stopping;
    assert.equal(log.on, undefined);
  });
  test('stops at once while it waits for entries', async () => {
    const { tools, stage } = setUp();
    const running = await runStage(stage, tools);
    await running.stop();
  });
  test('a partition that was taken away is not read any more, one that is given twice is read once', async () => {
    const seen = [reached(), reached()];
    const { tools, stage, log, batches } = setUp({
      async handle(batch) {
        batches.push(batch);
        seen[batches.length - 1]?.resolve();
        return done;
      },
    });
    const running = await runStage(stage, tools);
    log.on?.assigned(0);
    log.put(requestLog, 0, ['one']);
    await seen[0]?.promise;
    log.on?.revoked(0);
    assert.deepEqual(running.lag(), []);
    log.on?.revoked(0);
    log.put(requestLog, 0, ['two']);
    await running.stop();
    assert.deepEqual(batches.map(textsOf), [['one']]);
  });
});
