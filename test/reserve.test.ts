import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { type Change, decodeEntry, entryHash, type LogEntry, type Mark, requestLog, type Won } from '../src/entry.ts';
import { Unavailable } from '../src/errors.ts';
import { applyBatchMax, idleTickMs, reserveBatchMax } from '../src/limits.ts';
import { checkLastEntry } from '../src/log.ts';
import { MemoryLedger } from '../src/memory/ledger.ts';
import type { EventLog, StockLedger } from '../src/ports.ts';
import type { PartitionFold } from '../src/sale.ts';
import { breakable } from './support/breakable.ts';
import { added, closed, fold, malformed, request } from './support/entries.ts';
import { createWorld, firstOf, type World } from './support/world.ts';

let world: World;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

const changes = () => world.changes() as Change[];
/** Each change's kind and place; a mark's is its next. */
const places = () => changes().map(change => [change.type, 'offset' in change ? change.offset : change.next]);
const marks = () => changes().filter((change): change is Mark => change.type === 'mark');
/** The first occurrence of each offset's change, in the order of the change log. */
const firstWins = () => {
  const seen = new Map<number, Won>();
  for (const change of changes())
    if (change.type === 'won' && !seen.has(change.offset)) seen.set(change.offset, change);
  return [...seen.values()];
};
const winners = () => firstWins().map(won => `${won.slot} ${won.userId}`);
const told = async () => {
  const place = await world.ledger.it.place(0);
  return place.kind === 'present' ? [place.told, place.next] : place.kind;
};

/** Whatever happened, the change log tells one story, in order, without a hole. */
function assertStory(expected: readonly string[]): void {
  assert.deepEqual(winners(), expected);
  const offsets = firstWins().map(won => won.offset);
  assert.deepEqual(
    offsets,
    offsets.toSorted((a, b) => a - b),
  );
  let reached = 0;
  for (const mark of marks()) {
    assert.ok(mark.from <= reached, `the mark begins at ${mark.from}, the story is at ${reached}`);
    reached = Math.max(reached, mark.next);
  }
  assert.equal(reached, world.log.of(requestLog).length);
}

/** The ledger's own state, for tests that damage it. */
const stateOf = (memory: MemoryLedger) =>
  (memory as unknown as { states: Map<number, { fold: PartitionFold; told: number }> }).states.get(0);

suite('deciding', () => {
  test('the brief\'s second test, "the stock is taken": the changes, then a mark, then told', async () => {
    await world.open('a', 2);
    world.put(request('mia', 1), request('mia', 2), request('ben', 3), request('eve', 4));
    await world.drain(world.reserve);
    const requests = world.log.of(requestLog);
    const at = requests[0]?.at ?? 0;
    assert.deepEqual(places(), [
      ['sale', 0],
      ['won', 1],
      ['won', 3],
      ['sale', 3],
      ['mark', 5],
    ]);
    assert.deepEqual(marks(), [
      {
        v: 1,
        type: 'mark',
        from: 0,
        next: 5,
        clock: at,
        hash: entryHash(requests[4] as never),
        counts: { a: { duplicated: 1, closed: 0, not_open: 0, sold_out: 1 } },
        strays: { malformed: 0, unknown_coupon: 0 },
      },
    ]);
    assert.deepEqual(await told(), [5, 5]);
  });
  test('one append and one told a batch, and as few ledger calls as may be, however many entries', async () => {
    await world.open('a', 2 * reserveBatchMax);
    world.crowd(0, 2 * reserveBatchMax - 1);
    await world.drain(world.reserve);
    assert.deepEqual(
      [world.ledger.calls.get('apply'), world.log.appends.length, world.ledger.calls.get('told')],
      [(2 * reserveBatchMax) / applyBatchMax, 2, 2],
    );
    assert.equal(world.log.appendsInFlightMax, 1);
    assert.deepEqual(
      marks().map(mark => [mark.from, mark.next]),
      [
        [0, reserveBatchMax],
        [reserveBatchMax, 2 * reserveBatchMax],
      ],
    );
  });
  test('a batch of several ledger calls has one mark, which names the totals of all of them', async () => {
    world.reserve = world.newReserve(world.ledger.it, 2);
    await world.open('a', 1);
    await world.open('b', 1);
    world.put(request('x', 1, 'a'), request('y', 2, 'a'), request('z', 3, 'b'), request('w', 4, 'b'));
    await world.drain(world.reserve);
    assert.equal(world.ledger.calls.get('apply'), 3);
    assert.deepEqual(
      marks().map(mark => [mark.from, mark.next, mark.counts.a?.sold_out, mark.counts.b?.sold_out]),
      [[0, 6, 1, 1]],
    );
    assertStory(['1 x', '1 z']);
  });
  test('a batch in which nobody won has its mark too, and losers are announced', async () => {
    await world.open('a', 0);
    world.crowd(0, 3);
    await world.drain(world.reserve);
    assert.deepEqual(
      marks().map(mark => mark.next),
      [4],
    );
    assert.equal(world.board.calls.get('announce'), 1);
  });
  test('an announcement that is lost stops nobody', async () => {
    world.board.always('announce');
    await world.open('a', 0);
    world.crowd(0, 3);
    await world.drain(world.reserve);
    assert.deepEqual(await told(), [4, 4]);
  });
  test('sales change in order with the requests', async () => {
    await world.open('a', 1);
    world.put(request('x'), request('y'), added(1, 9), request('y'), closed(), request('z'));
    await world.drain(world.reserve);
    assertStory(['1 x', '2 y']);
  });
});

