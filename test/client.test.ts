import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { createClient, ProblemError, UnansweredError, UnreachableError } from '../src/client/index.ts';
import { backoffMs, defaultTiming, spread } from '../src/client/timing.ts';
import { type Fake, json, problem, startFake } from './support/fake-server.ts';
import { quickClient } from './support/quick-client.ts';

let fake: Fake;
beforeEach(async () => {
  fake = await startFake();
});
afterEach(() => fake.close());

const { client, posts, streams, keys } = quickClient(() => fake);

describe('waits', { timeout: 30_000 }, () => {
  test('are jittered and bounded', () => {
    for (let failures = 1; failures < 2_000; failures++) {
      for (const chance of [0, 0.5, 0.999_999]) {
        const ms = backoffMs(failures, defaultTiming, () => chance);
        assert.ok(ms >= defaultTiming.backoffMsMin / 2 && ms <= defaultTiming.backoffMsMax, `${failures}: ${ms}`);
      }
    }
    assert.equal(
      spread(1_000, () => 0),
      1_000,
    );
    assert.equal(
      spread(1_000, () => 0.999),
      1_249.75,
    );
  });

  test('honour Retry-After, never sooner, and back off between tries', async () => {
    const waits: number[] = [];
    fake.intercept = (seen, response) => {
      if (!seen.path.endsWith('/issue') || posts().length > 4) return false;
      return problem(response, 429, 'TOO_MANY_REQUESTS', {}, posts().length > 2 ? { 'retry-after': '2' } : {});
    };
    const dibs = createClient({
      baseUrl: fake.url,
      timing: { backoffMsMin: 100 },
      clock: { random: () => 0.5, wait: async ms => void waits.push(ms) },
    });
    assert.equal((await dibs.claim('c', { userId: 'ann' }).outcome).outcome, 'issued');
    assert.deepEqual(waits, [75, 150, 2_250, 2_250]);
  });
});

