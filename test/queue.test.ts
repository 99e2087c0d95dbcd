/** The stages on a log that is a queue (`EventLog.unhandled`), and the pace of stages: ticks and gathering. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import type { UserId } from '../src/coupon.ts';
import { changeLog, encodeChange, encodeWon, requestLog, type Won } from '../src/entry.ts';
import { Unavailable } from '../src/errors.ts';
import { FrontDoor } from '../src/issue.ts';
import { withLostSlots, withoutLostWinners } from '../src/lost-slots.ts';
import { noMetrics } from '../src/metrics.ts';
import { planBatch } from '../src/persist.ts';
import type { Snapshot } from '../src/ports.ts';
import { type Holder, holderPairs, noCounts } from '../src/sale.ts';
import { type Batch, done, PartitionLoop, type Stage } from '../src/stage.ts';
import { StatusReader } from '../src/status.ts';
import { c, k, u } from './support/entries.ts';
import { fakeHost } from './support/fake-host.ts';
import { LogDouble } from './support/log-double.ts';
import { until } from './support/until.ts';
import { createWorld, firstOf, type World } from './support/world.ts';

function setUp(stage: Partial<Stage>, entries: number) {
  const host = fakeHost();
  const log = new LogDouble(host);
  const batches: Batch[] = [];
  const whole: Stage = {
    ...{ name: 'test', log: requestLog, batchMax: 4, gatherMs: 0 },
    begin: async () => 0,
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
  return { host, log, batches, loop: new PartitionLoop(whole, 0, { log, host, metrics: noMetrics, say() {} }) };
}

/** Holders of the coupon `a`. */
const chunks = (lists: (readonly [UserId, Holder])[][]): Snapshot['holders'] => ({
  async *[Symbol.asyncIterator]() {
    for (const list of lists) yield { couponId: c('a'), holders: list.map(([user, holder]) => [user, holder]) };
  },
});

const textsOf = (batch: Batch | undefined) => batch?.entries.map(entry => entry.text);

suite('a stage that ticks', () => {
  test('takes one batch in each tick, however much there is, and looks in vain as often', async () => {
    const abort = new AbortController();
    const at: number[] = [];
    const { host, loop, batches } = setUp(
      {
        tickMs: 1_000,
        async handle(batch) {
          at.push(host.now());
          host.time += 300;
          batches.push(batch);
          return done;
        },
        async idle() {
          at.push(host.now());
          abort.abort();
          return done;
        },
      },
      10,
    );
    const from = host.now();
    await loop.run(abort.signal);
    assert.deepEqual(batches.map(textsOf), [
      ['e0', 'e1', 'e2', 'e3'],
      ['e4', 'e5', 'e6', 'e7'],
      ['e8', 'e9'],
    ]);
    assert.deepEqual(
      at.map(time => time - from),
      [0, 1_000, 2_000, 3_000],
    );
  });
  test('handles what it took from a queue even when it is to stop: it is nowhere else', async () => {
    for (const isQueue of [true, false]) {
      const { log, loop, batches } = setUp({}, 3);
      if (isQueue) log.unhandled = async () => 0;
      const abort = new AbortController();
      const step = loop.step(0, abort.signal);
      abort.abort();
      assert.equal(await step, isQueue);
      assert.equal(batches.length, isQueue ? 1 : 0);
    }
  });
});

