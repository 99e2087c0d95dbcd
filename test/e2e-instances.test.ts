/** Instances that come and go: streams that wait, are ended and go on elsewhere, and answers after a restart. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { App, Ports } from '../src/app.ts';
import { createClient, type FetchLike } from '../src/client/index.ts';
import type { CouponStore } from '../src/ports.ts';
import { type Breakable, breakable } from './support/breakable.ts';
import { call, openStream } from './support/calls.ts';
import { type ClusterGround, clusterGround, embeddedGround, type Ground, noCluster } from './support/profiles.ts';
import { ended, settled } from './support/road.ts';
import { heard } from './support/road-issuing.ts';
import { until } from './support/until.ts';

const press = (app: App, couponId: string, userId: string, key?: string) =>
  call(app.url, `POST /coupons/${couponId}/issue`, {
    headers: { 'x-user-id': userId, ...(key === undefined ? {} : { 'idempotency-key': key }) },
  });

const timing = { backoffMsMin: 20, backoffMsMax: 200, streamRetryMsMax: 50, streamFailuresMax: 10 };

describe('instances, cluster', { skip: noCluster, timeout: 90_000 }, () => {
  let ground: ClusterGround;
  before(async () => {
    ground = await clusterGround({ partitions: '1' });
  });
  after(() => ground.close());

  test('a stream opened before, during or after the decision says the same; issued only with its row', async () => {
    const [taking, telling] = await Promise.all([ground.start({ roles: 'api' }), ground.start({ roles: 'api' })]);
    const client = createClient({ baseUrl: taking.url });
    const { couponId } = await client.coupons.create({ couponId: 'held', name: 'held', stock: 1 });
    const accepted = [await press(taking, couponId, 'ann'), await press(taking, couponId, 'bob')];
    const [ann, bob] = accepted.map(({ body }) => body.links.events as string) as [string, string];
    const before = [await openStream(telling.url + ann), await openStream(telling.url + bob)];
    // Nobody decides yet.
    assert.deepEqual(
      (await Promise.all(before.map(stream => stream.next()))).map(event => event && JSON.parse(event.data).state),
      ['accepted', 'accepted'],
    );

    const gate = held();
    const wrap = (ports: Ports): Ports => ({ ...ports, store: gate.around(ports.store, 'commit') });
    const working = await ground.start({ roles: 'reserve,persist' }, { wrap });
    const reserved = await until(async () => {
      const event = await before[0]?.next();
      return event && JSON.parse(event.data).state === 'reserved' && event;
    });
    assert.deepEqual(await ground.rows(couponId), []);
    const status = await client.task(accepted[0]?.body.taskId);
    assert.deepEqual(status, { taskId: status.taskId, couponId, state: 'reserved' }, 'no slot is shown before its row');
    assert.deepEqual((await client.as({ userId: 'ann' }).myCoupons()).items, []);
    // A loser needs no row to be told.
    const lost = await heard(before[1] as NonNullable<(typeof before)[1]>);
    assert.deepEqual([lost.outcome.outcome, lost.outcome.reason], ['inactive', 'sold_out']);
    // The row is not committed, so the filter lets the same user pass; that task waits for the row, too.
    const second = await press(telling, couponId, 'ann');
    assert.equal(second.status, 202);
    const [during, again] = [
      await openStream(taking.url + ann),
      await openStream(taking.url + ann, { 'last-event-id': reserved.lastEventId }),
    ];
    const doubled = await openStream(taking.url + second.body.links.events);
    assert.equal(JSON.parse((await during.next())?.data ?? '').state, 'reserved');
    assert.equal(JSON.parse((await doubled.next())?.data ?? '').state, 'accepted');

    gate.open();
    const outcomes = [];
    for (const stream of [before[0] as typeof during, during, again]) {
      const { outcome, progress } = await heard(stream);
      assert.deepEqual(progress, [], 'what was told is not told again');
      outcomes.push(outcome);
    }
    for (const app of [taking, telling]) outcomes.push((await heard(await openStream(app.url + ann))).outcome);
    assert.deepEqual([outcomes[0].outcome, outcomes[0].slot], ['issued', 1]);
    for (const outcome of outcomes) assert.deepEqual(outcome, outcomes[0]);
    const { outcome } = await heard(doubled);
    assert.deepEqual([outcome.outcome, outcome.slot, outcome.issuedAt], ['duplicated', 1, outcomes[0].issuedAt]);
    assert.equal((await ground.rows(couponId)).length, 1);
    await Promise.all([taking, telling, working].map(app => app.stop()));
  });

  test('an instance that has just started sells the coupons of before while the store is away', async () => {
    const first = await ground.start({ roles: 'api' });
    await createClient({ baseUrl: first.url }).coupons.create({ couponId: 'before', name: 'before', stock: 1 });
    await first.stop();
    let store: Breakable<CouponStore> | undefined;
    const wrap = (ports: Ports): Ports => {
      store = breakable(ports.store);
      return { ...ports, store: store.it };
    };
    const second = await ground.start({ roles: 'api' }, { wrap });
    store?.always('coupons');
    assert.equal((await press(second, 'before', 'ann')).status, 202);
    await second.stop();
  });

  test('an instance that stops ends its streams, and a client goes on at another one', async () => {
    const [first, second] = await Promise.all([ground.start({ roles: 'api' }), ground.start({ roles: 'api' })]);
    let alive = first;
    const balanced: FetchLike = (url, init) => fetch(url.replace('http://dibs', alive.url), init);
    const client = createClient({ baseUrl: 'http://dibs', fetch: balanced, timing });
    await client.coupons.create({ couponId: 'moving', name: 'moving', stock: 1 });
    const claim = client.claim('moving', { userId: 'ann' });
    const taskId = await claim.taskId;
    const stream = await openStream(`${first.url}/tasks/${taskId}/events`);
    const streamsOpen = async (app: App) =>
      /^dibs_streams_open (\d+)$/m.exec((await call(app.url, 'GET /metrics')).body)?.[1];
    await until(async () => (await streamsOpen(first)) === '2');
    alive = second;
    const stopAt = performance.now();
    await first.stop();
    assert.ok(performance.now() - stopAt < 4_000, 'streams do not keep it from stopping');
    assert.equal((await heard(stream)).outcome, undefined);
    await until(async () => (await streamsOpen(second)) === '1');
    const working = await ground.start({ roles: 'reserve,persist' });
    const end = await claim.outcome;
    assert.deepEqual([end.outcome, end.taskId, claim.via, claim.tries], ['issued', taskId, 'stream', 1]);
    await Promise.all([second, working].map(app => app.stop()));
  });

  test('a stage goes on at another instance when the one that ran it stops', async () => {
    const [first, second] = [await ground.start(), await ground.start()];
    const client = createClient({ baseUrl: second.url });
    await client.coupons.create({ couponId: 'taken-over', name: 'taken over', stock: 3 });
    assert.equal((await client.claim('taken-over', { userId: 'ann' }).outcome).outcome, 'issued');
    await first.stop();
    assert.equal((await client.claim('taken-over', { userId: 'bob' }).outcome).outcome, 'issued');
    await settled([second]);
    assert.equal((await client.verify()).ok, true);
    await second.stop();
    await second.stop();
  });
});

describe('instances, embedded', { timeout: 110_000 }, () => {
  let ground: Ground;
  before(() => {
    ground = embeddedGround();
  });
  after(() => ground.close());

  // A turn decides and commits at once, so no stream ever waits here: "before" and "during" are the cluster's.
  test('a client whose server stops right after the 202 has its outcome once it is back', async () => {
    const first = await ground.start();
    const { port } = new URL(first.url);
    const client = createClient({ baseUrl: first.url, timing });
    await client.coupons.create({ couponId: 'back', name: 'back', stock: 1 });
    // Not a stream is opened before the server is gone.
    const late: FetchLike = async (url, init) => {
      if (init.method === 'GET') await gone;
      return fetch(url, init);
    };
    const claim = createClient({ baseUrl: first.url, timing, fetch: late }).claim('back', { userId: 'ann' });
    const gone = claim.taskId.then(() => first.stop());
    await gone;
    await assert.rejects(client.coupons.list(), { name: 'UnreachableError' });
    const second = await ground.start({ port });
    const end = await claim.outcome;
    assert.deepEqual([end.outcome, 'slot' in end && end.slot], ['issued', 1]);
    await second.stop();
  });

  test('after a restart on the same folder every task, coupon and refusal is what it was', async () => {
    const first = await ground.start();
    const client = createClient({ baseUrl: first.url });
    await client.coupons.create({ couponId: 'kept', name: 'kept', stock: 2 });
    const pressed = [];
    for (const user of ['ann', 'bob', 'eve']) pressed.push(await press(first, 'kept', user, 'a-key'));
    const tasks = await Promise.all(
      pressed.flatMap(({ body, status }) => (status === 202 ? [ended(client, body.taskId)] : [])),
    );
    assert.ok(tasks.length >= 2);
    const coupon = await client.coupons.get('kept');
    const stats = await until(async () => {
      const found = await client.coupons.stats('kept');
      return found.issued === 2 && found;
    });
    await first.stop();

    const second = createClient({ baseUrl: (await ground.start()).url });
    for (const task of tasks) assert.deepEqual(await second.task(task.taskId), task);
    assert.deepEqual(await second.coupons.get('kept'), coupon);
    assert.deepEqual(await second.coupons.stats('kept'), stats);
    const again = await second.claim('kept', { userId: 'ann', key: 'a-key' }).outcome;
    assert.deepEqual([again.outcome, 'slot' in again && again.slot], ['issued', 1]);
    assert.equal((await second.claim('kept', { userId: 'ann' }).outcome).outcome, 'duplicated');
    const late = await second.claim('kept', { userId: 'late' }).outcome;
    assert.ok(late.outcome === 'inactive' && late.reason === 'sold_out' && late.taskId === undefined);
    assert.equal((await second.verify()).ok, true);
  });
});

/** Calls of one method wait until the gate is open. */
function held() {
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    open: resolve,
    around: <T extends object>(target: T, method: keyof T): T =>
      new Proxy(target, {
        get(_, name) {
          const value = Reflect.get(target, name) as unknown;
          if (typeof value !== 'function') return value;
          if (name !== method) return value.bind(target);
          return async (...args: unknown[]) => {
            await promise;
            return value.apply(target, args);
          };
        },
      }),
  };
}