describe('a claim', { timeout: 30_000 }, () => {
  test('is issued, with its place in the line on the way', async () => {
    fake.held = true;
    const claim = client().claim('c', { userId: 'ann', key: 'my-key' });
    assert.equal(await claim.taskId, 'task-1');
    await fake.until(() => fake.streamsOpen === 1);
    const steps: unknown[] = [];
    for await (const progress of claim) {
      steps.push(progress);
      fake.release();
    }
    const end = await claim.outcome;
    assert.deepEqual(steps.at(0), { state: 'accepted', ahead: 1 });
    assert.deepEqual(end, { outcome: 'issued', couponId: 'c', taskId: 'task-1', slot: 1, userCouponId: 'c.1' });
    assert.equal(claim.via, 'stream');
    assert.equal(claim.tries, 1);
    assert.equal(posts()[0]?.headers['x-user-id'], 'ann');
    assert.deepEqual([...keys()], ['my-key']);
  });

  test('carries a token instead of a user id', async () => {
    await client().claim('c', { token: 't0k' }).outcome;
    assert.equal(posts()[0]?.headers.authorization, 'Bearer t0k');
    assert.equal(posts()[0]?.headers['x-user-id'], undefined);
  });

  test('makes one key and keeps it when connections are cut and answers are lost', async () => {
    fake.intercept = (seen, response) => {
      if (!seen.path.endsWith('/issue')) return false;
      switch (posts().length) {
        case 1:
          response.destroy();
          return true;
        case 2:
          return problem(response, 503, 'OUTCOME_UNKNOWN', {}, { 'retry-after': '0' });
        case 3:
          return problem(response, 503, 'NOT_ACCEPTED', {}, { 'retry-after': '0' });
        case 4:
          response.writeHead(502).end('<html>bad gateway');
          return true;
        default:
          return false;
      }
    };
    const claim = client().claim('c', { userId: 'ann' });
    assert.equal((await claim.outcome).outcome, 'issued');
    assert.equal(claim.tries, 5);
    assert.equal(keys().size, 1);
    assert.match(claim.key, /^[0-9a-f]{32}$/);
    assert.notEqual(client().claim('c', { userId: 'bob' }).key, claim.key);
  });

  test('is answered with 200 and the task when its key has won before', async () => {
    const task = { taskId: 't', couponId: 'c', state: 'done', outcome: 'issued', slot: 2, userCouponId: 'c.2' };
    fake.intercept = (_, response) => json(response, 200, task);
    const claim = client().claim('c', { userId: 'ann', key: 'again' });
    assert.equal((await claim.outcome).outcome, 'issued');
    assert.equal(await claim.taskId, 't');
    assert.equal(streams().length, 0);
  });

  const refusals: [status: number, code: string, more: object, end: object][] = [
    [410, 'INACTIVE_COUPON', { reason: 'sold_out' }, { outcome: 'inactive', reason: 'sold_out' }],
    [410, 'INACTIVE_COUPON', { reason: 'closed' }, { outcome: 'inactive', reason: 'closed' }],
    [
      403,
      'INACTIVE_COUPON',
      { reason: 'not_open', opensAt: 'T' },
      { outcome: 'inactive', reason: 'not_open', opensAt: 'T' },
    ],
    [
      409,
      'DUPLICATED_COUPON',
      { slot: 4, userCouponId: 'c.4' },
      { outcome: 'duplicated', slot: 4, userCouponId: 'c.4' },
    ],
    [
      404,
      'UNKNOWN_COUPON',
      {},
      { outcome: 'refused', code: 'UNKNOWN_COUPON', detail: 'it is UNKNOWN_COUPON', status: 404 },
    ],
    [
      400,
      'MALFORMED_REQUEST',
      {},
      { outcome: 'refused', code: 'MALFORMED_REQUEST', detail: 'it is MALFORMED_REQUEST', status: 400 },
    ],
    [
      401,
      'UNAUTHENTICATED',
      {},
      { outcome: 'refused', code: 'UNAUTHENTICATED', detail: 'it is UNAUTHENTICATED', status: 401 },
    ],
  ];
  for (const [status, code, more, end] of refusals) {
    test(`refused at the door with ${status} ${code} ${JSON.stringify(more)} is an outcome, asked once`, async () => {
      fake.intercept = (_, response) => problem(response, status, code, more);
      const claim = client().claim('c', { userId: 'ann' });
      for await (const _ of claim) assert.fail('there is no progress at the door');
      assert.deepEqual(await claim.outcome, { couponId: 'c', ...end });
      assert.equal(await claim.taskId, undefined);
      assert.equal(claim.via, 'door');
      assert.equal(posts().length, 1);
    });
  }

  test('that was surely never queued ends as refused when patience ends', async () => {
    fake.intercept = (_, response) => problem(response, 503, 'NOT_ACCEPTED', {}, { 'retry-after': '0' });
    const end = await client({ triesMax: 3 }).claim('c', { userId: 'ann' }).outcome;
    assert.equal(end.outcome === 'refused' && end.code, 'NOT_ACCEPTED');
    assert.equal(posts().length, 3);
  });

  test('does not wait for a server that asks for more patience than there is', async () => {
    fake.intercept = (_, response) => problem(response, 429, 'TOO_MANY_REQUESTS', {}, { 'retry-after': '3600' });
    const end = await client().claim('c', { userId: 'ann' }).outcome;
    assert.equal(end.outcome === 'refused' && end.retryAfterMs, 3_600_000);
    assert.equal(posts().length, 1);
  });

  test('that may be queued is rejected with its key when patience ends', async () => {
    fake.intercept = (_, response) => problem(response, 503, posts().length === 1 ? 'OUTCOME_UNKNOWN' : 'NOT_ACCEPTED');
    const claim = client({ triesMax: 3 }).claim('c', { userId: 'ann' });
    await assert.rejects(claim.outcome, (error: UnansweredError) => {
      assert.ok(error instanceof UnansweredError);
      assert.equal(error.key, claim.key);
      return true;
    });
  });

  for (const [status, body] of [
    [403, '<html>not you'],
    [404, ''],
    [200, '<html>come in'],
    [401, '{"code":"UNAUTHENTICATED"}'],
  ] as const) {
    test(`whose first try may be queued is not refused by a ${status} that says nothing of it`, async () => {
      fake.intercept = (_, response) => {
        if (posts().length === 1) response.destroy();
        else response.writeHead(status).end(body);
        return true;
      };
      await assert.rejects(client().claim('c', { userId: 'ann' }).outcome, { name: 'UnansweredError' });
      assert.equal(posts().length, 2);
    });
  }

  test('whose first try may be queued is told what dibs says of the coupon', async () => {
    fake.intercept = (_, response) => {
      if (posts().length > 1) return problem(response, 410, 'INACTIVE_COUPON', { reason: 'closed' });
      response.destroy();
      return true;
    };
    const end = await client().claim('c', { userId: 'ann' }).outcome;
    assert.deepEqual(end, { outcome: 'inactive', couponId: 'c', reason: 'closed' });
  });

  for (const text of ['', 'null', '{}', '"accepted"', 'a page', '{"taskId":"t","couponId":"c","outcome":"issued"}']) {
    test(`answered with 200 and ${text === '' ? 'nothing' : text} is refused: that is not dibs`, async () => {
      fake.intercept = (_, response) => {
        response.writeHead(200).end(text);
        return true;
      };
      const end = await client().claim('c', { userId: 'ann' }).outcome;
      assert.equal(end.outcome === 'refused' && end.code, 'NOT_DIBS');
    });
  }

  for (const text of ['<html>', '{}', '[]', '{"taskId":"t"']) {
    test(`whose 202 says only ${text} may be queued and is sent again`, async () => {
      let broken = true;
      fake.intercept = (seen, response) => {
        if (!seen.path.endsWith('/issue') || !broken) return false;
        broken = false;
        response.writeHead(202).end(text);
        return true;
      };
      assert.equal((await client().claim('c', { userId: 'ann' }).outcome).outcome, 'issued');
      assert.deepEqual([posts().length, keys().size], [2, 1]);
      fake.intercept = (_, response) => Boolean(response.writeHead(202).end(text));
      await assert.rejects(client({ triesMax: 3 }).claim('c', { userId: 'bob' }).outcome, { name: 'UnansweredError' });
    });
  }

  for (const status of [301, 302, 307, 308]) {
    test(`redirected with ${status} is not followed: it might arrive as a GET, and be refused untruly`, async () => {
      const location = `${fake.url}/elsewhere`;
      fake.intercept = (_, response) => Boolean(response.writeHead(status, { location }).end());
      const end = await client().claim('c', { userId: 'ann' }).outcome;
      assert.ok(end.outcome === 'refused' && end.code === 'REDIRECTED', JSON.stringify(end));
      assert.ok(end.detail.includes(location), end.detail);
      assert.equal(fake.seen.length, 1);
    });
  }

  test('redirected in a browser, which hides whereto, is told so too, and the answer is read to its end', async () => {
    let read = 0;
    const text = async () => {
      read++;
      return '';
    };
    const fetch = async () => ({ status: 0, headers: new Headers(), text, body: null });
    const end = await createClient({ baseUrl: '', fetch }).claim('c', { userId: 'ann' }).outcome;
    assert.equal(end.outcome === 'refused' && end.code, 'REDIRECTED');
    assert.equal(read, 1, 'a connection of a pool is given back then');
  });

  test('accepted in a state of a later server is sent once and followed', async () => {
    const sent: string[] = [];
    const of = (status: number, body: object) => ({
      ...{ status, headers: new Headers(), body: null },
      text: async () => JSON.stringify({ taskId: 't', couponId: 'c', ...body }),
    });
    const fetch = async (url: string, { method }: { method: string }) => {
      sent.push(`${method} ${url}`);
      if (method === 'POST') return of(202, { state: 'queued' });
      return url.endsWith('/events')
        ? of(501, { code: 'NOT_OFFERED' })
        : of(200, { state: 'done', outcome: 'issued', slot: 1, userCouponId: 'c.1' });
    };
    const timing = { pollMsMin: 1 };
    const end = await createClient({ baseUrl: '', fetch, timing }).claim('c', { userId: 'ann' }).outcome;
    assert.equal(end.outcome, 'issued');
    assert.deepEqual(sent, ['POST /coupons/c/issue', 'GET /tasks/t/events', 'GET /tasks/t']);
  });

  test('whose refusal lacks what it must say, or says it in another type, is only refused', async () => {
    const saying: [number, string][] = [
      [410, '{"code":"INACTIVE_COUPON","detail":"d"}'],
      [410, '{"code":"INACTIVE_COUPON","reason":7,"detail":"d"}'],
      [409, '{"code":"DUPLICATED_COUPON","detail":"d"}'],
      [400, '{"code":"MALFORMED_REQUEST","detail":{"a":1},"title":"d"}'],
    ];
    for (const [status, text] of saying) {
      fake.intercept = (_, response) => Boolean(response.writeHead(status).end(text));
      const { code } = JSON.parse(text);
      const end = await client().claim('c', { userId: 'ann' }).outcome;
      assert.deepEqual(end, { outcome: 'refused', couponId: 'c', code, detail: 'd', status }, text);
    }
  });

  test('with a key that would arrive as another is refused at once', async () => {
    for (const key of [' a', 'a ', 'a b', '', 'k'.repeat(65)]) {
      const end = await client().claim('c', { userId: 'ann', key }).outcome;
      assert.ok(end.outcome === 'refused' && end.code === 'MALFORMED_REQUEST', JSON.stringify(end));
    }
    assert.equal(fake.seen.length, 0);
  });

  test('that cannot be sent is refused at once, and the value is not shown', async () => {
    for (const who of [{ userId: '김철수' }, { token: 'secret\nof ann' }, { userId: 'ann', key: '키' }]) {
      const end = await client().claim('c', who).outcome;
      assert.ok(end.outcome === 'refused' && end.code === 'MALFORMED_REQUEST', JSON.stringify(end));
      assert.match(end.detail, /^the header (x-user-id|authorization|idempotency-key) holds/);
    }
    assert.equal(fake.seen.length, 0);
  });

  test('is rejected, bounded, when nobody listens', async () => {
    await fake.close();
    await assert.rejects(client({ triesMax: 4 }).claim('c', { userId: 'ann' }).outcome, (error: UnansweredError) => {
      assert.ok(error.cause instanceof UnreachableError);
      return true;
    });
    fake = await startFake();
  });

  test('sends again when an answer does not come in time', async () => {
    fake.intercept = seen => seen.path.endsWith('/issue') && posts().length === 1;
    const claim = client({ answerMsMax: 25 }).claim('c', { userId: 'ann' });
    assert.equal((await claim.outcome).outcome, 'issued');
    assert.equal(keys().size, 1);
  });
});

