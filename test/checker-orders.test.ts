/** Several calls of one request: the checker finds what no order of them gives, and nothing that one of them does. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { check } from '../src/checker/check.ts';
import type { Dump } from '../src/checker/dump.ts';
import type { HistoryLine, Issue, Told } from '../src/checker/history.ts';
import { type Claimant, type Claimed, canBe } from '../src/checker/orders.ts';
import type { CouponId, UserId } from '../src/coupon.ts';
import { encodeEntry } from '../src/entry.ts';
import { keyHash } from '../src/task.ts';
import { Random } from './support/sale-history.ts';

suite('presses without a key', () => {
  const coupon = 'noon' as CouponId;
  const created: HistoryLine = {
    ...{ op: 'create', from: 0, to: 1, status: 201, coupon, stock: 2, opensAt: null, closesAt: null },
  };
  /** Of so many presses of ann; the first of them won. */
  const dumpOf = (presses: number): Dump => {
    const keys = Array.from({ length: presses }, (_, i) => keyHash('one', `${i}`));
    const texts = [
      encodeEntry({ type: 'opened', couponId: coupon, stock: 2, opensAt: null, closesAt: null }),
      ...keys.map(key => encodeEntry({ type: 'request', couponId: coupon, userId: 'ann' as UserId, key })),
    ];
    return {
      entries: texts.map((text, offset) => ({ kind: 'entry', partition: 0, offset, at: offset, text })),
      rows: [{ kind: 'row', coupon, user: 'ann', slot: 1, offset: 1, key: keys[0] as string, at: 1 }],
      letters: [],
    };
  };
  const press = (from: number, to: number, task: string): Issue => ({
    ...{ op: 'issue', from, to, status: 202, coupon, user: 'ann', body: { taskId: task, state: 'accepted' } },
  });
  const unanswered = (from: number): Issue => ({ op: 'issue', from, coupon, user: 'ann' });
  const refused = (from: number, status: number, body: Told): Issue => ({
    ...{ op: 'issue', from, to: from + 1, status, coupon, user: 'ann', body },
  });
  const told = (task: string, outcome: string): HistoryLine => ({
    ...{ op: 'task', from: 900, to: 901, status: 200, task, body: { state: 'done', outcome, slot: 1 } },
  });
  const [won, again] = ['issued', 'duplicated'];
  const kindsOf = (history: HistoryLine[], presses = 2) =>
    check(history, dumpOf(presses)).findings.map(({ kind, detail }) => `${kind}: ${detail}`);
  const together = 'contradicted: told what no order of these calls gives';

  test('one after the other: the first has won', () => {
    const calls = [created, press(100, 110, 'a'), press(200, 210, 'b')];
    assert.deepEqual(kindsOf([...calls, told('a', won), told('b', again)]), []);
    const [a, b] = [`contradicted: told ${again} 1, the log gives ${won} 1`, `${won} 1, the log gives ${again} 1`];
    assert.deepEqual(kindsOf([...calls, told('a', again), told('b', won)]), [a, `contradicted: told ${b}`]);
    assert.deepEqual(kindsOf([...calls, told('a', again), told('b', again)]), [a]);
    assert.deepEqual(kindsOf([...calls, told('a', won), told('b', won)]), [`contradicted: told ${b}`]);
  });
  test('at once: either may have won, and one of them has', () => {
    const calls = [created, press(100, 210, 'a'), press(200, 220, 'b')];
    assert.deepEqual(kindsOf([...calls, told('a', won), told('b', again)]), []);
    assert.deepEqual(kindsOf([...calls, told('a', again), told('b', won)]), []);
    assert.deepEqual(kindsOf([...calls, told('a', again), told('b', again)]), [together]);
    assert.deepEqual(kindsOf([...calls, told('a', won), told('b', won)]), [together]);
  });
  test('the one that was never answered may have won', () => {
    const calls = [created, unanswered(100), press(150, 160, 'a'), press(200, 210, 'b')];
    const ends = [told('a', again), told('b', again)];
    assert.deepEqual(kindsOf([...calls, ...ends], 3), []);
    assert.deepEqual(kindsOf([...calls, told('a', won), told('b', again)], 3), []);
    assert.deepEqual(kindsOf([...calls, told('a', won), told('b', again)], 2), []);
    assert.deepEqual(kindsOf([...calls.filter(line => line !== calls[1]), unanswered(220), ...ends], 3), [
      `contradicted: told ${again} 1, the log gives ${won} 1`,
    ]);
  });
  test('in a history that begins late one of before may have won, but not two of these', () => {
    const calls = [press(100, 210, 'a'), press(200, 220, 'b')];
    assert.deepEqual(kindsOf([...calls, told('a', again), told('b', again)], 3), []);
    assert.deepEqual(kindsOf([...calls, told('a', won), told('b', won)], 3), [together]);
  });
  test('a duplicate at the door needs a press that may have won by then', () => {
    const held = { code: 'DUPLICATED_COUPON', slot: 1 };
    const calls = [created, unanswered(100), press(150, 160, 'a'), told('a', won)];
    const early = 'contradicted: at the door: said to hold what nobody can have won by then';
    assert.deepEqual(kindsOf([...calls, refused(99, 409, held)]), []);
    assert.deepEqual(kindsOf([...calls, refused(98, 409, held)]), [early]);
    // There is one entry only, and it is the other call's.
    assert.deepEqual(kindsOf([...calls, refused(99, 409, held)], 1), [early]);
  });
});

