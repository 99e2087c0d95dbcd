import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { CouponId } from '../src/coupon.ts';
import { NotAccepted, OutcomeUnknown, Unavailable } from '../src/errors.ts';
import { statsJson } from '../src/http/coupons.ts';
import { explained } from '../src/http/prometheus.ts';
import { noCounts } from '../src/sale.ts';
import { assertProblem, call, until } from './support/calls.ts';
import { as, claim, ended, open } from './support/http-claims.ts';
import { type MemoryApp, startMemoryApp } from './support/memory-app.ts';

describe('the road through HTTP', () => {
  let app: MemoryApp;
  before(async () => {
    app = await startMemoryApp();
  });
  after(() => app.stop());

  test('a request is accepted, issued, shown, redeemed once', async () => {
    const created = await open(app, 'road', 1);
    assert.equal(created.status, 201);
    assert.equal(created.headers.get('location'), '/coupons/road');
    const accepted = await claim(app, 'road', 'ann');
    assert.equal(accepted.status, 202);
    const { taskId, links } = accepted.body;
    assert.deepEqual(accepted.body, {
      taskId,
      couponId: 'road',
      state: 'accepted',
      ahead: accepted.body.ahead,
      links: { task: `/tasks/${taskId}`, events: `/tasks/${taskId}/events` },
    });
    assert.equal(accepted.headers.get('location'), links.task);
    const { body } = await ended(app, accepted);
    const { issuedAt, ...rest } = body;
    assert.deepEqual(rest, {
      ...{ taskId, couponId: 'road', state: 'done', outcome: 'issued', slot: 1, userCouponId: 'road.1' },
    });
    assert.match(issuedAt, /^\d{4}-.*Z$/);

    const duplicate = await claim(app, 'road', 'ann');
    assertProblem(duplicate, '409 DUPLICATED_COUPON');
    assert.equal(duplicate.body.slot, 1);
    assert.equal(duplicate.body.userCouponId, 'road.1');
    const late = await claim(app, 'road', 'bob');
    assertProblem(late, '410 INACTIVE_COUPON');
    assert.equal(late.body.reason, 'sold_out');

    const mine = await call(app.url, 'GET /me/coupons', { headers: as('ann') });
    assert.deepEqual(mine.body, {
      items: [{ userCouponId: 'road.1', couponId: 'road', userId: 'ann', slot: 1, state: 'issued', issuedAt }],
    });
    assertProblem(
      await call(app.url, 'POST /me/coupons/road.1/redeem', { headers: as('bob') }),
      '404 UNKNOWN_USER_COUPON',
    );
    const redeemed = await call(app.url, 'POST /me/coupons/road.1/redeem', { headers: as('ann') });
    assert.equal(redeemed.body.state, 'redeemed');
    assertProblem(
      await call(app.url, 'POST /me/coupons/road.1/redeem', { headers: as('ann') }),
      '409 ALREADY_REDEEMED',
    );
    const coupon = await call(app.url, 'GET /coupons/road');
    assert.deepEqual([coupon.body.issued, coupon.body.remaining, coupon.body.state], [1, 0, 'sold_out']);
  });

  test('the same Idempotency-Key is the same request', async () => {
    await open(app, 'keyed', 2);
    const key = { 'idempotency-key': 'my!key' };
    const first = await claim(app, 'keyed', 'ann', key);
    await ended(app, first);
    const again = await claim(app, 'keyed', 'ann', key);
    assert.equal(again.status, 200);
    assert.deepEqual([again.body.state, again.body.outcome, again.body.slot], ['done', 'issued', 1]);
    assertProblem(await claim(app, 'keyed', 'ann', { 'idempotency-key': 'other' }), '409 DUPLICATED_COUPON');
    // Another user's same key is another request.
    assert.equal((await ended(app, await claim(app, 'keyed', 'bob', key))).body.slot, 2);
    // Sold out now, and remembered so: the key that won is still not told that it lost.
    await until(
      () => app.door.latch.shut('keyed'),
      shut => shut === 'sold_out',
    );
    assert.equal((await claim(app, 'keyed', 'ann', key)).status, 200);
  });

  test('stock is added, and the sale closed', async () => {
    await open(app, 'more', 0);
    assertProblem(await claim(app, 'more', 'ann'), '410 INACTIVE_COUPON');
    const stocked = await call(app.url, 'POST /coupons/more/stock', { body: { add: 1 } });
    assert.deepEqual([stocked.status, stocked.body.stock, stocked.body.state], [200, 1, 'open']);
    assert.equal((await ended(app, await claim(app, 'more', 'ann'))).body.outcome, 'issued');
    assertProblem(
      await call(app.url, 'POST /coupons/more/stock', { body: { add: 10_000_000 } }),
      '400 MALFORMED_REQUEST',
    );
    const closed = await call(app.url, 'POST /coupons/more/close');
    assert.deepEqual([closed.status, closed.body.state], [200, 'closed']);
    const late = await claim(app, 'more', 'bob');
    assertProblem(late, '410 INACTIVE_COUPON');
    assert.equal(late.body.reason, 'closed');
    assertProblem(await call(app.url, 'POST /coupons/more/stock', { body: { add: 1 } }), '409 COUPON_CLOSED');
  });

  test('a coupon is made once', async () => {
    const body = { couponId: 'once', name: 'Once', stock: 3, discount: { type: 'percent', value: 10 } };
    assert.equal((await call(app.url, 'POST /coupons', { body })).status, 201);
    const again = await call(app.url, 'POST /coupons', { body });
    assert.deepEqual([again.status, again.body.discount], [200, body.discount]);
    assertProblem(await call(app.url, 'POST /coupons', { body: { ...body, stock: 4 } }), '409 COUPON_EXISTS');
    const named = await call(app.url, 'POST /coupons', { body: { name: 'no id', stock: 1 } });
    assert.match(named.body.couponId, /^[a-z0-9]{12}$/);
    const all = await call(app.url, 'GET /coupons');
    assert.ok(all.body.items.some((c: { couponId: string }) => c.couponId === named.body.couponId));
    const one = await call(app.url, 'GET /coupons/once');
    for (const { headers } of [all, one]) assert.equal(headers.get('cache-control'), 'no-store');
  });

  test('a stock of -0 is 0: the row was made, its sale was not opened, and the answer was 409', async () => {
    const body = '{"couponId":"minus","name":"Minus","stock":-0}';
    const created = await call(app.url, 'POST /coupons', { body });
    assert.deepEqual([created.status, created.body.stock, created.body.state], [201, 0, 'sold_out']);
    assert.equal((await call(app.url, 'POST /coupons', { body: body.replace('-0', '0') })).status, 200);
    const stocked = await call(app.url, 'POST /coupons/minus/stock', { body: { add: 1 } });
    assert.deepEqual([stocked.status, stocked.body.stock], [200, 1]);
    // No other number of a body may be as little as 0.
    const add = await call(app.url, 'POST /coupons/minus/stock', { body: '{"add":-0}' });
    assertProblem(add, '400 MALFORMED_REQUEST');
    const free = '{"name":"Free","stock":1,"discount":{"type":"fixed","value":-0}}';
    assertProblem(await call(app.url, 'POST /coupons', { body: free }), '400 MALFORMED_REQUEST');
  });

  test('a coupon may have the name of something that every object has', async () => {
    assert.equal((await open(app, 'constructor', 1)).status, 201);
    assert.equal((await ended(app, await claim(app, 'constructor', 'ann'))).body.userCouponId, 'constructor.1');
  });

  test('before it opens the answer says when', async () => {
    const opensAt = new Date(Date.now() + 60_000).toISOString();
    await open(app, 'later', 1, { opensAt });
    const early = await claim(app, 'later', 'ann');
    assertProblem(early, '403 INACTIVE_COUPON');
    assert.deepEqual([early.body.reason, early.body.opensAt], ['not_open', opensAt]);
    const waitS = Number(early.headers.get('retry-after'));
    assert.ok(waitS >= 50 && waitS <= 60, String(waitS));
    assert.equal((await call(app.url, 'GET /coupons/later')).body.state, 'scheduled');
  });

  test('past validUntil a coupon cannot be redeemed', async () => {
    await open(app, 'old', 1, { validUntil: '2020-01-01T00:00:00Z' });
    await ended(app, await claim(app, 'old', 'eve'));
    assertProblem(await call(app.url, 'POST /me/coupons/old.1/redeem', { headers: as('eve') }), '410 EXPIRED_COUPON');
    const mine = await call(app.url, 'GET /me/coupons', { headers: as('eve') });
    assert.equal(mine.body.items[0].state, 'expired');
  });

  test('my coupons come in pages', async () => {
    for (const couponId of ['page-a', 'page-b', 'page-c']) {
      await open(app, couponId, 1);
      await ended(app, await claim(app, couponId, 'pam'));
    }
    const first = await call(app.url, 'GET /me/coupons?limit=2', { headers: as('pam') });
    assert.equal(first.body.items.length, 2);
    const rest = await call(app.url, `GET /me/coupons?limit=2&after=${first.body.next}`, { headers: as('pam') });
    assert.deepEqual([rest.body.items.length, rest.body.next], [1, undefined]);
    const ids = [...first.body.items, ...rest.body.items].map(item => item.couponId);
    assert.deepEqual(ids, ['page-c', 'page-b', 'page-a']);
    const all = await call(app.url, 'GET /me/coupons?after=', { headers: as('pam') });
    assert.equal(all.body.items.length, 3, 'behind nothing is from the beginning');
  });

  test('what is no end of a page is refused: it was answered with the first page, for ever', async () => {
    const text = (cursor: string) => Buffer.from(cursor).toString('base64url');
    const cursors = ['1', '1 Page', '1 a b', 'x a', `${'1'.repeat(16)} a`];
    for (const after of ['garbage', '%00', ...cursors.map(text)]) {
      const answer = await call(app.url, `GET /me/coupons?after=${after}`, { headers: as('pam') });
      assertProblem(answer, '400 MALFORMED_REQUEST');
      assert.match(answer.body.detail, /querystring\.after/);
    }
  });

  test('the operator sees statistics, lag, dead letters and the proof', async () => {
    await open(app, 'seen', 1);
    await ended(app, await claim(app, 'seen', 'ann'));
    const stats = await until(
      () => call(app.url, 'GET /coupons/seen/stats'),
      ({ body }) => body.issued === 1,
    );
    assert.deepEqual(stats.body.refused, { duplicated: 0, closed: 0, not_open: 0, sold_out: 0 });
    assert.equal(stats.body.perSecond.length, 1);
    assert.equal(stats.body.perSecond[0].issued, 1);
    const lag = await call(app.url, 'GET /admin/lag');
    assert.deepEqual(
      lag.body.stages.map((s: { stage: string }) => s.stage),
      ['reserve', 'persist', 'stats'],
    );
    assert.deepEqual((await call(app.url, 'GET /admin/dead-letters?limit=5')).body, { items: [] });
    assert.deepEqual((await call(app.url, 'POST /admin/dead-letters/redrive')).body, { redriven: 0 });
    assert.equal((await call(app.url, 'GET /admin/verify?couponId=seen')).body.ok, true);
    assertProblem(await call(app.url, 'GET /admin/verify?couponId=nobody'), '404 UNKNOWN_COUPON');
  });

  test('a malformed entry of the log is shown as a dead letter', async () => {
    await app.log.append('coupon-issued', 0, ['poison']);
    const { body } = await until(
      () => call(app.url, 'GET /admin/dead-letters'),
      answer => answer.body.items.length === 1,
    );
    const [letter] = body.items;
    assert.deepEqual([letter.log, letter.redrivable], ['coupon-issued', false]);
    assert.match(letter.reason, /^malformed/);
    assert.deepEqual((await call(app.url, 'POST /admin/dead-letters/redrive', { body: {} })).body, { redriven: 0 });
  });

  test('metrics name what happened, each with its explanation', async () => {
    await open(app, 'counted', 1);
    await ended(app, await claim(app, 'counted', 'ann'));
    assertProblem(await claim(app, 'counted-not', 'ann'), '404 UNKNOWN_COUPON');
    const { body } = await call(app.url, 'GET /metrics');
    for (const { name, help } of explained) assert.ok(body.includes(`# HELP ${name} ${help}`), name);
    assert.match(body, /^dibs_accepted_total [1-9]/m);
    assert.match(body, /^dibs_refused_total\{code="UNKNOWN_COUPON"\} [1-9]/m);
    assert.match(body, /^dibs_issued_total [1-9]/m);
    assert.match(body, /^dibs_stage_lag_entries\{stage="reserve",partition="0"\} \d/m);
    assert.match(body, /^process_cpu_seconds_total /m);
  });

  test('/docs/yaml is the document as JSON, which is YAML too and keeps nobody waiting', async () => {
    const { body: text, headers } = await call(app.url, 'GET /docs/yaml');
    assert.equal(headers.get('content-type'), 'application/yaml');
    assert.deepEqual(JSON.parse(text), (await call(app.url, 'GET /openapi.json')).body);
  });

  test('/openapi.json names what the routes answer, and which bodies may be left out', async () => {
    const { paths } = (await call(app.url, 'GET /openapi.json')).body;
    const optional = Object.entries(paths as Record<string, { post?: { requestBody?: { required: boolean } } }>)
      .filter(([, { post }]) => post?.requestBody?.required === false)
      .map(([path]) => path);
    assert.deepEqual(optional.sort(), [
      ...['/admin/dead-letters/redrive', '/coupons/{couponId}/close', '/coupons/{couponId}/issue'],
      '/me/coupons/{userCouponId}/redeem',
    ]);
    const answers = (path: string) => paths[path].post.responses as Record<string, { description: string }>;
    const issue = answers('/coupons/{couponId}/issue');
    assert.deepEqual(
      [issue[403]?.description, issue[410]?.description],
      ['FORBIDDEN, INACTIVE_COUPON', 'INACTIVE_COUPON'],
    );
    const redrive = answers('/admin/dead-letters/redrive');
    assert.deepEqual(Object.keys(redrive).map(Number), [200, 400, 401, 403, 413, 415, 503]);
    assert.equal(redrive[503]?.description, 'NOT_ACCEPTED, OUTCOME_UNKNOWN, UNAVAILABLE');
    assert.equal(answers('/me/coupons/{userCouponId}/redeem')[403]?.description, 'FORBIDDEN');
    assert.deepEqual(Object.keys(paths['/metrics'].get.responses[200].content), ['text/plain']);
  });

  test('/openapi.json has every route of the contract', async () => {
    const { body } = await call(app.url, 'GET /openapi.json');
    assert.equal(body.openapi, '3.1.0');
    const routes = Object.entries(body.paths as Record<string, object>).flatMap(([path, methods]) =>
      Object.keys(methods).map(method => `${method.toUpperCase()} ${path}`),
    );
    const contract = [
      ...['POST /coupons/{couponId}/issue', 'GET /tasks/{taskId}', 'GET /tasks/{taskId}/events', 'GET /me/coupons'],
      ...['POST /me/coupons/{userCouponId}/redeem', 'GET /coupons', 'GET /coupons/{couponId}', 'POST /coupons'],
      ...['POST /coupons/{couponId}/stock', 'POST /coupons/{couponId}/close', 'GET /coupons/{couponId}/stats'],
      ...['GET /admin/lag', 'GET /admin/dead-letters', 'POST /admin/dead-letters/redrive', 'GET /admin/verify'],
      ...['GET /healthz', 'GET /readyz', 'GET /metrics'],
    ];
    for (const route of contract) assert.ok(routes.includes(route), route);
    const { discount } = body.paths['/coupons'].post.requestBody.content['application/json'].schema.properties;
    assert.deepEqual(discount.properties, {
      type: { enum: ['fixed', 'percent'] },
      value: { type: 'integer', minimum: 1, maximum: 1_000_000_000 },
    });
    assert.deepEqual(
      [discount.if.properties, discount.if.required, discount.then.properties],
      [{ type: { type: 'string', enum: ['percent'] } }, ['type'], { value: { type: 'integer', maximum: 100 } }],
    );
    const issue = body.paths['/coupons/{couponId}/issue'].post;
    assert.deepEqual(
      Object.keys(issue.responses).map(Number),
      [200, 202, 400, 401, 403, 404, 409, 410, 413, 415, 429, 503],
    );
  });

  test('pages have a policy that lets their own parts in', async () => {
    const home = await call(app.url, 'GET /');
    assert.match(home.headers.get('content-security-policy') ?? '', /default-src 'none'; script-src 'sha256-/);
    assert.match(home.body, /<script>/);
    const docs = await call(app.url, 'GET /docs');
    assert.equal(docs.status, 200);
    const [script] = docs.body.match(/\/docs\/static\/[\w-]+\.js/) ?? [];
    assert.equal((await call(app.url, `GET ${script}`)).status, 200);
    assert.match(docs.headers.get('content-security-policy') ?? '', /script-src 'self'/);
  });

  test('alive and ready', async () => {
    assert.deepEqual((await call(app.url, 'GET /healthz')).body, { ok: true });
    assert.deepEqual((await call(app.url, 'GET /readyz')).body, { ok: true });
  });
});

describe('when something is away', () => {
  const failing = { append: undefined as Error | undefined, reachable: true, store: undefined as Error | undefined };
  let app: MemoryApp;
  before(async () => {
    app = await startMemoryApp({
      ready: () => (failing.reachable ? { ok: true } : { ok: false, why: 'the log does not answer' }),
      tamper: {
        log: log =>
          new Proxy(log, {
            get: (target, name) => {
              if (name === 'append' && failing.append) return async () => Promise.reject(failing.append);
              if (name === 'reachable') return () => failing.reachable;
              const value = Reflect.get(target, name);
              return typeof value === 'function' ? value.bind(target) : value;
            },
          }),
        store: store =>
          new Proxy(store, {
            get: (target, name) => {
              if (failing.store && name !== 'commit') return async () => Promise.reject(failing.store);
              const value = Reflect.get(target, name);
              return typeof value === 'function' ? value.bind(target) : value;
            },
          }),
      },
    });
    await open(app, 'away', 5);
  });
  after(() => app.stop());

  test('the log: surely not queued, or not known', async () => {
    failing.append = new NotAccepted('away');
    const refused = await claim(app, 'away', 'ann');
    assertProblem(refused, '503 NOT_ACCEPTED');
    assert.equal(refused.headers.get('retry-after'), '1');
    assertProblem(await call(app.url, 'POST /coupons/away/stock', { body: { add: 1 } }), '503 NOT_ACCEPTED');
    failing.append = new OutcomeUnknown('away');
    assertProblem(await claim(app, 'away', 'ann'), '503 OUTCOME_UNKNOWN');
    assertProblem(await call(app.url, 'POST /coupons/away/close'), '503 OUTCOME_UNKNOWN');
    failing.append = undefined;
    failing.reachable = false;
    assertProblem(await claim(app, 'away', 'ann'), '503 NOT_ACCEPTED');
    const ready = await call(app.url, 'GET /readyz');
    assertProblem(ready, '503 NOT_READY');
    assert.equal(ready.body.detail, 'the log does not answer');
    failing.reachable = true;
    assert.equal((await claim(app, 'away', 'ann')).status, 202);
  });

  test('the store: reads say so and when to come again', async () => {
    failing.store = new Unavailable('away');
    for (const what of ['GET /coupons', 'GET /me/coupons', 'GET /admin/dead-letters', 'POST /coupons/nobody/issue']) {
      const answer = await call(app.url, what, { headers: as('ann') });
      assertProblem(answer, '503 UNAVAILABLE');
      assert.equal(answer.headers.get('retry-after'), '2');
    }
    failing.store = undefined;
  });

  test('a defect of ours is 500, told to the operator by its route, without what was sent', async () => {
    failing.store = new TypeError('a defect');
    const secrets = { ...as('ann'), authorization: 'Bearer the.token.itself' };
    const after = Buffer.from('1 secret').toString('base64url');
    assertProblem(await call(app.url, `GET /me/coupons?after=${after}`, { headers: secrets }), '500 INTERNAL');
    assertProblem(await call(app.url, 'POST /coupons/nobody/issue', { headers: secrets }), '500 INTERNAL');
    failing.store = undefined;
    const errors = app.said.filter(({ level }) => level === 'error').map(({ message }) => message);
    assert.deepEqual(errors, ['GET /me/coupons failed: a defect', 'POST /coupons/{couponId}/issue failed: a defect']);
  });
});

test("a second's own numbers are what the totals grew by", () => {
  const point = (second: number, issued: number, sold_out: number) => ({
    ...{ second, issued, counts: { ...noCounts(), sold_out } },
  });
  const now = 10_000_000;
  const of = (firstWonAt: number | null, ...series: ReturnType<typeof point>[]) => {
    const last = series.at(-1) as ReturnType<typeof point>;
    const stats = { firstWonAt, lastWonAt: null, issued: last.issued, counts: last.counts, series };
    return (statsJson('x' as CouponId, stats, now) as { perSecond: object[] }).perSecond;
  };
  const at = (ms: number) => new Date(ms).toISOString();
  const [a, b, old] = [now - 5_000, now - 3_000, now - 400_000];
  const grown = [
    { at: at(a), issued: 4, refused: 1 },
    { at: at(b), issued: 3, refused: 6 },
  ];
  assert.deepEqual(of(a + 1, point(a, 4, 1), point(b, 7, 7)), grown, 'from the beginning of the sale');
  assert.deepEqual(of(old, point(old, 10, 0), point(a, 14, 1), point(b, 17, 7)), grown, 'from the last point before');
  assert.deepEqual(of(1, point(a, 14, 1), point(b, 17, 7)), [grown[1]], 'a beginning that is not known is left out');
});
