import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import {
  changeDeadLetters,
  changeLog,
  encodeChange,
  encodeWon,
  entryHash,
  type LogEntry,
  requestDeadLetters,
  requestLog,
  type Won,
} from '../src/entry.ts';
import { Unavailable } from '../src/errors.ts';
import { idleTickMs, persistBatchMax } from '../src/limits.ts';
import { planBatch } from '../src/persist.ts';
import { afterCall } from './support/breakable.ts';
import { added, c, k, malformed, request, u } from './support/entries.ts';
import { createWorld, firstOf, type World } from './support/world.ts';

let world: World;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

const checkpoint = () => world.realStore.checkpoint(0);
const boardOf = async () => (await world.board.it.read(0, [0, 1, 2, 3, 4, 5]).catch(() => undefined)) ?? undefined;

async function decided(stock: number, crowd: number): Promise<void> {
  await world.open('a', stock);
  world.crowd(0, crowd);
  await world.drain(world.reserve);
}

suite('committing', () => {
  test('rows, sale changes, totals and the checkpoint in one transaction a batch, then the board', async () => {
    await decided(2, 4);
    await world.drain(world.persist);
    assert.deepEqual(await world.winners(), firstOf(2));
    const { next, changeNext, hash, changeHash } = await checkpoint();
    const changes = world.log.of(changeLog);
    assert.deepEqual([next, changeNext], [5, changes.length]);
    assert.equal(hash, entryHash(world.log.of(requestLog)[4] as LogEntry));
    assert.equal(changeHash, entryHash(changes.at(-1) as LogEntry));
    assert.equal(world.store.calls.get('commit'), 1);
    assert.deepEqual(await boardOf(), { changeNext: 5, committedNext: 5, setAside: new Set() });
    const counts = await world.realStore.withSnapshot(0, async snapshot => snapshot.sales[0]?.counts);
    assert.deepEqual(counts, { duplicated: 0, closed: 0, not_open: 0, sold_out: 2 });
  });
  test('a batch that ends before its mark is written whole, and its rows count only with the mark', async () => {
    await decided(2 * persistBatchMax, 499);
    world.crowd(499, persistBatchMax + 500);
    await world.drain(world.reserve);
    await world.persist.step(0);
    assert.equal((await world.rows()).length, persistBatchMax - 2);
    assert.deepEqual([(await checkpoint()).next, (await checkpoint()).changeNext], [500, persistBatchMax]);
    await world.drain(world.persist);
    assert.equal((await checkpoint()).next, persistBatchMax + 501);
  });
  const crashes: [name: string, arm: () => void][] = [
    ['before the transaction', () => world.store.once('commit', 'before')],
    ['after the transaction and before the board', () => world.store.once('commit', 'after')],
  ];
  for (const [name, arm] of crashes) {
    test(`a crash ${name}: no row twice, none missing, the board is right`, async () => {
      await decided(5, 3);
      arm();
      await assert.rejects(world.persist.step(0));
      world.persist = world.newPersist();
      world.crowd(3, 9);
      await world.drainAll();
      assert.deepEqual(await world.winners(), firstOf(5));
      assert.equal((await boardOf())?.committedNext, 10);
    });
  }
  test('another process moved the checkpoint: it goes on from there', async () => {
    await decided(5, 2);
    const other = world.newPersist();
    await world.drain(world.persist);
    await world.drain(other);
    world.crowd(2, 4);
    await world.drain(world.reserve);
    await other.step(0);
    await world.drain(world.persist);
    world.crowd(4, 9);
    await world.drainAll();
    assert.deepEqual(await world.winners(), firstOf(5));
  });
  test('a paused one that wakes up with an older, smaller batch does not move the checkpoint back', async () => {
    const paused = world.newPersist();
    await paused.step(0);
    await decided(5, 3);
    await world.drain(world.persist);
    const before = await checkpoint();
    world.log.readMax = 2;
    await paused.step(0);
    assert.deepEqual(await checkpoint(), before);
    assert.equal(paused.place, before.changeNext);
  });
  test('the store is away for a while: nothing is lost, no restart', async () => {
    await decided(5, 3);
    world.store.always('commit', new Unavailable('postgres'));
    for (let i = 0; i < 4; i++) await assert.rejects(world.persist.step(0), /postgres/);
    world.store.heal();
    await world.drain(world.persist);
    assert.deepEqual(await world.winners(), firstOf(3));
  });
});

