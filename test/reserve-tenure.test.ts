import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { changeLog, type Mark } from '../src/entry.ts';
import { Unavailable } from '../src/errors.ts';
import { MemoryLedger } from '../src/memory/ledger.ts';
import type { StockLedger } from '../src/ports.ts';
import { reserveStage } from '../src/reserve.ts';
import { PartitionLoop } from '../src/stage.ts';
import { breakable } from './support/breakable.ts';
import { request, type Step } from './support/entries.ts';
import { createWorld, firstOf, type World } from './support/world.ts';

let world: World;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

const marks = () =>
  (world.changes() as Mark[]).filter(({ type }) => type === 'mark').map(({ from, next }) => [from, next]);

suite('a ledger that answers and does not take writes', () => {
  beforeEach(async () => {
    await world.open('a', 9);
    await world.drain(world.reserve);
    world.crowd(0, 4);
    world.ledger.always('told', new Unavailable('MISCONF'));
    for (let i = 0; i < 10; i++) await assert.rejects(world.reserve.step(0), /MISCONF/);
  });
  test('has the changes of a batch appended once, however often that is tried', async () => {
    assert.equal(world.log.appends.filter(({ log }) => log === changeLog).length, 2);
    assert.equal(world.reserve.lag().state, 'retrying');
    world.ledger.heal();
    world.crowd(4, 12);
    await world.drainAll();
    assert.deepEqual(marks(), [
      [0, 1],
      [1, 5],
      [5, 13],
    ]);
    assert.deepEqual(await world.winners(), firstOf(9));
  });
  test('and that has told another process of them meanwhile goes on from there', async () => {
    world.ledger.heal();
    world.crowd(4, 6);
    await world.drain(world.newReserve());
    const before = world.changes().length;
    world.crowd(6, 12);
    await world.drainAll();
    assert.deepEqual(marks().at(-1), [7, 13]);
    assert.equal(world.changes().length - before, 5);
    assert.deepEqual(await world.winners(), firstOf(9));
  });
});

test('a loop that is ending takes from the one that follows it nothing of what the next mark must name', async () => {
  const memory = new MemoryLedger();
  const { states } = memory as unknown as { states: Map<number, { build: string }> };
  const tools = { ...world.tools, ledger: memory, store: world.store.it, board: world.board.it };
  const stage = { ...reserveStage(tools), batchMax: 2 };
  const presses = (couponId: string, from: number, to: number): Step[] =>
    Array.from({ length: to - from }, (_, i) => request(`u${from + i}`, from + i, couponId));
  const ending = new PartitionLoop(stage, 0, world.tools);
  await world.open('a', 1);
  await world.open('b', 1);
  await ending.step(0);
  await world.drain(world.persist);
  world.put(...presses('b', 0, 2));
  await ending.step(0);

  // Its next append hangs. Meanwhile the ledger goes back to a copy of the same build ...
  world.put(...presses('b', 2, 4));
  const gate = Promise.withResolvers<void>();
  world.log.gate = gate.promise;
  const stuck = ending.step(0);
  while (world.log.appendsInFlight === 0) await new Promise(setImmediate);
  world.log.gate = undefined;
  world.put(...presses('a', 0, 2), ...presses('b', 4, 8));
  const build = states.get(0)?.build as string;
  memory.clear(0);
  await world.realStore.withSnapshot(0, snapshot => memory.rebuild(0, world.log.identity, snapshot, undefined));
  (states.get(0) as { build: string }).build = build;
  // ... and is brought forward by a process that ends before it tells.
  const dying = breakable<StockLedger>(memory);
  dying.always('told');
  await assert.rejects(world.newReserve(dying.it).step(0));

  const following = new PartitionLoop(stage, 0, world.tools);
  for (let i = 0; i < 3; i++) await following.step(0);
  assert.equal(following.place, 8);
  gate.resolve();
  await stuck;
  await world.drain(following);
  const last = (world.changes() as Mark[]).at(-1);
  assert.deepEqual([last?.from, last?.next, last?.counts.a?.sold_out, last?.counts.b?.sold_out], [2, 12, 1, 7]);
});

test('nor does one that begins behind it', async () => {
  const memory = new MemoryLedger();
  const tools = { ...world.tools, ledger: memory, store: world.store.it, board: world.board.it };
  const stage = { ...reserveStage(tools), batchMax: 1 };
  await world.open('a', 1);
  await world.open('b', 1);
  // All is decided by a process that ends before it appends.
  world.log.faultsOf = changeLog;
  world.log.faults.push('lose');
  await assert.rejects(world.newReserve(memory).step(0));
  const following = new PartitionLoop(stage, 0, world.tools);
  while (following.place !== 1) await following.step(0);
  await stage.begin(0);
  await world.drain(following);
  const [mark] = (world.changes() as Mark[]).filter(({ type }) => type === 'mark');
  assert.deepEqual([mark?.from, mark?.next, Object.keys(mark?.counts ?? {}).sort()], [0, 2, ['a', 'b']]);
});
