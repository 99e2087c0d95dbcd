import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { changeLog, encodeRequest, requestLog } from '../src/entry.ts';
import { Alarm } from '../src/errors.ts';
import { type ProblemKind, type VerifyReport, verify } from '../src/verify.ts';
import { added, c, closed, k, malformed, opened, request, u } from './support/entries.ts';
import { createWorld, type World } from './support/world.ts';

const check = (world: World, couponId?: string): Promise<VerifyReport> =>
  verify({ log: world.log, store: world.realStore, now: 1, ...(couponId ? { couponId: c(couponId) } : {}) });

const problemsOf = (report: VerifyReport) => [...report.problems, ...report.coupons.flatMap(coupon => coupon.problems)];
const kindsOf = (report: VerifyReport): ProblemKind[] => [...new Set(problemsOf(report).map(p => p.kind))].sort();

/** A sale that has seen everything: 5 winners of 5, duplicates, losers, a restock, a malformed and a stray entry. */
async function soldOut(): Promise<World> {
  const world = createWorld();
  await world.open('a', 3);
  await world.open('b', 2);
  world.put(request('stray', 0, 'nowhere'));
  world.crowd(0, 4);
  world.put(request('u1', 77), request('u2', 2), malformed(), added(2, 5));
  world.crowd(4, 9);
  world.put(request('v', 1, 'b'), closed('b'), request('w', 1, 'b'));
  await world.drainAll();
  return world;
}

/** The tables' own rules refuse most of what is tried here: the walls are taken down first. */
function takeDownWalls(world: World): void {
  world.database.db.exec(`PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;
    CREATE TABLE plain AS SELECT * FROM user_coupon; DROP TABLE user_coupon; ALTER TABLE plain RENAME TO user_coupon`);
}

suite('a store that is as it must be', () => {
  test('is not flagged, and the report has the numbers', async t => {
    const world = await soldOut();
    t.after(world.close);
    const report = await check(world);
    assert.deepEqual(problemsOf(report), []);
    const end = world.log.of(requestLog).length;
    assert.deepEqual(report, {
      ok: true,
      at: 1,
      checkedEntries: end,
      behind: 0,
      unanswered: 0,
      partitions: [{ partition: 0, next: end, end, problems: 0 }],
      problems: [],
      coupons: [
        { couponId: 'a', stock: 5, winners: 5, rows: 5, setAside: 0, problems: [], problemsTotal: 0 },
        { couponId: 'b', stock: 2, winners: 1, rows: 1, setAside: 0, problems: [], problemsTotal: 0 },
      ],
    });
  });
  test('is not flagged when it is empty', async t => {
    const world = createWorld();
    t.after(world.close);
    assert.deepEqual([(await check(world)).ok, (await check(world)).checkedEntries], [true, 0]);
  });
  test('is not flagged before a coupon was opened', async t => {
    const world = createWorld();
    t.after(world.close);
    await world.open('a', 3);
    assert.equal((await check(world)).ok, true);
  });
  test('one coupon alone gives the same verdict of it', async t => {
    const world = await soldOut();
    t.after(world.close);
    const whole = await check(world);
    for (const coupon of whole.coupons) {
      const report = await check(world, coupon.couponId);
      assert.deepEqual(problemsOf(report), []);
      assert.deepEqual(report.coupons, [coupon]);
    }
  });
  test('a coupon that the store does not know is not called verified', async t => {
    const world = await soldOut();
    t.after(world.close);
    const report = await check(world, 'nowhere');
    assert.deepEqual([report.ok, kindsOf(report), report.coupons], [false, ['unknown_coupon'], []]);
  });
  test('entries beyond the checkpoint are counted, not judged', async t => {
    const world = await soldOut();
    t.after(world.close);
    world.crowd(100, 110);
    const report = await check(world);
    assert.deepEqual([report.ok, report.behind], [true, 10]);
  });
  test('rows and terms that are committed before their mark are not flagged', async t => {
    const world = createWorld();
    t.after(world.close);
    await world.open('a', 3);
    world.crowd(0, 2);
    world.put(added(4, 9), closed());
    await world.drain(world.reserve);
    // All but the mark that ends the batch.
    const changes = world.log.of(changeLog);
    const mark = changes.pop();
    await world.drain(world.persist);
    assert.equal((await world.rows()).length, 2);
    const report = await check(world);
    assert.deepEqual([problemsOf(report), report.coupons[0]?.rows, report.coupons[0]?.winners], [[], 2, 0]);
    assert.ok(mark);
  });
  test('winners set aside before the mark that ends their batch are not flagged', async t => {
    const world = createWorld();
    t.after(world.close);
    world.put(opened(3, {}, 'a'));
    world.crowd(0, 2);
    await world.drain(world.reserve);
    world.log.of(changeLog).pop();
    await world.drain(world.persist);
    const body = { name: 'a', stock: 3, opensAt: null, closesAt: null, validUntil: null, discount: null };
    await world.store.it.createCoupon({ couponId: c('a'), partition: 0, body, createdAt: 1 });
    const report = await check(world);
    assert.deepEqual([problemsOf(report), report.coupons[0]?.setAside, report.coupons[0]?.winners], [[], 2, 0]);
  });
  test('winners set aside are counted as such, and those who wait with them are not unanswered', async t => {
    const world = createWorld();
    t.after(world.close);
    world.put(opened(3, {}, 'a'));
    world.crowd(0, 3);
    world.put(request('u1', 99));
    // There is no row of the coupon, so the store refuses the winners.
    await world.drainAll();
    await world.store.it.createCoupon({
      couponId: c('a'),
      partition: 0,
      body: { name: 'a', stock: 3, opensAt: null, closesAt: null, validUntil: null, discount: null },
      createdAt: 1,
    });
    const report = await check(world);
    assert.deepEqual(problemsOf(report), []);
    assert.deepEqual([report.coupons[0]?.winners, report.coupons[0]?.rows, report.coupons[0]?.setAside], [3, 0, 3]);
  });
});

