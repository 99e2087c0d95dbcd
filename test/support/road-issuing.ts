/** Scenarios of single users: what one press leads to, and what a second one does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Profile } from '../../src/config.ts';
import { assertProblem, call, openStream, type Stream } from './calls.ts';
import { owed } from './profiles.ts';
import { ended, type Road, range } from './road.ts';
import { until } from './until.ts';

/** Everything that a stream says until the server ends it. */
export async function heard(stream: Stream) {
  const progress: { state: string; ahead?: number }[] = [];
  const ids: string[] = [];
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it waits for.
  let outcome: any;
  for (let event = await stream.next(); event; event = await stream.next()) {
    assert.equal(outcome, undefined, 'nothing comes after the outcome');
    ids.push(event.lastEventId);
    if (event.event === 'outcome') outcome = JSON.parse(event.data);
    else progress.push(JSON.parse(event.data));
  }
  return { progress, outcome, ids };
}

export function issuing(at: () => Road, profile: Profile): void {
  test('a request is accepted, followed, issued, stored, shown, and redeemed once', owed(profile, 'push'), async () => {
    const { a, b, call: callA, client, coupon, ground, press } = at();
    const couponId = await coupon(3);
    const [userId, since] = [`ann-${couponId}`, Date.now()];
    const accepted = await press(couponId, userId);
    assert.equal(accepted.status, 202, JSON.stringify(accepted.body));
    const { taskId, links, state } = accepted.body;
    assert.deepEqual([accepted.body.couponId, state, links.task], [couponId, 'accepted', `/tasks/${taskId}`]);
    assert.equal(accepted.headers.get('location'), links.task);

    const stream = await openStream(b.url + links.events);
    assert.equal(stream.headers.get('content-type')?.split(';')[0], 'text/event-stream');
    assert.equal(stream.headers.get('cache-control'), 'no-store');
    assert.equal(stream.headers.get('x-accel-buffering'), 'no');
    const { outcome, progress } = await heard(stream);
    for (const { state } of progress) assert.ok(['accepted', 'reserved'].includes(state), state);
    const { issuedAt, ...issued } = outcome;
    const userCouponId = `${couponId}.1`;
    assert.deepEqual(issued, { taskId, couponId, state: 'done', outcome: 'issued', slot: 1, userCouponId });
    assert.ok(Date.parse(issuedAt) >= since - 2_000 && Date.parse(issuedAt) <= Date.now() + 2_000, issuedAt);
    assert.deepEqual(
      (await ground.rows(couponId)).map(({ slot, userId }) => [slot, userId]),
      [[1, userId]],
    );
    for (const app of [a, b]) {
      assert.deepEqual((await call(app.url, `GET ${links.task}`)).body, outcome, 'the status says what was pushed');
    }

    const mine = client.as({ userId });
    const held = { userCouponId, couponId, userId, slot: 1, issuedAt };
    assert.deepEqual((await mine.myCoupons()).items, [{ ...held, state: 'issued' }]);
    const redeem = `POST /me/coupons/${userCouponId}/redeem`;
    assertProblem(await callA(redeem, { headers: { 'x-user-id': 'another' } }), '404 UNKNOWN_USER_COUPON');
    const redeemed = await mine.redeem(userCouponId);
    assert.deepEqual({ ...redeemed, redeemedAt: '' }, { ...held, state: 'redeemed', redeemedAt: '' });
    assertProblem(await call(b.url, redeem, { headers: { 'x-user-id': userId } }), '409 ALREADY_REDEEMED');
    assert.deepEqual((await mine.myCoupons()).items, [redeemed]);
  });

  test('my coupons come newest first, page by page', async () => {
    const { client, coupon } = at();
    const couponIds = [await coupon(1), await coupon(1), await coupon(1)];
    const mine = client.as({ userId: `fay-${couponIds[0]}` });
    for (const couponId of couponIds) assert.equal((await mine.claim(couponId).outcome).outcome, 'issued');
    const seen: string[] = [];
    let after: string | undefined;
    do {
      const page = await mine.myCoupons({ limit: 2, ...(after ? { after } : {}) });
      seen.push(...page.items.map(item => item.couponId));
      after = page.next;
    } while (after);
    assert.deepEqual(seen, couponIds.toReversed());
  });

  test('a coupon past its validUntil is issued, shown as expired, and not redeemed', async () => {
    const { client, coupon } = at();
    const couponId = await coupon(1, { validUntil: '2020-01-01T00:00:00Z' });
    const mine = client.as({ userId: `eve-${couponId}` });
    assert.equal((await mine.claim(couponId).outcome).outcome, 'issued');
    assert.equal((await mine.myCoupons()).items[0]?.state, 'expired');
    await assert.rejects(mine.redeem(`${couponId}.1`), { status: 410, code: 'EXPIRED_COUPON' });
  });

  test('a user wins once: the other requests are duplicated, by their task or at the door', async () => {
    const { b, client, coupon, ground, press, split } = at();
    const crowd = async () => {
      const couponId = await coupon(5);
      const userId = `bob-${couponId}`;
      const claims = range(12).map(i => (i % 2 ? client : split).claim(couponId, { userId }));
      const outcomes = await Promise.all(claims.map(claim => claim.outcome));
      const userCouponId = `${couponId}.1`;
      for (const { outcome, ...rest } of outcomes) {
        assert.ok(outcome === 'issued' || outcome === 'duplicated', outcome);
        assert.ok('slot' in rest && rest.slot === 1 && rest.userCouponId === userCouponId);
      }
      assert.equal(outcomes.filter(({ outcome }) => outcome === 'issued').length, 1);
      const told = outcomes.some(({ outcome, taskId }) => outcome === 'duplicated' && taskId);
      return told ? { couponId, userId, userCouponId } : undefined;
    };
    // The first may be committed before the others are read, who are then told at the door: ask a further crowd.
    const { couponId, userId, userCouponId } = await until(crowd);
    for (const app of [undefined, b]) {
      const again = await press(couponId, userId, app ? { at: app } : {});
      assertProblem(again, '409 DUPLICATED_COUPON');
      assert.deepEqual([again.body.slot, again.body.userCouponId], [1, userCouponId]);
    }
    assert.equal((await ground.rows(couponId)).length, 1);
  });

  test('sold out: who comes too late is told inactive by the task, later ones 410 at the door, with a key too', async () => {
    const { b, client, coupon, ground, press } = at();
    const crowd = async () => {
      const couponId = await coupon(2);
      const claims = range(24).map(i => client.claim(couponId, { userId: `u${i}-${couponId}` }));
      const outcomes = await Promise.all(claims.map(claim => claim.outcome));
      const slots = outcomes.flatMap(end => (end.outcome === 'issued' ? [end.slot] : []));
      assert.deepEqual(
        slots.toSorted((x, y) => x - y),
        [1, 2],
      );
      const losers = outcomes.filter(end => end.outcome !== 'issued');
      for (const end of losers) assert.ok(end.outcome === 'inactive' && end.reason === 'sold_out', JSON.stringify(end));
      const loser = losers.find(({ taskId }) => taskId)?.taskId;
      return loser === undefined ? undefined : { couponId, loser };
    };
    // The first two may be decided before the others are read: then a further crowd is asked.
    const { couponId, loser } = await until(crowd);
    const { state, ...task } = await client.task(loser);
    assert.deepEqual([state, task], ['done', { taskId: loser, couponId, outcome: 'inactive', reason: 'sold_out' }]);
    for (const [app, key] of [[at().a], [b], [b, 'a-key']] as const) {
      const late = await press(couponId, 'late', { at: app, ...(key ? { key } : {}) });
      assertProblem(late, '410 INACTIVE_COUPON');
      assert.equal(late.body.reason, 'sold_out');
    }
    const { issued, remaining, state: shown } = await client.coupons.get(couponId);
    assert.deepEqual([issued, remaining, shown], [2, 0, 'sold_out']);
    assert.equal((await ground.rows(couponId)).length, 2);
  });

  test('a coupon with stock 0 is INACTIVE_COUPON for everybody', async () => {
    const { client, coupon, ground, press } = at();
    const couponId = await coupon(0);
    const end = await client.claim(couponId, { userId: 'ann' }).outcome;
    assert.ok(end.outcome === 'inactive' && end.reason === 'sold_out', JSON.stringify(end));
    const refused = await until(async () => {
      const answer = await press(couponId, 'ann');
      return answer.status !== 202 && answer;
    });
    assertProblem(refused, '410 INACTIVE_COUPON');
    assert.deepEqual(await ground.rows(couponId), []);
  });

  test('an unknown coupon is 404 for a request and for a look', async () => {
    const { call, press } = at();
    assertProblem(await press('no-such-coupon', 'ann'), '404 UNKNOWN_COUPON');
    for (const what of [
      'GET /coupons/no-such-coupon',
      'GET /coupons/no-such-coupon/stats',
      'POST /coupons/no-such-coupon/close',
    ]) {
      assertProblem(await call(what), '404 UNKNOWN_COUPON');
    }
    assertProblem(await call('GET /tasks/AAAA'), '404 UNKNOWN_TASK');
    assertProblem(await call('GET /tasks/AAAA/events'), '404 UNKNOWN_TASK');
  });

  test('a replayed Idempotency-Key is 200 with the task that won, on either instance, sold out or not', async () => {
    const { a, b, client, coupon, ground, press } = at();
    const couponId = await coupon(1);
    const [userId, key] = [`ida-${couponId}`, 'pressed-once'];
    const first = await press(couponId, userId, { key });
    assert.equal(first.status, 202);
    const { taskId: _, ...issued } = await ended(client, first.body.taskId);
    for (const app of [a, b]) {
      const again = await press(couponId, userId, { key, at: app });
      assert.equal(again.status, 200, JSON.stringify(again.body));
      const { taskId, ...task } = again.body;
      assert.deepEqual(task, issued);
      assert.deepEqual(await client.task(taskId), again.body);
    }
    assertProblem(await press(couponId, userId, { key: 'another' }), '409 DUPLICATED_COUPON');
    assert.equal((await ground.rows(couponId)).length, 1);
  });

  test('requests with one key at once are one coupon, and every task of them is issued with the same slot', async () => {
    const { a, b, client, coupon, ground, press } = at();
    const couponId = await coupon(9);
    const userId = `kim-${couponId}`;
    const answers = await Promise.all(range(10).map(i => press(couponId, userId, { key: 'same', at: i % 2 ? a : b })));
    const tasks = await Promise.all(answers.map(({ body }) => ended(client, body.taskId)));
    assert.deepEqual(
      answers.filter(({ status }) => status !== 202 && status !== 200),
      [],
    );
    assert.deepEqual(
      new Set(tasks.map(task => 'slot' in task && `${task.outcome} ${task.slot}`)),
      new Set(['issued 1']),
    );
    assert.equal((await ground.rows(couponId)).length, 1);
  });

  test(
    'a subscription long after the result, with and without Last-Event-ID, is told it at once',
    owed(profile, 'push'),
    async () => {
      const { a, b, client, coupon, press } = at();
      const couponId = await coupon(1);
      const { taskId, links } = (await press(couponId, 'tom')).body;
      const task = await ended(client, taskId);
      // Others went by since: the frontier lies far behind the entry.
      const others = range(30).map(i => client.claim(couponId, { userId: `o${i}` }).outcome);
      await Promise.all(others);
      for (const app of [a, b]) {
        for (const id of ['', '0-5', '1', '3', 'not one of ours']) {
          const stream = await openStream(app.url + links.events, id ? { 'last-event-id': id } : {});
          assert.deepEqual(await heard(stream), { progress: [], outcome: task, ids: ['3'] });
          assert.ok((stream.retryMs() ?? 0) >= 1_000);
        }
      }
    },
  );
}