suite('a crash', () => {
  const crashes: [name: string, arm: () => void][] = [
    ['before the ledger decided', () => world.ledger.once('apply', 'before')],
    ['after the ledger decided and before the append', () => world.ledger.once('apply', 'after')],
    [
      'between two ledger calls of a batch',
      () => {
        world.reserve = world.newReserve(world.ledger.it, 3);
        world.ledger.once('apply', 'after');
      },
    ],
    ['while appending: nothing was taken', () => world.log.faults.push('lose')],
    ['while appending: it was taken, the answer is lost', () => world.log.faults.push('doubt')],
    ['after the append and before told', () => world.ledger.once('told', 'before')],
    ['after told', () => world.ledger.once('told', 'after')],
  ];
  for (const [name, arm] of crashes) {
    test(`${name}: the same winners, nobody lost`, async () => {
      await world.open('a', 7);
      world.crowd(0, 5);
      await world.drain(world.reserve);
      world.crowd(5, 12);
      arm();
      await assert.rejects(world.reserve.step(0));
      // The process that died is replaced by another one.
      world.reserve = world.newReserve();
      world.crowd(12, 20);
      await world.drain(world.reserve);
      assertStory(firstOf(7));
      assert.deepEqual(await told(), [21, 21]);
      await world.drain(world.persist);
      assert.deepEqual(await world.winners(), firstOf(7));
    });
  }
  test('after deciding twice in a row and more entries meanwhile: totals are not counted twice', async () => {
    await world.open('a', 1);
    world.crowd(0, 4);
    world.ledger.once('apply', 'after');
    world.ledger.once('told', 'before');
    await assert.rejects(world.reserve.step(0));
    world.crowd(4, 6);
    await assert.rejects(world.reserve.step(0));
    await world.drain(world.reserve);
    assert.equal(marks().at(-1)?.counts.a?.sold_out, 5);
    assertStory(firstOf(1));
  });
});

test('a batch that is read again in smaller pieces: the one mark at its end names the totals of all of it', async () => {
  await world.open('a', 1);
  await world.open('b', 1);
  world.put(request('x', 1, 'a'), request('y', 2, 'a'), request('z', 3, 'b'), request('w', 4, 'b'));
  world.ledger.once('apply', 'after');
  await assert.rejects(world.reserve.step(0));
  world.log.readMax = 4;
  await world.drain(world.reserve);
  assert.deepEqual(
    marks().map(mark => [mark.from, mark.next, mark.counts.a?.sold_out, mark.counts.b?.sold_out]),
    [[0, 6, 1, 1]],
  );
});

