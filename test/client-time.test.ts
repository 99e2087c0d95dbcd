/** The client's bounds in time: what they hang on, and what a device that sleeps makes of them. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { createHttp, type FetchAnswer } from '../src/client/http.ts';
import { createClient } from '../src/client/index.ts';
import { defaultTiming, systemClock } from '../src/client/timing.ts';
import { type Fake, startFake } from './support/fake-server.ts';
import { quickClient } from './support/quick-client.ts';

describe('a bound', { timeout: 30_000 }, () => {
  test('of a stream begins anew with each touch, whatever is done to the time of day', async t => {
    let now = 5;
    t.mock.method(performance, 'now', () => now);
    t.mock.method(Date, 'now', () => -now * 1e6);
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const pass = (ms: number) => {
      now += ms;
      t.mock.timers.tick(ms);
    };
    let signal: AbortSignal | undefined;
    const answer: FetchAnswer = {
      ...{ status: 200, headers: { get: () => 'text/event-stream' }, text: async () => '' },
      body: { getReader: () => ({ read: async () => ({ done: true }), cancel: async () => {} }) },
    };
    const http = createHttp(
      '',
      async (_, init) => {
        signal = init.signal;
        return answer;
      },
      10_000,
    );
    const stream = await http.open('/', {}, { answerMsMax: 10, idleMsMax: 40 }, new AbortController().signal);
    for (let i = 0; i < 10; i++) {
      pass(30);
      stream.touch();
    }
    pass(39);
    assert.equal(signal?.aborted, false);
    pass(1);
    assert.equal(signal?.aborted, true);
  });

  test('of a claim does not move with the time of day', t => {
    const before = systemClock.now();
    t.mock.method(Date, 'now', () => 0);
    assert.ok(systemClock.now() - before < 3_600_000);
    assert.ok(systemClock.now() >= before);
  });

  test('beyond what a timer can hold makes no storm of them', async t => {
    const waits: number[] = [];
    const { setTimeout: real } = globalThis;
    t.mock.method(globalThis, 'setTimeout', (act: () => void, ms: number) => {
      waits.push(ms);
      return real(act, Math.min(ms, 1_000));
    });
    const fetch = async () => ({ status: 200, headers: new Headers(), text: async () => '[]', body: null });
    await createClient({ baseUrl: '', fetch }).coupons.list({ answerMsMax: Number.POSITIVE_INFINITY });
    const stop = new AbortController();
    const waiting = systemClock.wait(Number.POSITIVE_INFINITY, stop.signal);
    stop.abort();
    await waiting;
    assert.deepEqual(waits, [2 ** 31 - 1, 2 ** 31 - 1]);
  });
});

describe('a device that slept', { timeout: 30_000 }, () => {
  let fake: Fake;
  beforeEach(async () => {
    fake = await startFake();
  });
  afterEach(() => fake.close());
  const { posts, streams } = quickClient(() => fake);

  test('is told its outcome though the network is not there at once', async () => {
    let sleptMs = 0;
    let isAway = false;
    fake.held = true;
    fake.intercept = (_, response) => {
      if (isAway) response.destroy();
      return isAway;
    };
    const { silenceMsMax } = defaultTiming;
    const dibs = createClient({
      baseUrl: fake.url,
      timing: { streamRetryMs: 1, backoffMsMin: 1, backoffMsMax: 4, pollMsMin: 1, streamAgainMsMin: 20 },
      clock: { now: () => performance.now() + sleptMs },
    });
    const claim = dibs.claim('c', { userId: 'ann' });
    const asks = (more: number, seen = fake.seen.length) =>
      Promise.race([fake.until(() => fake.seen.length > seen + more), claim.outcome]);
    await fake.until(() => fake.streamsOpen === 1);
    isAway = true;
    sleptMs = 10 * silenceMsMax;
    fake.cut();
    await asks(5);
    // It nods off again while it asks.
    sleptMs += 10 * silenceMsMax;
    await asks(2);
    isAway = false;
    fake.release();
    assert.equal((await claim.outcome).outcome, 'issued');
    assert.equal(posts().length, 1);
    assert.ok(streams().length > 1);
  });
});
