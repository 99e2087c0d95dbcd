import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import type { CouponBody, CouponRow } from '../src/coupon.ts';
import { requestLog } from '../src/entry.ts';
import type { Host } from '../src/host.ts';
import { FrontDoor } from '../src/issue.ts';
import { latchMsMax, stockMax } from '../src/limits.ts';
import { noMetrics } from '../src/metrics.ts';
import { isRedrivable, Operator, partitionOf, viewOf } from '../src/operator.ts';
import type { SaleView } from '../src/ports.ts';
import { c, k, malformed, request, u } from './support/entries.ts';
import { createWorld, firstOf, type World } from './support/world.ts';

let world: World;
let operator: Operator;
let door: FrontDoor;
beforeEach(() => {
  world = createWorld();
  const { host } = world;
  useHost(host);
  // Whoever waits for a decision lets the stages work meanwhile.
  const { delay } = host;
  host.delay = async (ms, signal) => {
    await world.drainAll();
    return delay(ms, signal);
  };
});
afterEach(() => {
  door.stop();
  world.close();
});

function useHost(host: Host): void {
  const { log } = world;
  const [ledger, store] = [world.ledger.it, world.store.it];
  door = new FrontDoor({ log, ledger, board: world.board.it, store, host, metrics: noMetrics, say() {} });
  operator = new Operator({ door, log, ledger, store, host });
}

const body = (part: Partial<CouponBody> = {}): CouponBody => ({
  name: 'A',
  stock: 2,
  opensAt: null,
  closesAt: null,
  validUntil: null,
  discount: null,
  ...part,
});

suite('creating', () => {
  test('is in the log when it is answered, so that whatever comes after it counts', async () => {
    const created = await operator.create(c('a'), body());
    assert.equal(created.kind, 'created');
    assert.equal(world.log.of(requestLog).length, 1);
    world.crowd(0, 5);
    await world.drainAll();
    assert.deepEqual(await world.winners(), firstOf(2));
  });
  test('again with the same body exists, and is not opened twice once it was seen', async () => {
    await operator.create(c('a'), body());
    assert.equal((await operator.create(c('a'), body())).kind, 'existed');
    await world.drainAll();
    assert.equal((await operator.create(c('a'), body())).kind, 'existed');
    assert.equal(world.log.of(requestLog).length, 2);
  });
  test('again with another body is refused, and opens nothing', async () => {
    await operator.create(c('a'), body());
    assert.equal((await operator.create(c('a'), body({ stock: 3 }))).kind, 'exists_otherwise');
    assert.equal(world.log.of(requestLog).length, 1);
  });
  test('says when the log did not take it; the same call again cures it', async () => {
    world.log.faults.push('lose', 'doubt');
    assert.equal((await operator.create(c('a'), body())).kind, 'not_accepted');
    assert.equal((await operator.create(c('a'), body())).kind, 'outcome_unknown');
    assert.equal((await operator.create(c('a'), body())).kind, 'existed');
    await world.drainAll();
    const sales = await world.ledger.it.sales([{ couponId: c('a'), partition: 0 }]);
    assert.equal(sales.get(c('a'))?.changes.length, 1);
  });
});

test('what was created, shown or listed here is sold while the store is away', async () => {
  const make = (id: string, createdAt: number) =>
    world.realStore.createCoupon({ couponId: c(id), partition: 0, body: body(), createdAt });
  await operator.create(c('created'), body());
  await make('shown', 1);
  await operator.view(c('shown'));
  await make('listed', world.host.time + 1);
  await operator.views(1);
  await make('never', 2);
  world.store.always('coupons');
  for (const id of ['created', 'shown', 'listed']) {
    assert.equal((await door.issue(c(id), u('ann'), k(1))).kind, 'accepted');
  }
  await assert.rejects(door.issue(c('never'), u('ann'), k(1)), /away/);
});