suite('two that believe they own the partition', () => {
  test('agree, and a paused one that wakes up does no harm', async () => {
    const other = world.newReserve();
    await world.open('a', 6);
    world.crowd(0, 4);
    await world.drain(world.reserve);
    await world.drain(other);
    world.crowd(4, 6);
    // Turn by turn, on the same entries.
    await world.reserve.step(0);
    await other.step(0);
    world.crowd(6, 9);
    await other.step(0);
    await world.reserve.step(0);
    await world.drain(other);
    await world.drain(world.reserve);
    assertStory(firstOf(6));
    await world.drain(world.persist);
    assert.deepEqual(await world.winners(), firstOf(6));
  });
  test('one that is far behind answers from the record, marks nothing that is known, and catches up', async () => {
    await world.open('a', 3);
    const late = world.newReserve();
    await late.step(0);
    world.crowd(0, 4);
    await world.drain(world.reserve);
    world.crowd(4, 6);
    await world.drain(world.reserve);
    const before = await told();
    await world.drain(late);
    assert.deepEqual(await told(), before);
    assertStory(firstOf(3));
  });
});

suite('the ledger is a cache', () => {
  const empty = async () => (world.ledger.it as MemoryLedger).clear(0);
  test('emptied in mid-sale: it is rebuilt from the store, and the winners are the same', async () => {
    await world.open('a', 6);
    world.crowd(0, 4);
    await world.drainAll();
    world.crowd(4, 5);
    await world.drain(world.reserve);
    await empty();
    world.crowd(5, 10);
    await world.drainAll();
    assertStory(firstOf(6));
    assert.deepEqual(await world.winners(), firstOf(6));
    assert.deepEqual(world.counted.filter(([name]) => name === 'rebuilds').length, 2);
  });
  test('emptied between deciding and telling', async () => {
    await world.open('a', 3);
    await world.drainAll();
    world.crowd(0, 5);
    const append = world.log.append.bind(world.log);
    world.log.append = async (...args) => {
      world.log.append = append;
      await empty();
      return append(...args);
    };
    await world.drainAll();
    assertStory(firstOf(3));
    assert.deepEqual(await world.winners(), firstOf(3));
  });
  test('emptied while nobody presses: idle notices', async () => {
    await world.open('a', 3);
    world.crowd(0, 2);
    await world.drainAll();
    await empty();
    world.host.time += idleTickMs;
    await world.drain(world.reserve);
    assert.deepEqual(await told(), [3, 3]);
  });
  test('damaged (another build): it is rebuilt, and said', async () => {
    await world.open('a', 3);
    world.crowd(0, 2);
    await world.drainAll();
    // Another process rebuilds under a new build id.
    const place = await world.ledger.it.place(0);
    assert.ok(place.kind === 'present');
    await world.realStore.withSnapshot(0, s => world.ledger.it.rebuild(0, world.log.identity, s, place.build));
    world.crowd(2, 5);
    await world.drainAll();
    assertStory(firstOf(3));
    assert.deepEqual(await world.winners(), firstOf(3));
  });
  test('damaged (slots and holders differ): it is rebuilt, and said', async () => {
    const memory = new MemoryLedger();
    const ledger = breakable<StockLedger>(memory);
    const reserve = world.newReserve(ledger.it);
    await world.open('a', 3);
    world.crowd(0, 2);
    await world.drain(reserve);
    await world.drain(world.persist);
    const sale = stateOf(memory)?.fold.sales.get('a');
    assert.ok(sale);
    sale.taken = 1;
    world.crowd(2, 5);
    await world.drain(reserve);
    await world.drain(world.persist);
    assert.deepEqual(await world.winners(), firstOf(3));
    assert.match(world.said.map(s => s.message).join(), /a has 1 slots taken and 2 holders/);
  });
  test('rolled back to an older state with the same build: it goes back to the places of that state', async () => {
    const memory = new MemoryLedger();
    const reserve = world.newReserve(memory);
    await world.open('a', 6);
    world.crowd(0, 2);
    await world.drain(reserve);
    const old = stateOf(memory)?.told;
    world.crowd(2, 4);
    await reserve.step(0);
    const state = stateOf(memory);
    assert.ok(state && old === 3);
    // As after a restart from a copy in which this batch was decided but not told.
    state.told = old;
    world.crowd(4, 9);
    await world.drain(reserve, 20);
    assertStory(firstOf(6));
    assert.equal(state.told, 10);
  });
  test('rolled back to before what was decided since: the gap is refused, and the same is decided again', async () => {
    const memory = new MemoryLedger();
    const reserve = world.newReserve(memory);
    await world.open('a', 6);
    world.crowd(0, 4);
    await world.drain(reserve);
    const state = stateOf(memory);
    assert.ok(state);
    // An older copy of the same state: two entries of it.
    const older = world.log.of(requestLog).slice(0, 2);
    state.fold = fold(older.map(decodeEntry)).fold;
    state.fold.frontier.hash = entryHash(older[1] as LogEntry);
    state.told = 2;
    world.crowd(4, 9);
    await world.drain(reserve, 20);
    assertStory(firstOf(6));
    assert.deepEqual([state.told, state.fold.frontier.next], [10, 10]);
  });
  test('away for a while: nothing is decided, nothing is lost, no restart', async () => {
    await world.open('a', 3);
    await world.drain(world.reserve);
    world.crowd(0, 5);
    for (const method of ['apply', 'place', 'told'] as const) world.ledger.always(method, new Unavailable('redis'));
    for (let i = 0; i < 5; i++) await assert.rejects(world.reserve.step(0), /redis/);
    assert.equal(world.reserve.lag().state, 'retrying');
    world.ledger.heal();
    await world.drain(world.reserve);
    assertStory(firstOf(3));
  });
  test('of another log: an alarm instead of mixing', async () => {
    await world.open('a', 3);
    await world.drain(world.reserve);
    world.log.identity = 'made anew';
    const again = world.newReserve();
    await again.step(0);
    assert.equal(again.lag().state, 'stopped');
    assert.match(again.lag().error ?? '', /belongs to another log/);
  });
  test('over a log that was rewritten: an alarm', async () => {
    await world.open('a', 3);
    world.crowd(0, 2);
    await world.drain(world.reserve);
    (world.log.of(requestLog)[2] as { text: string }).text = 'rewritten';
    const again = world.newReserve();
    await again.step(0);
    assert.match(again.lag().error ?? '', /is not the log that was read before: entry 2 differs/);
  });
});