suite('tampered data is caught', () => {
  const row = 'UPDATE user_coupon SET';
  const insert = (slot: number, user: string, offset: number) =>
    `INSERT INTO user_coupon VALUES ('a', ${slot}, '${user}', ${offset}, '${k(1)}', 5, NULL)`;
  const table: [name: string, sql: string, expected: ProblemKind[]][] = [
    ['a row more than there is stock', insert(6, 'zed', 9), ['over_issue', 'ghost', 'issued_count']],
    [
      'a user with two rows',
      `${insert(6, 'u0', 3)}; UPDATE coupon SET stock = 9 WHERE coupon_id = 'a'`,
      ['duplicate_user', 'stock'],
    ],
    [
      'two users with one slot',
      `${row} slot = 2 WHERE coupon_id = 'a' AND slot = 3`,
      ['duplicate_slot', 'wrong_slot', 'slot_gap'],
    ],
    ['more rows than units, none with a slot beyond them', insert(5, 'zed', 9), ['over_issue', 'duplicate_slot']],
    ['a hole in the slots', `${row} slot = 7 WHERE coupon_id = 'a' AND slot = 3`, ['slot_gap', 'wrong_slot']],
    ['a slot beyond the units', `${row} slot = 7 WHERE coupon_id = 'a' AND slot = 5`, ['over_issue']],
    [
      'a row of somebody who never asked',
      `${row} user_id = 'ghost' WHERE coupon_id = 'a' AND slot = 2`,
      ['ghost', 'missing_row'],
    ],
    ['a row of somebody who asked and lost', `${row} user_id = 'u7' WHERE coupon_id = 'a' AND slot = 2`, ['ghost']],
    ['a row for a request beyond the end of the log', insert(6, 'late', 9_999), ['ghost']],
    [
      'a row that is gone',
      "DELETE FROM user_coupon WHERE coupon_id = 'a' AND slot = 5",
      ['missing_row', 'issued_count'],
    ],
    [
      'two rows that changed their slots',
      `${row} slot = 9 - slot WHERE coupon_id = 'a' AND slot IN (4, 5)`,
      ['order_inversion', 'wrong_slot'],
    ],
    ['a row with another offset', `${row} offset = offset + 1 WHERE coupon_id = 'a' AND slot = 5`, ['wrong_request']],
    ['a row with another key', `${row} key = '${k(4_242)}' WHERE coupon_id = 'a' AND slot = 5`, ['wrong_request']],
    [
      'a row with another time',
      `${row} issued_at = issued_at + 1 WHERE coupon_id = 'a' AND slot = 5`,
      ['wrong_request'],
    ],
    ['a count that is not that of the rows', "UPDATE coupon SET issued = 4 WHERE coupon_id = 'a'", ['issued_count']],
    ['another stock in the coupon', "UPDATE coupon SET stock = 6 WHERE coupon_id = 'a'", ['stock']],
    ['the stock of before a restock', "UPDATE coupon SET stock = 3 WHERE coupon_id = 'a'", ['stock']],
    ['a coupon that is closed without a close', "UPDATE coupon SET closed = 1 WHERE coupon_id = 'a'", ['stock']],
    [
      'another stock in a sale change',
      "UPDATE sale_change SET stock = 4 WHERE coupon_id = 'a' AND offset = 0",
      ['stock'],
    ],
    [
      'a phase that is gone',
      "DELETE FROM sale_change WHERE coupon_id = 'a' AND phase = 'sold_out'",
      ['stock', 'unanswered'],
    ],
    [
      'a phase that never was',
      "UPDATE sale_change SET phase = 'closed' WHERE coupon_id = 'a' AND phase = 'sold_out'",
      ['stock', 'wrong_answer'],
    ],
    [
      'a sale that nobody opened',
      "INSERT INTO sale_change SELECT partition, 'c', 1, at, stock, NULL, NULL, 0, phase, NULL FROM sale_change WHERE offset = 0",
      ['stock'],
    ],
    [
      'totals that are not those of the log',
      "UPDATE totals SET sold_out = sold_out + 1 WHERE coupon_id = 'a'",
      ['counts'],
    ],
    ['a checkpoint with another hash', "UPDATE checkpoint SET hash = 'beef'", ['checkpoint']],
    ['a checkpoint with another clock', 'UPDATE checkpoint SET clock = clock + 1', ['checkpoint']],
    ['a checkpoint with another count of strays', 'UPDATE checkpoint SET malformed = 7', ['checkpoint']],
    ['a checkpoint beyond the log', 'UPDATE checkpoint SET next = next + 5', ['checkpoint']],
    ['a checkpoint before its time', 'UPDATE checkpoint SET next = 4', ['checkpoint']],
    ['a place in another change log', "UPDATE checkpoint SET change_hash = 'beef'", ['checkpoint']],
    ['a place beyond the change log', 'UPDATE checkpoint SET change_next = change_next + 3', ['checkpoint']],
    ['a dead letter that is lost', 'DELETE FROM set_aside', ['dead_letter']],
    ['a good request kept as malformed', 'UPDATE set_aside SET offset = 3', ['dead_letter', 'wrong_answer']],
    [
      'a good request kept as malformed, beside the one that is',
      `INSERT INTO set_aside SELECT log, partition, 3, coupon_id, user_id, slot, key, at, reason, bytes FROM set_aside`,
      ['dead_letter'],
    ],
    [
      'a winner set aside who did not win',
      `INSERT INTO set_aside VALUES ('${requestLog}', 0, 4, 'a', 'zed', 2, '${k(1)}', 5, 'refused_by_store: x', '')`,
      ['ghost'],
    ],
    [
      'a winner set aside of no coupon that is here',
      `INSERT INTO set_aside VALUES ('${requestLog}', 0, 900, 'nowhere', 'zed', 1, '${k(1)}', 5, 'refused_by_store: x', '')`,
      ['ghost'],
    ],
    [
      'a winner set aside who did not win, behind one who did',
      `INSERT INTO set_aside VALUES ('${requestLog}', 0, 1, 'a', 'u2', 9, '${k(1)}', 1, 'refused_by_store: x', '');
       INSERT INTO set_aside SELECT '${requestLog}', 0, offset, coupon_id, user_id, slot, key, 9, 'refused_by_store: x', ''
         FROM user_coupon WHERE coupon_id = 'a' AND slot = 3;
       DELETE FROM user_coupon WHERE coupon_id = 'a' AND slot = 3;
       UPDATE coupon SET issued = issued - 1 WHERE coupon_id = 'a'`,
      ['ghost'],
    ],
    [
      'a winner who is set aside and has a row',
      `INSERT INTO set_aside SELECT '${requestLog}', 0, offset, coupon_id, user_id, slot, key, 9, 'refused_by_store: x', ''
         FROM user_coupon WHERE coupon_id = 'a' AND slot = 1`,
      ['dead_letter'],
    ],
    ['another beginning', "UPDATE coupon SET body = json_set(body, '$.opensAt', 1) WHERE coupon_id = 'a'", ['stock']],
    ['another window', "UPDATE coupon SET body = json_set(body, '$.closesAt', 1) WHERE coupon_id = 'a'", ['stock']],
    [
      'another stock to begin with',
      "UPDATE coupon SET body = json_set(body, '$.stock', 9) WHERE coupon_id = 'a'",
      ['stock'],
    ],
    ['a sale whose coupon has no row', "DELETE FROM coupon WHERE coupon_id = 'b'", ['unknown_coupon']],
  ];
  for (const [name, sql, expected] of table) {
    test(name, async t => {
      const world = await soldOut();
      t.after(world.close);
      takeDownWalls(world);
      assert.equal((await check(world)).ok, true, 'nothing was wrong before');
      world.database.db.exec(sql);
      const report = await check(world);
      assert.equal(report.ok, false);
      const kinds = kindsOf(report);
      for (const kind of expected) assert.ok(kinds.includes(kind), `${kind} is not among ${kinds.join(', ')}`);
    });
  }

  test('a log that was changed after the fact', async t => {
    const world = await soldOut();
    t.after(world.close);
    // The first winner's request now names somebody else.
    const entry = world.log.of(requestLog)[3];
    assert.ok(entry);
    entry.text = encodeRequest(c('a'), u('thief'), k(0));
    const report = await check(world);
    assert.deepEqual(kindsOf(report), ['ghost', 'missing_row', 'unanswered']);
    assert.deepEqual(
      report.coupons[0]?.problems.map(({ kind, userId, slot, offset }) => [kind, userId, slot, offset]),
      [
        ['unanswered', 'thief', undefined, 3],
        ['ghost', 'u0', 1, 3],
        ['missing_row', 'thief', 1, 3],
      ],
    );
  });
  test('a request that gets no answer, however many there are: the first twenty and the total', async t => {
    const world = createWorld();
    t.after(world.close);
    await world.open('a', 51);
    world.crowd(0, 50);
    await world.drainAll();
    world.database.db.exec('DELETE FROM user_coupon');
    const report = await check(world);
    assert.equal(report.unanswered, 50);
    const coupon = report.coupons[0];
    assert.equal(coupon?.problems.filter(p => p.kind === 'unanswered').length, 20);
    // 50 unanswered, 50 missing, one count.
    assert.equal(coupon?.problemsTotal, 101);
  });
  test('one coupon alone finds its own trouble and not that of others', async t => {
    const world = await soldOut();
    t.after(world.close);
    takeDownWalls(world);
    world.database.db.exec("DELETE FROM user_coupon WHERE coupon_id = 'a' AND slot = 5");
    assert.equal((await check(world, 'a')).ok, false);
    assert.equal((await check(world, 'b')).ok, true);
  });
});

