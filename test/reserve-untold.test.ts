import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { changeLog, type Mark } from '../src/entry.ts';
import { Unavailable } from '../src/errors.ts';
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