describe('abort', { timeout: 30_000 }, () => {
  test('ends everything at once, wherever it is', async () => {
    fake.held = true;
    const controller = new AbortController();
    const claim = client().claim('c', { userId: 'ann', signal: controller.signal });
    await fake.until(() => fake.streamsOpen === 1);
    controller.abort(new Error('enough'));
    await assert.rejects(claim.outcome, /enough/);
    await assert.rejects(async () => {
      for await (const _ of claim);
    }, /enough/);
    await fake.until(() => fake.streamsOpen === 0);
    assert.equal(fake.seen.length, 2);
  });

  test('in a long wait does not wait', async () => {
    fake.intercept = (_, response) => problem(response, 503, 'NOT_ACCEPTED', {}, { 'retry-after': '20' });
    const claim = client().claim('c', { userId: 'ann' });
    await fake.until(() => posts().length === 1);
    claim.abort();
    await assert.rejects(claim.outcome, { name: 'AbortError' });
    await assert.rejects(claim.taskId, { name: 'AbortError' });
  });

  test('before the beginning sends nothing', async () => {
    const claim = client().claim('c', { userId: 'ann', signal: AbortSignal.abort() });
    await assert.rejects(claim.outcome, { name: 'AbortError' });
    assert.equal(fake.seen.length, 0);
  });

  test('leaves no rejection unhandled when only one of the two is used', async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown) => unhandled.push(error);
    process.on('unhandledRejection', note);
    fake.held = true;
    const dibs = client();
    const [onlyOutcome, onlySteps, neither] = ['a', 'b', 'd'].map(userId => dibs.claim('c', { userId }));
    assert.ok(onlyOutcome && onlySteps && neither);
    await fake.until(() => fake.streamsOpen === 3);
    const steps = (async () => {
      for await (const _ of onlySteps);
    })();
    for (const claim of [onlyOutcome, onlySteps, neither]) claim.abort();
    await assert.rejects(onlyOutcome.outcome);
    await assert.rejects(steps);
    await new Promise(resolve => setImmediate(resolve));
    process.off('unhandledRejection', note);
    assert.deepEqual(unhandled, []);
  });
});

