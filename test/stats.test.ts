import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { changeLog, type LogEntry } from '../src/entry.ts';
import { PartitionLoop } from '../src/stage.ts';
import { statsStage } from '../src/stats.ts';
import { c, request } from './support/entries.ts';
import { createWorld, type World } from './support/world.ts';

let world: World;
let stats: PartitionLoop;
beforeEach(() => {
  world = createWorld();
  stats = newStats();
});
afterEach(() => world.close());

const newStats = () => new PartitionLoop(statsStage(world.store.it)({ store: world.store.it }), 0, world.tools);
const read = () => world.realStore.stats(c('a'), 60, world.host.time + 1_000);

/** Two seconds of a sale: three winners, a duplicate, then one more winner and losers. */
async function sell(): Promise<void> {
  await world.open('a', 4);
  world.crowd(0, 3);
  world.put(request('u1', 99));
  await world.drain(world.reserve);
  world.host.time += 1_000;
  world.crowd(3, 8);
  await world.drain(world.reserve);
}

suite('statistics', () => {
  test('issued, refused by reason, first and last, and totals a second', async () => {
    const first = world.host.time;
    await sell();
    await world.drain(stats);
    const found = await read();
    assert.deepEqual([found.issued, found.firstWonAt, found.lastWonAt], [4, first, first + 1_000]);
    assert.deepEqual(found.counts, { duplicated: 1, closed: 0, not_open: 0, sold_out: 4 });
    assert.deepEqual(
      found.series.map(point => [point.second - first, point.issued, point.counts.sold_out]),
      [
        [0, 3, 0],
        [1_000, 4, 4],
      ],
    );
  });
  test('repeats change nothing: a range that stands twice, and a crash before the place was kept', async () => {
    await sell();
    await world.drain(stats);
    const once = await read();
    world.log.put(
      changeLog,
      0,
      world.log.of(changeLog).map(entry => entry.text),
    );
    world.store.once('savePlace', 'before');
    await world.drain(stats);
    stats = newStats();
    await world.drain(stats);
    assert.deepEqual(await read(), once);
  });
  test('an earlier mark that stands again behind a later one, in the same batch, takes nothing back', async () => {
    await sell();
    const earlier = world.log.of(changeLog).at(-1) as LogEntry;
    world.put(request('late'));
    await world.drainAll();
    world.log.put(changeLog, 0, [earlier.text]);
    await world.drain(stats);
    assert.equal((await read()).counts.sold_out, 5);
  });
  test('what cannot be read is left to persist', async () => {
    world.log.put(changeLog, 0, ['poison']);
    await sell();
    await world.drain(stats);
    assert.equal((await read()).issued, 4);
  });
});