suite('stock', () => {
  test('is answered once decided, and one latch lease later', async () => {
    await operator.create(c('a'), body());
    const before = world.host.time;
    const stocked = await operator.addStock(c('a'), 3, undefined);
    assert.ok(stocked.kind === 'stocked' && stocked.view.stock === 5);
    assert.ok(world.host.time - before >= latchMsMax);
  });
  test('the same key adds once, and is answered the same', async () => {
    await operator.create(c('a'), body());
    await operator.addStock(c('a'), 3, 'k');
    const again = await operator.addStock(c('a'), 3, 'k');
    assert.ok(again.kind === 'stocked' && again.view.stock === 5);
  });
  test('after the close, above the greatest and of nothing known', async () => {
    await operator.create(c('a'), body());
    assert.equal((await operator.addStock(c('a'), stockMax, undefined)).kind, 'too_much');
    assert.equal((await operator.close(c('a'))).kind, 'closed');
    assert.equal((await operator.addStock(c('a'), 1, undefined)).kind, 'closed');
    assert.equal((await operator.addStock(c('nowhere'), 1, undefined)).kind, 'unknown');
    assert.equal((await operator.close(c('nowhere'))).kind, 'unknown');
  });
  test('and close that stand before the opening, whose row was there already, are not called done', async () => {
    await world.realStore.createCoupon({ couponId: c('a'), partition: 0, body: body(), createdAt: 1 });
    const { delay } = world.host;
    let isOpened = false;
    world.host.delay = async (ms, signal) => {
      if (!isOpened) world.put({ type: 'opened', couponId: c('a'), stock: 2, opensAt: null, closesAt: null });
      isOpened = true;
      return delay(ms, signal);
    };
    const answers = await Promise.all([operator.addStock(c('a'), 1, 'k'), operator.close(c('a'))]);
    assert.deepEqual(
      answers.map(answer => answer.kind),
      ['outcome_unknown', 'outcome_unknown'],
    );
    assert.equal((await operator.addStock(c('a'), 1, 'k')).kind, 'stocked');
    assert.equal((await operator.close(c('a'))).kind, 'closed');
  });
  test('that is not decided in time is not called done', async () => {
    await operator.create(c('a'), body());
    world.ledger.always('apply');
    world.host.delay = async ms => {
      world.host.time += ms;
    };
    assert.equal((await operator.addStock(c('a'), 1, undefined)).kind, 'outcome_unknown');
  });
});

suite('redrive', () => {
  test('puts back the winners that the store refused, and not what was refused in the log', async () => {
    world.put({ type: 'opened', couponId: c('a'), stock: 3, opensAt: null, closesAt: null });
    world.put(request('u0', 1), malformed(), request('u1', 2));
    await world.drainAll();
    assert.equal((await world.realStore.setAside({ limit: 9 })).filter(isRedrivable).length, 2);
    await world.realStore.createCoupon({ couponId: c('a'), partition: 0, body: body({ stock: 3 }), createdAt: 1 });
    assert.equal(await operator.redrive(undefined), 2);
    await world.drainAll();
    assert.deepEqual(await world.winners(), firstOf(2));
    assert.deepEqual(
      (await world.realStore.setAside({ limit: 9 })).map(letter => letter.offset),
      [2],
    );
    assert.equal(await operator.redrive(undefined), 0);
  });
  test('takes all there are', async () => {
    world.put({ type: 'opened', couponId: c('a'), stock: 3_000, opensAt: null, closesAt: null });
    world.crowd(0, 1_500);
    await world.drainAll();
    await world.realStore.createCoupon({ couponId: c('a'), partition: 0, body: body({ stock: 3_000 }), createdAt: 1 });
    assert.equal(await operator.redrive(undefined), 1_500);
    await world.drainAll();
    assert.equal((await world.rows()).length, 1_500);
  });
  test('is not stopped by a thousand dead letters that are older and cannot be redriven', async () => {
    world.put({ type: 'opened', couponId: c('a'), stock: 3, opensAt: null, closesAt: null });
    world.put(...Array.from({ length: 1_001 }, malformed));
    world.host.time += 1;
    world.put(request('u0', 1));
    await world.drainAll();
    await world.realStore.createCoupon({ couponId: c('a'), partition: 0, body: body({ stock: 3 }), createdAt: 1 });
    assert.equal(await operator.redrive(undefined), 1);
  });
});