describe('the other calls', { timeout: 30_000 }, () => {
  test('go where API.md says', async () => {
    const dibs = createClient({ baseUrl: `${fake.url}/`, token: 'adm' });
    fake.intercept = (_, response) => json(response, 200, { items: [] });
    await dibs.coupons.list();
    await dibs.coupons.get('a');
    await dibs.coupons.create({ name: 'n', stock: 1 });
    await dibs.coupons.addStock('a', 5, { key: 'k' });
    await dibs.coupons.close('a');
    await dibs.coupons.stats('a');
    await dibs.as({ userId: 'ann' }).myCoupons({ limit: 2, after: 'x/y' });
    await dibs.redeem('a.1');
    await dibs.task('t/1');
    await dibs.lag();
    await dibs.deadLetters();
    await dibs.redrive({ couponId: 'a' });
    await dibs.verify('a');
    assert.deepEqual(
      fake.seen.map(s => `${s.method} ${s.path} ${s.body}`.trim()),
      [
        'GET /coupons',
        'GET /coupons/a',
        'POST /coupons {"name":"n","stock":1}',
        'POST /coupons/a/stock {"add":5}',
        'POST /coupons/a/close',
        'GET /coupons/a/stats',
        'GET /me/coupons?limit=2&after=x%2Fy',
        'POST /me/coupons/a.1/redeem',
        'GET /tasks/t%2F1',
        'GET /admin/lag',
        'GET /admin/dead-letters',
        'POST /admin/dead-letters/redrive {"couponId":"a"}',
        'GET /admin/verify?couponId=a',
      ],
    );
    assert.equal(fake.seen[3]?.headers['idempotency-key'], 'k');
    assert.equal(fake.seen[0]?.headers.authorization, 'Bearer adm');
    assert.equal(fake.seen[6]?.headers.authorization, undefined);
    assert.equal(fake.seen[6]?.headers['x-user-id'], 'ann');
  });

  test('throw problems with their code', async () => {
    fake.intercept = (_, response) => problem(response, 409, 'COUPON_CLOSED', { more: 1 });
    await assert.rejects(client().coupons.addStock('a', 1), (error: ProblemError) => {
      assert.ok(error instanceof ProblemError);
      assert.deepEqual(
        [error.status, error.code, error.detail, error.problem.more],
        [409, 'COUPON_CLOSED', 'it is COUPON_CLOSED', 1],
      );
      return true;
    });
  });
});