suite('reserve and persist on a queue', () => {
  let world: World;
  beforeEach(() => {
    world = createWorld();
  });
  afterEach(() => world.close());

  const told = async () => {
    const place = await world.ledger.it.place(0);
    return place.kind === 'present' ? [place.told, place.next] : place.kind;
  };

  const shown = () => {
    const { board, store, ledger, tools } = world;
    return { ...tools, board: board.it, store: store.it, ledger: withoutLostWinners(ledger.it, store.it) };
  };
  const atDoor = async (userId: string, key: number): Promise<string> => {
    const door = new FrontDoor(shown());
    const answer = await door.issue(c('a'), u(userId), k(key));
    door.stop();
    return answer.kind === 'refused' ? answer.code : answer.kind;
  };
  /** What the one who pressed with this key is shown. */
  const stateOf = async (userId: string, key: number): Promise<string> => {
    const offset = world.log.of(requestLog).findIndex(({ text }) => text.includes(`"${userId}"`));
    const { status } = await new StatusReader(shown()).read({
      ...{ partition: 0, offset, key: k(key), couponId: c('a'), userId: u(userId) },
    });
    return status.state === 'done' && 'slot' in status ? `${status.outcome} ${status.slot}` : status.state;
  };

  test('a process that begins puts the ledger back to the rows, once no change is on its way any more', async () => {
    await world.open('a', 3);
    world.crowd(0, 2);
    await world.drain(world.reserve);
    assert.deepEqual(await told(), [3, 3]);
    // The winners died on their way to the store with the process that had decided them; what is left is on its way.
    let onTheWay = 1;
    world.log.unhandled = async () => onTheWay;
    const next = world.newReserve();
    await assert.rejects(next.step(0), { name: 'Unavailable', message: /1 changes are still on their way/ });
    assert.deepEqual(await told(), [0, 0], 'nobody is shown a win that is no row');
    await assert.rejects(next.step(0), Unavailable, 'nor decided against, before it is known who has one');
    onTheWay = 0;
    await next.step(0);
    assert.deepEqual(await told(), [3, 3], 'this log gives them again: a queue would go on behind them');
    await next.step(0);
  });

  test('a ledger that was emptied under a running process is rebuilt only from all rows, however often it is tried', async () => {
    let onTheWay = 0;
    world.log.unhandled = async () => onTheWay;
    await world.open('a', 3);
    world.crowd(0, 2);
    await world.drain(world.reserve);
    (world.ledger.it as unknown as { clear(partition: number): void }).clear(0);
    onTheWay = 2;
    // After an error the truth is asked for first, and it is missing.
    world.reserve.restart();
    world.crowd(2, 3);
    for (let i = 0; i < 3; i++) await assert.rejects(world.reserve.step(0), Unavailable);
    assert.equal(world.changes().filter(change => typeof change === 'object' && change.type === 'won').length, 2);
    await world.drain(world.persist);
    onTheWay = 0;
    await world.drain(world.reserve);
    await world.drain(world.persist);
    assert.deepEqual(await world.winners(), firstOf(3));
  });

  for (const [stock, isSoldOut] of [
    [5, true],
    [8, false],
  ] as const) {
    const then = isSoldOut ? 'a sale that is stored as sold out stays so' : 'the sale goes on behind them';
    test(`winners died before some that were stored: their slots are lost, and ${then}`, async () => {
      await world.open('a', stock);
      world.log.unhandled = async () => 0;
      const reserve = world.newReserve();
      await world.drain(reserve);
      await world.drain(world.persist);
      const from = world.changes().length;
      world.crowd(0, 2);
      await world.drain(reserve);
      const dead = world.changes().length;
      world.crowd(2, 5);
      await world.drain(reserve);
      // The process took the first from the queue and died; what it had put there later is stored by the next.
      const later = world.log.of(changeLog).slice(dead);
      world.log.of(changeLog).splice(from, Number.POSITIVE_INFINITY, ...later);
      world.log.of(changeLog).forEach((entry, i) => {
        entry.offset = i;
      });
      await world.drain(world.persist);
      const stored = ['3 u2', '4 u3', '5 u4'];
      assert.deepEqual(await world.winners(), stored);
      const shown = await Promise.all([0, 1, 2, 3, 4].map(i => stateOf(`u${i}`, i)));
      assert.deepEqual(
        shown,
        ['accepted', 'accepted', 'issued 3', 'issued 4', 'issued 5'],
        'issued is never without its row',
      );
      const again = await atDoor('u0', 0);
      assert.equal(again, isSoldOut ? 'INACTIVE_COUPON' : 'accepted', 'the dead have none at the door either');
      assert.equal(await atDoor('u2', 2), 'won_before');
      assert.equal(await atDoor('u2', 99), 'DUPLICATED_COUPON');
      world.crowd(7, 12);
      await world.drain(world.newReserve());
      await world.drain(world.persist);
      const more = isSoldOut ? [] : ['6 u0', '7 u7', '8 u8'];
      assert.deepEqual(await world.winners(), [...stored, ...more]);
      const [seen] = await world.ledger.it.read(0, [{ couponId: c('a'), userId: u('x'), offset: 0 }]);
      assert.equal(seen?.changes.at(-1)?.phase, 'sold_out', 'the door says what the log does');
      assert.deepEqual(await world.store.it.setAside({ limit: 9 }), [], 'nobody is refused by the tables');
    });
  }

  test('a build that a process which stood still put there is replaced like any other', async () => {
    world.log.unhandled = async () => 0;
    await world.open('a', 3);
    await world.drainAll();
    const stale = await world.realStore.withSnapshot(0, async snapshot => ({ ...snapshot, holders: chunks([]) }));
    world.crowd(0, 2);
    await world.drainAll();
    const place = await world.ledger.it.place(0);
    assert.ok(place.kind === 'present');
    await world.ledger.it.rebuild(0, world.log.identity, stale, place.build);
    assert.deepEqual(await told(), [1, 1]);
    world.crowd(2, 4);
    await world.reserve.step(0);
    assert.deepEqual(await told(), [3, 3], 'put back to the rows');
    await world.drainAll();
    assert.deepEqual(await world.winners(), firstOf(3));
  });

  test('a process goes on only with a build of its own', async () => {
    world.log.unhandled = async () => 0;
    await world.open('a', 3);
    await world.drainAll();
    await world.drain(world.newReserve());
    const other = await world.ledger.it.place(0);
    world.reserve.restart();
    world.crowd(0, 1);
    await world.reserve.step(0);
    const place = await world.ledger.it.place(0);
    assert.ok(place.kind === 'present' && other.kind === 'present');
    assert.notEqual(place.build, other.build);
  });

  test('an older copy of its own build is put back to the rows: a queue gives nothing of what it forgot', async () => {
    world.log.unhandled = async () => 0;
    await world.open('a', 3);
    await world.drainAll();
    world.crowd(0, 2);
    await world.drainAll();
    const { states } = world.ledger.it as unknown as { states: Map<number, { told: number }> };
    Object.assign(states.get(0) as object, { told: 1 });
    // Redis hung up on it meanwhile.
    world.reserve.restart();
    await world.reserve.step(0);
    assert.deepEqual(await told(), [3, 3]);
    assert.equal(world.counted.filter(([name]) => name === 'rebuilds').length, 2);
  });

  test('a refused winner holds its slot only while nobody has a row with it', async () => {
    const terms = { offset: 0, at: 1, stock: 5, opensAt: null, closesAt: null, closed: false, key: null };
    const holder = (user: string, slot: number) => [u(user), { slot, offset: slot, key: k(slot), at: 1 }] as const;
    const holders = chunks([
      [holder('a', 1), holder('b', 2)],
      [holder('refused', 2), holder('free', 4)],
    ]);
    const { holders: left } = await withLostSlots({
      frontier: { next: 9, clock: 1, hash: '', strays: { malformed: 0, unknown_coupon: 0 } },
      sales: [{ couponId: c('a'), changes: [{ ...terms, phase: 'open' }], counts: noCounts() }],
      malformed: [],
      holders,
    });
    const seen: string[] = [];
    for await (const chunk of left)
      for (const [user, { slot }] of holderPairs(chunk.holders)) seen.push(`${slot} ${user}`);
    assert.deepEqual(seen, ['1 a', '2 b', '4 free', '3 ?3']);
  });

  test('in a process that goes on, a batch that failed is asked about again, and the ledger is left as it is', async () => {
    world.log.unhandled = async () => 0;
    await world.open('a', 3);
    world.crowd(0, 2);
    world.log.faultsOf = changeLog;
    world.log.faults.push('lose');
    await assert.rejects(world.reserve.step(0));
    assert.deepEqual(await told(), [0, 3]);
    await world.drain(world.reserve);
    await world.drain(world.persist);
    assert.deepEqual(await world.winners(), firstOf(2));
    assert.equal(world.counted.filter(([name]) => name === 'rebuilds').length, 1, 'only the one at the start');
  });

  test('what was appended to a queue that has lost it since is appended again, though the ledger was not told', async () => {
    world.log.unhandled = async () => 0;
    await world.open('a', 3);
    await world.drainAll();
    world.crowd(0, 2);
    world.ledger.once('told', 'before', new Unavailable('redis is killed'));
    await assert.rejects(world.reserve.step(0));
    // An older copy, from between deciding and appending.
    const changes = world.log.of(changeLog);
    changes.splice(changes.length - 3);
    await world.drainAll();
    assert.deepEqual(await world.winners(), firstOf(2));
  });

  test('a queue may have holes: what died in one is left out, and the mark behind it stands', async () => {
    const won: Won = { type: 'won', couponId: c('a'), userId: u('ann'), slot: 3, offset: 45, key: k(1), at: 1 };
    const strays = { malformed: 0, unknown_coupon: 0 };
    const mark = encodeChange({ type: 'mark', from: 40, next: 50, clock: 1, hash: '', counts: {}, strays });
    const entries = [encodeWon(won), mark].map((text, i) => ({ offset: 7 + i, at: 1, text }));
    const batch = { partition: 0, from: 0, next: 9, end: 9, entries };
    assert.match(planBatch(batch, await world.realStore.checkpoint(0)).hole ?? '', /hole/);
    const { plan, hole } = planBatch(batch, await world.realStore.checkpoint(0), true);
    assert.equal(hole, undefined);
    assert.deepEqual([plan.won.length, plan.checkpoint.next, plan.checkpoint.changeNext], [1, 50, 9]);
    const unmarked = planBatch(
      { ...batch, next: 8, entries: entries.slice(0, 1) },
      await world.realStore.checkpoint(0),
      true,
    );
    assert.equal(unmarked.plan.checkpoint.next, 46, 'the mark may die: the row is not left out by a rebuild');
  });
});

suite('a stage that gathers', () => {
  test('gathers when it has caught up, not while it is behind, if the stage asks for it', async () => {
    const abort = new AbortController();
    const { loop, host, batches } = setUp({ gatherMs: 250 }, 12);
    host.delay = async ms => {
      host.waits.push(ms);
      abort.abort();
    };
    await loop.run(abort.signal);
    assert.deepEqual([host.waits, batches.length], [[250], 3]);
  });
  test('gathers only after a batch as large as the stage says: under a light load nobody waits', async () => {
    for (const [entries, waits] of [
      [2, [25]],
      [1, []],
    ] as const) {
      const abort = new AbortController();
      const { loop, host, batches, log } = setUp({ gatherMs: 25, gatherBatchMin: 2 }, entries);
      host.delay = async ms => void host.waits.push(ms);
      const running = loop.run(abort.signal);
      await until(() => log.reads === 2);
      abort.abort();
      await running;
      assert.deepEqual([host.waits, batches.length], [waits, 1]);
    }
  });
});
