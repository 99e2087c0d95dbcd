import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { exportJWK, SignJWT } from 'jose';
import type { CouponId, RequestKey, UserId } from '../src/coupon.ts';
import { NotAccepted, OutcomeUnknown, Unavailable } from '../src/errors.ts';
import { statsJson } from '../src/http/coupons.ts';
import { explained } from '../src/http/prometheus.ts';
import { Buckets, networkOf } from '../src/http/rate.ts';
import { noCounts } from '../src/sale.ts';
import { type Answered, assertProblem, call, openStream, raw, until } from './support/calls.ts';
import { type MemoryApp, startMemoryApp } from './support/memory-app.ts';

const as = (userId: string) => ({ 'x-user-id': userId });
const claim = (app: MemoryApp, couponId: string, userId: string, headers: Record<string, string> = {}) =>
  call(app.url, `POST /coupons/${couponId}/issue`, { headers: { ...as(userId), ...headers } });
const open = (app: MemoryApp, couponId: string, stock: number, more: object = {}) =>
  call(app.url, 'POST /coupons', { body: { couponId, name: couponId, stock, ...more } });
const task = (app: MemoryApp, { body }: Answered) => call(app.url, `GET ${body.links.task}`);
const ended = (app: MemoryApp, accepted: Answered) =>
  until(
    () => task(app, accepted),
    ({ body }) => body.state === 'done',
  );

/** The id of ann's request, the first after the opening of the first coupon; of another partition if asked. */
const sealed = (app: MemoryApp, partition: number) =>
  app.sealer.seal({
    ...{ couponId: 'live' as CouponId, userId: 'ann' as UserId, partition, offset: 1 },
    key: '0123456789abcdef' as RequestKey,
  });

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