suite('repeats', () => {
  test('a whole range that stands twice in the change log changes nothing', async () => {
    await decided(3, 5);
    await world.drain(world.persist);
    const before = await checkpoint();
    world.log.put(
      changeLog,
      0,
      world.log.of(changeLog).map(entry => entry.text),
    );
    await world.drain(world.persist);
    const after = await checkpoint();
    assert.deepEqual(await world.winners(), firstOf(3));
    assert.deepEqual([after.next, after.hash, after.clock], [before.next, before.hash, before.clock]);
    assert.equal(after.changeNext, before.changeNext * 2);
    assert.deepEqual(await world.realStore.setAside({ limit: 9 }), []);
  });
  test('an earlier mark after a later one moves nothing back, totals neither', async () => {
    const mark = (from: number, next: number, sold_out: number) => ({
      type: 'mark' as const,
      from,
      next,
      clock: next,
      hash: `h${next}`,
      counts: { a: { duplicated: 0, closed: 0, not_open: 0, sold_out } },
      strays: { malformed: 0, unknown_coupon: 0 },
    });
    world.log.put(changeLog, 0, [mark(0, 5, 1), mark(5, 9, 4), mark(0, 5, 1)].map(encodeChange));
    const entries = world.log.of(changeLog);
    const { plan, hole } = planBatch({ partition: 0, from: 0, next: 3, end: 3, entries }, await checkpoint());
    assert.equal(hole, undefined);
    assert.deepEqual([plan.checkpoint.next, plan.checkpoint.hash, plan.counts.a?.sold_out], [9, 'h9', 4]);
    assert.equal(plan.checkpoint.changeNext, 3);
  });
});