test('a version that this build does not know is an alarm, not a verdict', async t => {
  const world = await soldOut();
  t.after(world.close);
  const entry = world.log.of(requestLog)[2];
  assert.ok(entry);
  entry.text = '{"v":2}';
  await assert.rejects(check(world), Alarm);
});

test('whoever presses, however often: the rows are the first N distinct users, and verify says so', async () => {
  const users = fc.array(
    fc.nat({ max: 12 }).map(n => `u${n}`),
    { maxLength: 40 },
  );
  await fc.assert(
    fc.asyncProperty(users, fc.nat({ max: 8 }), async (pressed, stock) => {
      const world = createWorld();
      try {
        await world.open('a', stock);
        world.put(...pressed.map((name, i) => request(name, i)));
        await world.drainAll();
        assert.deepEqual(
          await world.winners(),
          [...new Set(pressed)].slice(0, stock).map((name, i) => `${i + 1} ${name}`),
        );
        assert.deepEqual(problemsOf(await check(world)), []);
      } finally {
        world.close();
      }
    }),
    { numRuns: 25 },
  );
});

suite('a long log', () => {
  let world: World;
  before(async () => {
    world = createWorld();
    await world.open('a', 30_000);
    for (let from = 0; from < 200_000; from += 10_000) world.crowd(from, from + 10_000);
    await world.drainAll();
  });
  after(() => world.close());
  test('is folded in chunks, within seconds', async () => {
    const start = process.cpuUsage();
    const report = await check(world);
    const { user, system } = process.cpuUsage(start);
    const ms = (user + system) / 1_000;
    assert.deepEqual([report.ok, report.checkedEntries, report.coupons[0]?.rows], [true, 200_001, 30_000]);
    // CPU time, so that a loaded machine does not matter; about 400 ms were measured.
    assert.ok(ms < 3_000, `${ms} ms for 200,001 entries`);
  });
  test('a row changed in the middle is found', async () => {
    world.database.db.exec(`UPDATE user_coupon SET key = '${k(1)}' WHERE slot = 15000`);
    const report = await check(world);
    assert.deepEqual(
      report.coupons[0]?.problems.map(({ kind, slot }) => [kind, slot]),
      [['wrong_request', 15_000]],
    );
  });
});