describe('streams', () => {
  let app: MemoryApp;
  before(async () => {
    app = await startMemoryApp();
    await open(app, 'live', 2);
  });
  after(() => app.stop());

  test('progress while it waits, one outcome, then the end', async () => {
    const goOn = await app.holdReserve();
    const [first, second] = [await claim(app, 'live', 'ann'), await claim(app, 'live', 'bob')];
    const stream = await openStream(app.url + second.body.links.events);
    assert.equal(stream.status, 200);
    assert.match(stream.headers.get('content-type') ?? '', /^text\/event-stream/);
    assert.equal(stream.headers.get('cache-control'), 'no-store');
    assert.equal(stream.headers.get('x-accel-buffering'), 'no');
    const waiting = await stream.next();
    assert.equal(waiting?.event, 'progress');
    assert.deepEqual(JSON.parse(waiting?.data as string), { state: 'accepted', ahead: 1 });
    const retryMs = stream.retryMs() as number;
    assert.ok(retryMs >= 1_000 && retryMs <= 3_000, String(retryMs));

    // The same place again, for one who was told already: nothing is repeated until there is news.
    const resumed = await openStream(app.url + second.body.links.events, {
      'last-event-id': waiting?.lastEventId as string,
    });
    await goOn();
    const outcome = await last(stream);
    assert.deepEqual(outcome, (await task(app, second)).body);
    assert.equal(outcome.slot, 2);
    const seen: string[] = [];
    for (let event = await resumed.next(); event; event = await resumed.next()) {
      seen.push(event.event);
      if (event.event === 'progress') assert.notEqual(JSON.parse(event.data).ahead, 1);
    }
    assert.equal(seen.at(-1), 'outcome');
    assert.equal((await ended(app, first)).body.slot, 1);
    assert.equal(app.hub.watching, 0);
  });

  test('long after the result the outcome comes at once, and again to one who knows it', async () => {
    const taskId = sealed(app, 0);
    const stream = await openStream(`${app.url}/tasks/${taskId}/events`, { 'last-event-id': '3' });
    const event = await stream.next();
    assert.deepEqual([event?.event, event?.lastEventId], ['outcome', '3']);
    assert.equal(await stream.next(), undefined);
  });

  test('the connection of a stream that has ended takes the next request', async () => {
    const taskId = sealed(app, 0);
    const stream = `GET /tasks/${taskId}/events HTTP/1.1\r\nhost: x\r\n\r\n`;
    const text = await raw(app.port, `${stream}GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    assert.match(text, /event: outcome[\s\S]*\r\n0\r\n\r\nHTTP\/1\.1 200 OK[\s\S]*\{"ok":true\}$/);
    // One who speaks HTTP/1.0 gets it without chunks, and the end of the connection.
    const old = await raw(app.port, `GET /tasks/${taskId}/events HTTP/1.0\r\n\r\n`);
    assert.match(old, /\r\n\r\nretry: \d+\n\nevent: outcome\nid: 3\ndata: \{.*\}\n\n$/);
  });

  test('what is no stream: HEAD, another form, a task that is none', async () => {
    const taskId = sealed(app, 0);
    const head = await call(app.url, `HEAD /tasks/${taskId}/events`);
    assert.deepEqual([head.status, head.headers.get('cache-control')], [200, 'no-store']);
    assertProblem(
      await call(app.url, `GET /tasks/${taskId}/events`, { headers: { accept: 'application/json' } }),
      '406 NOT_ACCEPTABLE',
    );
    assertProblem(await call(app.url, 'GET /tasks/nonsense/events'), '404 UNKNOWN_TASK');
    const elsewhere = sealed(app, 7);
    assertProblem(await call(app.url, `GET /tasks/${elsewhere}/events`), '404 UNKNOWN_TASK');
    assertProblem(await call(app.url, `GET /tasks/${elsewhere}`), '404 UNKNOWN_TASK');
  });

  test('a client that goes away is forgotten', async () => {
    await open(app, 'left', 1);
    const goOn = await app.holdReserve();
    const stream = await openStream(app.url + (await claim(app, 'left', 'dan')).body.links.events);
    await stream.next();
    assert.equal(app.hub.watching, 1);
    await stream.close();
    await until(
      () => app.hub.watching,
      n => n === 0,
    );
    await goOn();
  });

  test('a reader that does not read is dropped and counted', async () => {
    await open(app, 'slow', 1);
    const stop = await app.holdReserve();
    const accepted = await claim(app, 'slow', 'sue');
    const { watch } = app.hub;
    app.hub.watch = (_task, watching) => {
      for (let ahead = 100_000; ahead > 0; ahead--) watching.tell({ state: 'accepted' }, ahead);
      return () => {};
    };
    await raw(app.port, `GET ${accepted.body.links.events} HTTP/1.1\r\nhost: x\r\n\r\n`).catch(() => '');
    app.hub.watch = watch;
    const { body } = await call(app.url, 'GET /metrics');
    assert.match(body, /^dibs_streams_dropped_total 1$/m);
    assert.match(body, /^dibs_streams_open 0$/m);
    await stop();
  });
});

test('stopping ends the streams, so that their clients go elsewhere, and refuses what comes', async () => {
  const app = await startMemoryApp();
  await open(app, 'bye', 1);
  await app.holdReserve();
  const stream = await openStream(app.url + (await claim(app, 'bye', 'ann')).body.links.events);
  assert.equal((await stream.next())?.event, 'progress');
  await app.stop();
  assert.equal(await stream.next(), undefined);
  await app.http.stop();
  await assert.rejects(call(app.url, 'GET /healthz'));
});

async function last(stream: Awaited<ReturnType<typeof openStream>>) {
  let found: unknown;
  for (let event = await stream.next(); event; event = await stream.next()) found = JSON.parse(event.data);
  return found as { slot: number };
}

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
    assertProblem(await call(app.url, 'GET /me/coupons?after=secret', { headers: secrets }), '500 INTERNAL');
    assertProblem(await call(app.url, 'POST /coupons/nobody/issue', { headers: secrets }), '500 INTERNAL');
    failing.store = undefined;
    const errors = app.said.filter(({ level }) => level === 'error').map(({ message }) => message);
    assert.deepEqual(errors, ['GET /me/coupons failed: a defect', 'POST /coupons/{couponId}/issue failed: a defect']);
  });
});

describe('tokens', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const keySet = createServer((_req, res) => {
    void exportJWK(rsa.publicKey).then(jwk =>
      res.end(JSON.stringify({ keys: [{ ...jwk, kid: 'one', alg: 'RS256' }] })),
    );
  });
  let app: MemoryApp;
  before(async () => {
    await new Promise<void>(resolve => keySet.listen(0, '127.0.0.1', resolve));
    const jwksUrl = `http://127.0.0.1:${(keySet.address() as AddressInfo).port}/keys`;
    app = await startMemoryApp({ settings: { auth: { kind: 'jwt', jwksUrl, issuer: 'us', audience: 'dibs' } } });
  });
  after(async () => {
    await app.stop();
    keySet.close();
  });
  const sign = (claims: Record<string, unknown>, sub = 'ann') =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: 'RS256', kid: 'one' })
      .setSubject(sub)
      .setIssuer('us')
      .setAudience('dibs')
      .setExpirationTime('1h')
      .sign(rsa.privateKey);

  test('of a key set: the user is its sub, the operator has the role', async () => {
    const admin = { authorization: `Bearer ${await sign({ role: 'admin' }, 'boss')}` };
    const user = { authorization: `Bearer ${await sign({})}` };
    const body = { couponId: 'signed', name: 'Signed', stock: 1 };
    assertProblem(await call(app.url, 'POST /coupons', { body, headers: user }), '403 FORBIDDEN');
    const nobody = await call(app.url, 'POST /coupons', { body });
    assertProblem(nobody, '401 UNAUTHENTICATED');
    assert.equal(nobody.headers.get('www-authenticate'), 'Bearer');
    assert.equal((await call(app.url, 'POST /coupons', { body, headers: admin })).status, 201);
    // A header that claims to be someone else says nothing here.
    const headers = { ...user, 'x-user-id': 'mallory' };
    const accepted = await call(app.url, 'POST /coupons/signed/issue', { headers });
    assert.equal(accepted.status, 202);
    await ended(app, accepted);
    const mine = await call(app.url, 'GET /me/coupons', { headers: user });
    assert.equal(mine.body.items[0].userId, 'ann');
  });

  test('a sold-out coupon is refused from memory, before token and body', async () => {
    await until(
      () => app.door.latch.shut('signed'),
      shut => shut === 'sold_out',
    );
    const answer = await call(app.url, 'POST /coupons/signed/issue', { body: '{' });
    assertProblem(answer, '410 INACTIVE_COUPON');
    assertProblem(
      await call(app.url, 'POST /coupons/signed/issue', { headers: { 'idempotency-key': 'k' } }),
      '401 UNAUTHENTICATED',
    );
  });
});