suite('what cannot be carried on', () => {
  test('a hole stops it with an alarm; what comes before is kept, nothing past it is written', async () => {
    await decided(5, 2);
    const mark = { type: 'mark' as const, from: 40, next: 50, clock: 1, hash: '', counts: {} };
    const won: Won = { type: 'won', couponId: c('a'), userId: u('late'), slot: 3, offset: 45, key: k(1), at: 1 };
    world.log.put(changeLog, 0, [
      encodeChange({ ...mark, strays: { malformed: 0, unknown_coupon: 0 } }),
      encodeWon(won),
    ]);
    await world.drain(world.persist);
    const { state, error } = world.persist.lag();
    assert.equal(state, 'stopped');
    assert.match(error ?? '', /hole in coupon-issued-success: the mark at 4 begins at request 40, rows .* up to 3/);
    assert.deepEqual(await world.winners(), firstOf(2));
    assert.deepEqual([(await checkpoint()).next, (await checkpoint()).changeNext], [3, 4]);
  });
  test('a version that this build does not know stops it and keeps what was before it', async () => {
    await decided(5, 2);
    world.log.put(changeLog, 0, ['{"v":9}']);
    await world.drain(world.persist);
    assert.match(world.persist.lag().error ?? '', /entry 4 has version 9/);
    assert.equal(world.persist.lag().state, 'stopped');
    assert.deepEqual(await world.winners(), firstOf(2));
    assert.equal((await checkpoint()).changeNext, 4);
  });
  test('a poison change is set aside with its bytes and a copy in the dead letters, and the others go on', async () => {
    await decided(5, 2);
    world.log.put(changeLog, 0, ['{"v":1,"type":"won"}']);
    world.crowd(2, 4);
    await world.drain(world.reserve);
    await world.drain(world.persist);
    assert.deepEqual(await world.winners(), firstOf(4));
    const [letter] = await world.realStore.setAside({ limit: 9 });
    assert.deepEqual(
      [letter?.log, letter?.offset, letter?.reason, Buffer.from(letter?.bytes ?? '', 'base64').toString()],
      [changeLog, 4, 'unreadable: bad won', '{"v":1,"type":"won"}'],
    );
    assert.equal(world.log.of(changeDeadLetters).length, 1);
  });
  test('a malformed request is set aside with the offset and bytes that it had', async () => {
    await world.open('a', 1);
    world.put(malformed());
    await world.drainAll();
    const [letter] = await world.realStore.setAside({ limit: 9 });
    assert.deepEqual(
      [letter?.log, letter?.offset, letter?.reason, Buffer.from(letter?.bytes ?? '', 'base64').toString()],
      [requestLog, 1, 'malformed: not JSON', 'not an entry'],
    );
  });
  test('its copy is in the dead letters before the commit: whoever begins behind it makes none', async () => {
    await world.open('a', 1);
    world.put(malformed());
    await world.drain(world.reserve);
    world.log.faultsOf = requestDeadLetters;
    world.log.faults.push('lose');
    await assert.rejects(world.persist.step(0));
    assert.equal((await checkpoint()).next, 0);
    await world.drain(world.persist);
    assert.equal((await checkpoint()).next, 2);
    const copies = world.log.of(requestDeadLetters).map(entry => JSON.parse(entry.text));
    assert.deepEqual(
      copies.map(({ log, offset, bytes }) => [log, offset, Buffer.from(bytes, 'base64').toString()]),
      [[requestLog, 1, 'not an entry']],
    );
  });
  test('a winner that the store refuses is set aside and on the board; redriven, it has its row and is off it', async () => {
    await decided(3, 2);
    // Somebody wrote a row by hand: slot 2 is taken.
    world.database.db.exec(
      `INSERT INTO user_coupon VALUES ('a', 2, 'intruder', 99, '${k(1)}', 1, NULL); UPDATE coupon SET issued = 1`,
    );
    await world.drain(world.persist);
    assert.deepEqual([...((await boardOf())?.setAside ?? [])], [2]);
    const [letter] = await world.realStore.setAside({ limit: 9 });
    assert.match(letter?.reason ?? '', /^refused_by_store: slot 2 is held by user intruder/);
    assert.equal(world.log.of(changeDeadLetters).length, 1);
    assert.ok(world.counted.some(([name, by, label]) => name === 'set_aside' && by === 1 && label === changeLog));
    world.database.db.exec("DELETE FROM user_coupon WHERE user_id = 'intruder'; UPDATE coupon SET issued = 1");
    world.log.put(changeLog, 0, [letter?.bytes ?? '']);
    await world.drain(world.persist);
    assert.deepEqual(await world.winners(), firstOf(2));
    assert.deepEqual([...((await boardOf())?.setAside ?? ['?'])], []);
    assert.deepEqual(await world.realStore.setAside({ limit: 9 }), []);
  });
  test('the copy of a refused winner is a copy: without it rows go on', async () => {
    await decided(3, 2);
    world.database.db.exec(`INSERT INTO user_coupon VALUES ('a', 2, 'intruder', 99, '${k(1)}', 1, NULL)`);
    world.log.faultsOf = changeDeadLetters;
    world.log.faults.push('lose');
    await world.drain(world.persist);
    assert.equal((await checkpoint()).next, 3);
    assert.ok(world.said.some(s => s.level === 'warn' && /copy of 1 dead letters was not appended/.test(s.message)));
  });
  test('a change log that was made anew or rewritten is an alarm', async () => {
    await decided(3, 2);
    await world.drain(world.persist);
    (world.log.of(changeLog).at(-1) as { text: string }).text = '{}';
    const again = world.newPersist();
    await again.step(0);
    assert.equal(again.lag().state, 'stopped');
    assert.match(again.lag().error ?? '', /coupon-issued-success partition 0 is not the log that was read before/);
  });
});