suite('orders', () => {
  /** As it is meant, and much too slow. */
  function inSomeOrder(entries: readonly Claimed[], claimants: readonly Claimant[], hasAll: boolean): boolean {
    const goesOn = (i: number, left: readonly Claimant[], froms: number): boolean => {
      const entry = entries[i];
      if (!entry) return left.every(({ must }) => !must);
      if (!hasAll && goesOn(i + 1, left, froms)) return true;
      return left.some(one => {
        const { from, to, low, high, end } = one;
        const stands = to >= froms && entry.offset >= low && entry.offset < high && (end ?? entry.end) === entry.end;
        const others = left.filter(each => each !== one);
        return stands && goesOn(i + 1, others, Math.max(froms, from));
      });
    };
    return goesOn(0, claimants, Number.NEGATIVE_INFINITY);
  }

  test('none is missed and none is made up: 20000 small ones', () => {
    const seen = { true: 0, false: 0 };
    for (let seed = 0; seed < 20_000; seed++) {
      const random = new Random(seed);
      const hasAll = random.chance(0.6);
      const entries = Array.from({ length: random.int(1, 5) }, (_, offset) => ({
        offset,
        end: random.pick(['x', 'y']),
      }));
      // Bounds are those of a time, as in a history: what begins later does not stand before more.
      const [slow, ahead] = [random.int(1, 9), random.int(-2, 2)];
      const claimants = Array.from({ length: random.int(0, 5) }, (): Claimant => {
        const [from, must] = [random.int(0, 9), random.chance(0.7)];
        const to = must ? from + random.int(0, 5) : Number.POSITIVE_INFINITY;
        const end = must && random.chance(0.7) ? random.pick(['x', 'y']) : undefined;
        return {
          from,
          to,
          low: Math.floor(from / slow) - ahead - 2,
          high: Math.ceil(to / slow) - ahead + 2,
          end,
          must,
        };
      });
      const expected = inSomeOrder(entries, claimants, hasAll);
      assert.equal(canBe(entries, claimants, hasAll), expected, JSON.stringify({ seed, entries, claimants, hasAll }));
      seen[`${expected}`]++;
    }
    assert.ok(seen.true > 1_000 && seen.false > 1_000, JSON.stringify(seen));
  });
  test('hundreds of calls of one user are no endless search', () => {
    const calls = Array.from({ length: 400 }, (_, i): Claimant => {
      const bounds = { from: 0, to: 1, low: 0, high: Infinity, must: true };
      return { ...bounds, end: i % 3 === 0 ? undefined : i % 2 === 0 ? 'x' : 'y' };
    });
    const entries = calls.map((_, offset) => ({ offset, end: offset % 5 < 2 ? 'x' : 'y' }));
    assert.equal(canBe(entries, calls, true), true);
  });
});
