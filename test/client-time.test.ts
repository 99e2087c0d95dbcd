/** The client's bounds in time: what they hang on, and what a device that sleeps makes of them. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { createHttp, type FetchAnswer } from '../src/client/http.ts';
import { createClient } from '../src/client/index.ts';
import { defaultTiming, systemClock, type Timing } from '../src/client/timing.ts';
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

/** Answers by the path; undefined is a connection that is cut. */
type Say = (path: string) => { status: number; headers?: Record<string, string>; text: string } | undefined;

/** A client of a server that says so, whose waits pass at once, and what it waited and when it asked. */
function hurried(say: Say, timing: Partial<Timing> = {}) {
  let now = 0;
  const waits: number[] = [];
  const asked: { path: string; at: number }[] = [];
  const fetch = async (path: string): Promise<FetchAnswer> => {
    asked.push({ path, at: now });
    const said = say(path);
    if (!said) throw new Error('cut');
    const { status, text } = said;
    return new Response(text, { status, headers: said.headers ?? {} });
  };
  const wait = async (ms: number) => {
    waits.push(ms);
    now += ms;
  };
  const client = createClient({ baseUrl: '', fetch, timing, clock: { now: () => now, random: () => 0, wait } });
  return { client, waits, asked };
}

const pending = JSON.stringify({ taskId: 't', couponId: 'c', state: 'accepted' });
const done = JSON.stringify({ taskId: 't', couponId: 'c', state: 'done', outcome: 'inactive', reason: 'closed' });

describe('what a server asks for', { timeout: 30_000 }, () => {
  test('as a date is waited for as seconds are', async () => {
    const at = new Date(Date.now() + 20_000).toUTCString();
    const answer = { status: 429, headers: { 'retry-after': at }, text: '{}' };
    const end = await hurried(() => answer, { triesMax: 1 }).client.claim('c').outcome;
    const { retryAfterMs = 0 } = end.outcome === 'refused' ? end : {};
    assert.ok(retryAfterMs > 0 && retryAfterMs <= 20_000, JSON.stringify(end));
  });

  test('between two streams is honoured, up to a bound', async () => {
    const retries = [2_345, 99_999];
    const { client, waits } = hurried(path => {
      if (path.endsWith('/issue')) return { status: 202, text: pending };
      const retry = retries.shift();
      const text = retry
        ? `retry: ${retry}\nevent: progress\ndata: ${pending}\n\n`
        : `event: outcome\ndata: ${done}\n\n`;
      return { status: 200, headers: { 'content-type': 'text/event-stream' }, text };
    });
    await client.claim('c').outcome;
    assert.deepEqual(waits, [2_345, defaultTiming.streamRetryMsMax]);
  });

  test('of an accepted claim is honoured, up to a bound', async () => {
    const { client, waits } = hurried(path => {
      if (path.endsWith('/issue')) return { status: 202, text: pending };
      if (waits.length > 0)
        return {
          status: 200,
          headers: { 'content-type': 'text/event-stream' },
          text: `event: outcome\ndata: ${done}\n\n`,
        };
      return { status: 503, headers: { 'retry-after': '3600' }, text: '{}' };
    });
    await client.claim('c').outcome;
    assert.deepEqual(waits, [defaultTiming.retryAfterMsMax]);
  });
});

describe('patience', { timeout: 30_000 }, () => {
  test('with a server that does not accept ends, however many tries there may be', async () => {
    const answer = { status: 503, text: '{"code":"NOT_ACCEPTED"}' };
    const { client, waits } = hurried(() => answer, { triesMax: 1_000, acceptMsMax: 1_000 });
    assert.equal((await client.claim('c').outcome).outcome, 'refused');
    const waitedMs = waits.reduce((sum, ms) => sum + ms, 0);
    assert.ok(waitedMs > 500 && waitedMs <= 1_000, String(waitedMs));
  });

  test('between two tries of a stream that is broken grows, up to a bound', async () => {
    const { client, asked } = hurried(path => {
      if (path.endsWith('/events')) return undefined;
      const isOver = asked.filter(one => one.path.endsWith('/events')).length > 7;
      return { status: path.endsWith('/issue') ? 202 : 200, text: isOver ? done : pending };
    });
    await client.claim('c').outcome;
    const { streamAgainMsMax, streamAgainMsMin: min, streamFailuresMax } = defaultTiming;
    const at = asked.filter(one => one.path.endsWith('/events')).map(one => one.at);
    const gaps = at.slice(streamFailuresMax).map((ms, i) => ms - (at[i + streamFailuresMax - 1] as number));
    const least = [min, 2 * min, 4 * min, streamAgainMsMax, streamAgainMsMax];
    assert.equal(gaps.length, least.length);
    for (const [i, ms] of gaps.entries()) {
      const leastMs = least[i] as number;
      assert.ok(ms >= leastMs && ms < leastMs + defaultTiming.pollMsMax, `${gaps}`);
    }
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