suite('the board is a convenience', () => {
  test('while it is away rows go on, and idle writes it when it is back', async () => {
    await decided(3, 2);
    for (const method of ['commit', 'restore', 'read'] as const) world.board.always(method);
    await world.drain(world.persist);
    assert.deepEqual(await world.winners(), firstOf(2));
    world.board.heal();
    assert.equal(await boardOf(), undefined);
    world.host.time += idleTickMs;
    await world.persist.step(0);
    assert.equal((await boardOf())?.committedNext, 3);
  });
  test('one that was emptied is restored by idle, and by the next commit', async () => {
    await decided(3, 2);
    await world.drain(world.persist);
    await world.board.it.close();
    world.host.time += idleTickMs;
    await world.persist.step(0);
    assert.equal((await boardOf())?.committedNext, 3);
    await world.board.it.close();
    world.put(request('x'), added(1, 4));
    await world.drainAll();
    assert.equal((await boardOf())?.committedNext, 5);
  });
  test('one that is ahead of a store that went back shows it no longer', async () => {
    await decided(3, 2);
    await world.drain(world.persist);
    // As after a backup of the store was restored: the board tells of commits that are not there any more.
    const ahead = { changeNext: 90, committedNext: 80, setAside: [1] };
    await world.board.it.restore(0, ahead);
    await world.drain(world.newPersist());
    assert.deepEqual(await boardOf(), { changeNext: 4, committedNext: 3, setAside: new Set() });
    await world.board.it.restore(0, ahead);
    world.host.time += idleTickMs;
    await world.persist.step(0);
    assert.equal((await boardOf())?.committedNext, 3, 'noticed by idle too');
  });
  test('one that tells of as many changes as a store that went back and caught up is written anew', async () => {
    await decided(3, 2);
    await world.drain(world.persist);
    const { changeNext } = await checkpoint();
    await world.board.it.restore(0, { changeNext, committedNext: 3, setAside: [1] }, changeNext);
    assert.deepEqual([...((await boardOf())?.setAside ?? [])], [1]);
    await world.drain(world.newPersist());
    assert.deepEqual([...((await boardOf())?.setAside ?? ['?'])], []);
  });
  test('what another commits between the read of the board and that of the store is not taken back', async () => {
    await decided(3, 2);
    await world.drain(world.persist);
    world.crowd(2, 4);
    await world.drain(world.reserve);
    // The first read is where a stage begins; the next two say whether the store has gone back.
    const meanwhile = afterCall(2, () => world.drain(world.persist));
    world.board.it.read = meanwhile(world.board.it.read);
    world.store.it.checkpoint = meanwhile(world.store.it.checkpoint);
    const shown: (number | undefined)[] = [];
    await world.board.it.subscribe({ hint: ({ committedNext }) => shown.push(committedNext), broken() {} });
    await world.drain(world.newPersist());
    assert.deepEqual(new Set(shown), new Set([5]));
    assert.deepEqual(world.said, []);
  });
  test('a store that goes back while all of it is read for a board is not shown without what it had set aside', async () => {
    await decided(3, 2);
    const intruder = `INSERT INTO user_coupon VALUES ('a', 2, 'intruder', 99, '${k(1)}', 1, NULL)`;
    world.database.db.exec(`${intruder}; UPDATE coupon SET issued = 1`);
    await world.drain(world.persist);
    await world.board.it.close();
    const { setAside } = world.store.it;
    world.store.it.setAside = async filter => {
      world.store.it.setAside = setAside;
      world.database.db.exec(`DELETE FROM user_coupon; DELETE FROM checkpoint; DELETE FROM sale_change;
        DELETE FROM set_aside; ${intruder}; UPDATE coupon SET issued = 1`);
      return setAside.call(world.store.it, filter);
    };
    const shown: unknown[] = [];
    await world.board.it.subscribe({ hint: () => void boardOf().then(board => shown.push(board)), broken() {} });
    await world.drain(world.newPersist());
    const whole = { changeNext: 4, committedNext: 3, setAside: new Set([2]) };
    assert.deepEqual(await boardOf(), whole);
    for (const board of shown) if ((board as typeof whole).committedNext === 3) assert.deepEqual(board, whole);
  });
  test('a store that went back while nobody presses the button gets its rows again', async () => {
    await decided(3, 2);
    await world.drain(world.persist);
    world.database.db.exec(`DELETE FROM user_coupon; DELETE FROM checkpoint; DELETE FROM sale_change;
      UPDATE coupon SET issued = 0`);
    world.host.time += idleTickMs;
    await world.persist.step(0);
    await world.drain(world.persist);
    assert.deepEqual(await world.winners(), firstOf(2));
    assert.equal((await boardOf())?.committedNext, 3);
  });
  test('one that was rolled back behind a redrive is put right by idle', async () => {
    await decided(3, 2);
    await world.drain(world.persist);
    const { changeNext } = await checkpoint();
    await world.board.it.restore(0, { changeNext: changeNext - 1, committedNext: 3, setAside: [1] }, changeNext);
    assert.deepEqual([...((await boardOf())?.setAside ?? [])], [1]);
    world.host.time += idleTickMs;
    await world.persist.step(0);
    assert.deepEqual([...((await boardOf())?.setAside ?? ['?'])], []);
  });
  test('is not written before the rows are', async () => {
    await decided(3, 2);
    let seen = -1;
    const commit = world.realStore.commit.bind(world.realStore);
    world.realStore.commit = async (...args) => {
      seen = (await boardOf())?.committedNext ?? 0;
      return commit(...args);
    };
    await world.drain(world.persist);
    assert.deepEqual([seen, (await boardOf())?.committedNext], [0, 3]);
  });
});
