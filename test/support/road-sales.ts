/** Scenarios of an operator: making a sale, its window, its stock, its end, and what is reported of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Profile } from '../../src/config.ts';
import { explained } from '../../src/http/prometheus.ts';
import { assertProblem, call } from './calls.ts';
import { owed } from './profiles.ts';
import { type Road, range, settled } from './road.ts';
import { until } from './until.ts';

const iso = (inMs: number): string => new Date(Date.now() + inMs).toISOString();

export function sales(at: () => Road, profile: Profile): void {
  test('the same coupon again is 200, another body 409', async () => {
    const { a, b, coupon } = at();
    const body = { couponId: await coupon(4, { name: 'x' }), name: 'x', stock: 4 };
    for (const app of [a, b]) {
      const again = await call(app.url, 'POST /coupons', { body });
      assert.equal(again.status, 200);
      assert.deepEqual([again.body.couponId, again.body.stock, again.body.state], [body.couponId, 4, 'open']);
      for (const other of [{ stock: 5 }, { name: 'y' }, { closesAt: '2099-01-01T00:00:00Z' }]) {
        assertProblem(await call(app.url, 'POST /coupons', { body: { ...body, ...other } }), '409 COUPON_EXISTS');
      }
    }
  });

  test('two that make the same coupon at once get the same one', async () => {
    const { a, b, client } = at();
    const body = { couponId: `twice-${process.hrtime.bigint()}`, name: 'twice', stock: 2 };
    const made = await Promise.all([a, b, a, b].map(app => call(app.url, 'POST /coupons', { body })));
    assert.deepEqual(made.map(({ status }) => `${status}`).sort(), ['200', '200', '200', '201']);
    const ends = await Promise.all(range(3).map(i => client.claim(body.couponId, { userId: `u${i}` }).outcome));
    assert.equal(ends.filter(({ outcome }) => outcome === 'issued').length, 2);
  });

  test('a coupon is ready to be claimed on every instance when the 201 arrives', async () => {
    const { b, client, coupon, press } = at();
    for (const i of range(5)) {
      const couponId = await coupon(1);
      const accepted = await press(couponId, `u${i}`, { at: b });
      assert.equal(accepted.status, 202, JSON.stringify(accepted.body));
      const end = await until(async () => {
        const task = await client.task(accepted.body.taskId);
        return task.state === 'done' && task;
      });
      assert.equal(end.outcome, 'issued');
    }
  });

  test('before opensAt: 403 with opensAt and Retry-After, not even a key helps', async () => {
    const { client, coupon, ground, press } = at();
    const opensAt = iso(3_600_000);
    const couponId = await coupon(1, { opensAt });
    for (const key of [undefined, 'a-key']) {
      const early = await press(couponId, 'ann', key === undefined ? {} : { key });
      assertProblem(early, '403 INACTIVE_COUPON');
      assert.deepEqual([early.body.reason, early.body.opensAt], ['not_open', opensAt]);
      const retryAfterS = Number(early.headers.get('retry-after'));
      assert.ok(retryAfterS > 3_500 && retryAfterS <= 3_600, `${retryAfterS}`);
    }
    assert.equal((await client.coupons.get(couponId)).state, 'scheduled');
    assert.deepEqual(await ground.rows(couponId), []);
  });

  test('a sale opens by itself when its time has come, by the clock of the log', async () => {
    const { client, coupon, ground } = at();
    const opensAt = iso(5_000);
    const couponId = await coupon(1, { opensAt });
    const early: string[] = [];
    const won = await until(async () => {
      const end = await client.claim(couponId, { userId: 'ann' }).outcome;
      if (end.outcome === 'issued') return end;
      assert.ok(end.outcome === 'inactive' && end.reason === 'not_open', JSON.stringify(end));
      early.push(end.taskId ? 'by the log' : 'at the door');
      return undefined;
    });
    // The door does not speak in the last two seconds, by which clocks may differ.
    assert.deepEqual(early.toSorted(), early);
    assert.equal(early.at(-1), 'by the log');
    assert.ok(Date.parse(won.issuedAt ?? '') >= Date.parse(opensAt), `${won.issuedAt} is before ${opensAt}`);
    assert.equal(won.slot, 1);
    assert.equal((await ground.rows(couponId)).length, 1);
  });

  test('a sale closes by itself at closesAt, by the clock of the log', async () => {
    const { call, client, coupon, ground, press, users } = at();
    const closesAt = iso(1_200);
    const couponId = await coupon(1_000_000, { closesAt });
    const winners: string[] = [];
    await until(async () => {
      const userId = `u${winners.length}`;
      const end = await client.claim(couponId, { userId }).outcome;
      if (end.outcome === 'inactive') return end.reason === 'closed';
      if (end.outcome !== 'issued') return assert.fail(end.outcome);
      assert.ok(Date.parse(end.issuedAt ?? '') < Date.parse(closesAt), `${end.issuedAt} is not before ${closesAt}`);
      winners.push(userId);
      return false;
    });
    const late = await press(couponId, 'late');
    assertProblem(late, '410 INACTIVE_COUPON');
    assert.equal(late.body.reason, 'closed');
    assertProblem(await call(`POST /coupons/${couponId}/stock`, { body: { add: 1 } }), '409 COUPON_CLOSED');
    assert.equal((await client.coupons.get(couponId)).state, 'closed');
    assert.deepEqual(users(await ground.rows(couponId)), winners);
  });

  test('after close nobody wins, a winner stays one, and no stock can be added', async () => {
    const { a, b, call: callA, client, coupon, ground, press } = at();
    const couponId = await coupon(5);
    assert.equal((await client.claim(couponId, { userId: 'ann', key: 'k' }).outcome).outcome, 'issued');
    assert.equal((await client.coupons.close(couponId)).state, 'closed');
    for (const app of [a, b]) {
      const late = await press(couponId, 'late', { at: app });
      assertProblem(late, '410 INACTIVE_COUPON');
      assert.equal(late.body.reason, 'closed');
      assert.equal((await press(couponId, 'ann', { at: app, key: 'k' })).body.outcome, 'issued');
      assert.equal(
        (await call(app.url, `POST /coupons/${couponId}/close`)).status,
        200,
        'closing again changes nothing',
      );
    }
    assertProblem(await callA(`POST /coupons/${couponId}/stock`, { body: { add: 1 } }), '409 COUPON_CLOSED');
    assert.equal((await ground.rows(couponId)).length, 1);
  });

  test('stock that is added re-opens a sold-out coupon on every instance, once for one key', async () => {
    const { a, b, client, coupon, ground, press, users } = at();
    const couponId = await coupon(1);
    assert.equal((await client.claim(couponId, { userId: 'first' }).outcome).outcome, 'issued');
    for (const app of [a, b]) assertProblem(await press(couponId, 'second', { at: app }), '410 INACTIVE_COUPON');
    const add = (app: typeof a) =>
      call(app.url, `POST /coupons/${couponId}/stock`, {
        body: { add: 2 },
        headers: { 'idempotency-key': 'two-more' },
      });
    const answers = [...(await Promise.all([add(a), add(b), add(a)])), await add(b)];
    for (const { status, body } of answers) assert.deepEqual([status, body.stock, body.state], [200, 3, 'open']);
    // At once, at the other instance, in spite of what it remembered.
    assert.equal((await press(couponId, 'second', { at: b })).status, 202);
    assert.equal((await client.claim(couponId, { userId: 'third' }).outcome).outcome, 'issued');
    const fourth = await client.claim(couponId, { userId: 'fourth' }).outcome;
    assert.ok(fourth.outcome === 'inactive' && fourth.reason === 'sold_out');
    assert.deepEqual(users(await ground.rows(couponId)), ['first', 'second', 'third']);
    assert.equal((await client.coupons.addStock(couponId, 1)).stock, 4, 'without a key each one counts');
  });

  test('stock above ten million is 400 and changes nothing', async () => {
    const { call, client, coupon } = at();
    const couponId = await coupon(9_999_999);
    assertProblem(await call(`POST /coupons/${couponId}/stock`, { body: { add: 2 } }), '400 MALFORMED_REQUEST');
    assertProblem(
      await call(`POST /coupons/${couponId}/stock`, { body: { add: 10_000_001 } }),
      '400 MALFORMED_REQUEST',
    );
    assertProblem(await call(`POST /coupons/no-such/stock`, { body: { add: 1 } }), '404 UNKNOWN_COUPON');
    assert.equal((await client.coupons.get(couponId)).stock, 9_999_999);
  });

  test('stats say what was issued and refused, by reason and by second', owed(profile, 'stats'), async () => {
    const { a, b, client, coupon } = at();
    const couponId = await coupon(3);
    const claims = range(20).map(i => client.claim(couponId, { userId: `u${i % 10}` }));
    const ends = await Promise.all(claims.map(claim => claim.outcome));
    // What was refused at the door never was in the log, and is not counted.
    const tasks = ends.filter(({ taskId }) => taskId);
    const counted = (wanted: string) => tasks.filter(end => end.outcome === wanted).length;
    const refused = { duplicated: counted('duplicated'), closed: 0, not_open: 0, sold_out: counted('inactive') };
    const stats = await until(async () => {
      const found = await client.coupons.stats(couponId);
      assert.deepEqual([found.issued, found.refused], [3, refused]);
      return found;
    });
    const sum = (of: 'issued' | 'refused') => stats.perSecond.reduce((n, second) => n + second[of], 0);
    assert.deepEqual([sum('issued'), sum('refused')], [3, refused.duplicated + refused.sold_out]);
    assert.ok((stats.firstIssuedAt ?? '') <= (stats.lastIssuedAt ?? '') && stats.firstIssuedAt);
    const shown = await client.coupons.get(couponId);
    assert.deepEqual(
      [shown.issued, shown.firstIssuedAt, shown.lastIssuedAt],
      [3, stats.firstIssuedAt, stats.lastIssuedAt],
    );
    for (const app of [a, b]) {
      assert.deepEqual((await call(app.url, `GET /coupons/${couponId}/stats`)).body, stats);
    }
  });
}

/** What holds once all of it is over; run after the others. */
export function afterwards(at: () => Road, profile: Profile): void {
  test(
    'in the end no stage is behind, nothing was set aside, and verify finds nothing',
    owed(profile, 'verify'),
    async () => {
      const { a, b, client } = at();
      await settled([a, b]);
      assert.deepEqual((await client.deadLetters()).items, []);
      const report = await until(async () => {
        const found = await client.verify();
        return found.behind === 0 && found;
      });
      assert.deepEqual(report.coupons.flatMap(({ problems }) => problems).concat(report.problems ?? []), []);
      assert.deepEqual([report.ok, report.unanswered, report.behind], [true, 0, 0]);
      assert.ok(report.checkedEntries > 0 && report.coupons.length > 0);
      const { stages } = await client.lag();
      for (const stage of ['reserve', 'persist', 'stats']) {
        const told = stages.filter(lag => lag.stage === stage);
        const states = new Set(told.map(({ state }) => state));
        if (told.length > 0) assert.deepEqual(states, new Set(['running']), stage);
      }
    },
  );

  test('metrics have every name that is explained, ready says so, the page and the API page are there', async () => {
    const { a, b, call: callA } = at();
    let accepted = 0;
    for (const app of new Set([a, b])) {
      const { body, status } = await call(app.url, 'GET /metrics');
      assert.equal(status, 200);
      for (const { name } of explained) assert.ok(body.includes(`# TYPE ${name} `), name);
      accepted += Number(/^dibs_accepted_total (\d+)$/m.exec(body)?.[1] ?? 0);
      assert.match(body, /^dibs_streams_open 0$/m);
      assert.match(body, /^dibs_pending_requests 0$/m);
      assert.deepEqual((await call(app.url, 'GET /readyz')).body, { ok: true });
      assert.deepEqual((await call(app.url, 'GET /healthz')).body, { ok: true });
    }
    assert.ok(accepted > 0);
    for (const path of ['/', '/docs', '/openapi.json']) assert.equal((await callA(`GET ${path}`)).status, 200, path);
  });
}