suite('entries that cannot be read', () => {
  test('a poison entry is refused at its offset, in order, with its bytes', async () => {
    await world.open('a', 3);
    world.put(request('x'), malformed(), request('y'));
    world.log.put(requestLog, 0, [new Uint8Array([0xff, 0xfe])]);
    world.put(request('z'));
    await world.drain(world.reserve);
    assert.deepEqual(places(), [
      ['sale', 0],
      ['won', 1],
      ['refused', 2],
      ['won', 3],
      ['refused', 4],
      ['won', 5],
      ['sale', 5],
      ['mark', 6],
    ]);
    const refused = changes().flatMap(change => (change.type === 'refused' ? [change] : []));
    assert.deepEqual(
      refused.map(({ why, bytes }) => [why, Buffer.from(bytes, 'base64').toString('hex')]),
      [
        ['not JSON', Buffer.from('not an entry').toString('hex')],
        ['not UTF-8', 'fffe'],
      ],
    );
  });
  test('a version that this build does not know stops the stage and keeps what was before it', async () => {
    await world.open('a', 3);
    world.crowd(0, 2);
    world.log.put(requestLog, 0, ['{"v":2,"type":"request"}']);
    world.crowd(2, 4);
    await world.drain(world.reserve);
    assert.equal(world.reserve.lag().state, 'stopped');
    assert.match(world.reserve.lag().error ?? '', /entry 3 has version 2/);
    assert.deepEqual([winners(), await told()], [firstOf(2), [3, 3]]);
  });
});

test('checkLastEntry: a log that does not give the entry now is asked again, not given up', async () => {
  const empty = { read: async () => ({ entries: [], next: 4, end: 4 }) } as unknown as EventLog;
  await assert.rejects(checkLastEntry(empty, requestLog, 0, 5, 'hash'), Unavailable);
});

test('checkLastEntry: an empty log has no last entry to compare', async () => {
  await checkLastEntry(world.log, requestLog, 0, 0, '');
});