test('HS256 by the secret', async () => {
  const secret = 'a secret of the tests, long enough';
  const app = await startMemoryApp({ settings: { auth: { kind: 'jwt', secret } } });
  const token = await new SignJWT({ role: 'admin' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject('ann')
    .sign(Buffer.from(secret));
  const headers = { authorization: `bearer ${token}` };
  assert.equal((await call(app.url, 'POST /coupons', { headers, body: { name: 'x', stock: 1 } })).status, 201);
  assert.equal((await call(app.url, 'GET /me/coupons', { headers })).status, 200);
  await app.stop();
});

test('rates: a user and an address get 429 with the time to wait; off unless set', async () => {
  const app = await startMemoryApp({ settings: { ratePerUser: 1, ratePerAddress: 3 } });
  await open(app, 'rated', 9);
  assert.equal((await claim(app, 'rated', 'ann')).status, 202);
  const again = await claim(app, 'rated', 'ann');
  assertProblem(again, '429 TOO_MANY_REQUESTS');
  assert.equal(again.headers.get('retry-after'), '1');
  assert.match(again.body.detail, /one user/);
  assert.equal((await claim(app, 'rated', 'bob')).status, 202);
  const crowd = await claim(app, 'rated', 'cyd');
  assertProblem(crowd, '429 TOO_MANY_REQUESTS');
  assert.match(crowd.body.detail, /one address/);
  await app.stop();
});

test('buckets fill with time and are bounded in number', () => {
  const buckets = new Buckets(2);
  assert.deepEqual([buckets.take('a', 0), buckets.take('a', 0), buckets.take('a', 0)], [0, 0, 500]);
  assert.equal(buckets.take('a', 500), 0);
  assert.equal(buckets.take('a', 400), 500, 'a clock that steps back gives nothing and takes nothing');
  for (let i = 0; i < 60_000; i++) buckets.take(`user-${i}`, 1);
  assert.equal(buckets.size, 50_000);
});

test('an IPv6 address is one of its /64', () => {
  assert.equal(networkOf('127.0.0.1'), '127.0.0.1');
  assert.equal(networkOf('::ffff:10.0.0.1'), '10.0.0.1');
  assert.equal(networkOf('2001:db8:0:7:1:2:3:4'), networkOf('2001:db8:0:7:ffff::1'));
  assert.notEqual(networkOf('2001:db8:0:7::1'), networkOf('2001:db8:0:8::1'));
  assert.equal(networkOf('::1'), '0:0:0:0');
});

test('another origin may call where it is allowed to', async () => {
  const app = await startMemoryApp({ settings: { corsOrigin: 'https://shop.example' } });
  const asked = await call(app.url, 'OPTIONS /coupons/x/issue');
  assert.deepEqual([asked.status, asked.headers.get('access-control-allow-origin')], [204, 'https://shop.example']);
  assert.match(asked.headers.get('access-control-allow-headers') ?? '', /idempotency-key/);
  for (const answer of [await claim(app, 'none', 'ann'), await call(app.url, 'GET /coupons')]) {
    assert.equal(answer.headers.get('access-control-allow-origin'), 'https://shop.example');
  }
  await app.stop();
});

test('a process without the api role only tells how it is', async () => {
  const app = await startMemoryApp({ settings: { api: false } });
  for (const path of ['/healthz', '/readyz', '/metrics', '/admin/lag']) {
    assert.equal((await call(app.url, `GET ${path}`)).status, 200, path);
  }
  assertProblem(await claim(app, 'x', 'ann'), '404 NOT_FOUND');
  await app.stop();
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