suite('a coupon as it is shown', () => {
  const row = (part: Partial<CouponRow> = {}, b: Partial<CouponBody> = {}): CouponRow => ({
    ...{ couponId: c('a'), partition: 0, body: body(b), createdAt: 1, stock: 2, closed: false, issued: 1 },
    ...{ firstIssuedAt: null, lastIssuedAt: null },
    ...part,
  });
  const sale = (taken: number, part: Partial<SaleView> = {}): SaleView => ({
    ...{ next: 9, clock: 1, taken, phase: 'open' },
    changes: [{ offset: 0, at: 1, stock: 5, opensAt: null, closesAt: null, closed: false, phase: 'open', key: k(1) }],
    ...part,
  });
  test('reserved are the slots without a row; the row is enough while the ledger is away', () => {
    const view = viewOf(row(), sale(4), 10);
    assert.deepEqual([view.stock, view.reserved, view.issued, view.remaining, view.state], [5, 3, 1, 1, 'open']);
    const alone = viewOf(row({ issued: 2 }), undefined, 10);
    assert.deepEqual([alone.stock, alone.reserved, alone.remaining, alone.state], [2, 0, 0, 'sold_out']);
  });
  test('a ledger that is behind its rows never gives negative numbers', () => {
    const view = viewOf(row({ issued: 2 }), sale(0), 10);
    assert.deepEqual([view.reserved, view.remaining], [0, 3]);
  });
  test('closed before scheduled before sold out', () => {
    assert.equal(viewOf(row({ closed: true }, { opensAt: 99 }), undefined, 10).state, 'closed');
    assert.equal(viewOf(row({}, { closesAt: 10 }), undefined, 10).state, 'closed');
    assert.equal(viewOf(row(), sale(5, { phase: 'closed' }), 10).state, 'closed');
    assert.equal(viewOf(row({ issued: 2 }, { opensAt: 11 }), undefined, 10).state, 'scheduled');
  });
});

suite("a window is shown by the log's clock, as far as it is known", () => {
  const skewMs = 600_000;
  const stateOf = async () => (await operator.view(c('w')))?.state;
  /** The API host's clock is off, the log's is not. */
  const off = (ms: number) => useHost({ ...world.host, now: () => world.host.time + ms });

  test('a host that is ahead shows nothing closed before its time, and goes on so while nothing new is known', async () => {
    off(skewMs);
    await operator.create(c('w'), body({ closesAt: world.host.time + skewMs / 2 }));
    await world.drainAll();
    assert.equal(await stateOf(), 'open');
    world.host.time += skewMs / 2 - 1;
    assert.equal(await stateOf(), 'open');
    world.host.time += 1;
    assert.equal(await stateOf(), 'closed');
  });
  test('a host that is behind shows a sale open once an entry has passed its opening', async () => {
    off(-skewMs);
    await operator.create(c('w'), body({ opensAt: world.host.time + 1_000 }));
    await world.drainAll();
    assert.equal(await stateOf(), 'scheduled');
    world.host.time += 1_000;
    world.crowd(0, 1, 'w');
    await world.drainAll();
    assert.equal(await stateOf(), 'open');
  });
});

test('a coupon has one partition, whatever it is called, and all partitions are used', () => {
  const used = new Set<number>();
  for (let i = 0; i < 500; i++) {
    const partition = partitionOf(`coupon-${i}`, 7);
    assert.ok(Number.isInteger(partition) && partition >= 0 && partition < 7);
    assert.equal(partitionOf(`coupon-${i}`, 7), partition);
    used.add(partition);
  }
  assert.equal(used.size, 7);
  // Kept in rows for good: it must not change with a build.
  assert.deepEqual(
    ['welcome', 'a', 'summer-2026'].map(id => partitionOf(id, 12)),
    [11, 4, 5],
  );
});
