/** What `dibs rush` makes of the coupon before, the coupon after, and what its crowd was told. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Tally } from '../src/cli/crowd.ts';
import { pressedCheck, winnersChecks } from '../src/cli/rush.ts';
import type { Coupon } from '../src/client/index.ts';

suite('rush', () => {
  test('knows an oversold coupon, a slot told twice, and a sold-out that was not true', () => {
    const coupon = (issued: number, stock = 10) =>
      ({ stock, issued, reserved: 0, remaining: stock - issued }) as Coupon;
    const told = (slots: number[], soldOut: number) =>
      ({ slots, issued: slots.length, inactive: { sold_out: soldOut }, unanswered: 0 }) as unknown as Tally;
    const failed = (before: Coupon, after: Coupon, tally: Tally) =>
      winnersChecks(before, after, tally).flatMap(c => (c.ok ? [] : [c.name]));
    assert.deepEqual(failed(coupon(7), coupon(10), told([8, 9, 10], 5)), []);
    assert.deepEqual(failed(coupon(7), coupon(11), told([8, 9, 10, 11], 5)), [
      'never more issued than stock',
      'every slot went to one user',
      'sold out only when it was',
      'as many winners as there must be',
    ]);
    assert.deepEqual(failed(coupon(7), coupon(10), told([8, 9, 9], 5)), ['every slot went to one user']);
    assert.deepEqual(failed(coupon(7), coupon(9), told([8, 9], 5)), [
      'sold out only when it was',
      'as many winners as there must be',
    ]);
    // Others took one too: only what must hold anyway is asked.
    assert.deepEqual(failed(coupon(7), coupon(10), told([8, 10], 5)), []);
    // Told of units that the server gave to nobody, to others before, or did not come to yet.
    const lies = ['every slot went to one user'];
    assert.deepEqual(failed(coupon(0), coupon(0), told([1, 2, 3, 4, 5], 0)), lies);
    assert.deepEqual(failed(coupon(5), coupon(10), told([1, 2, 3, 4, 5], 0)), lies);
    assert.deepEqual(failed(coupon(0), coupon(5), told([1, 3, 5, 7, 9], 0)), lies);
    // Winners of an earlier crowd were stored meanwhile, of a later one are not yet.
    const [before, after] = [
      { ...coupon(2), reserved: 3, remaining: 5 },
      { ...coupon(8), reserved: 1, remaining: 1 },
    ];
    assert.deepEqual(failed(before, after, told([6, 8], 0)), []);
  });

  test('a crowd that was refused says so while units are left, and whatever is left when no refusal is due', () => {
    type States = [before: Coupon['state'], after: Coupon['state']];
    const failed = (remaining: number, refused: Record<string, number>, [was, state]: States = ['open', 'open']) => {
      const [before, after] = [{ state: was }, { remaining, state }] as [Coupon, Coupon];
      const { detail, ok } = pressedCheck(before, after, { refused } as unknown as Tally);
      return ok ? undefined : detail;
    };
    const later = { TOO_MANY_REQUESTS: 250, NOT_ACCEPTED: 3 };
    assert.equal(failed(50, later), '250 TOO_MANY_REQUESTS, 3 NOT_ACCEPTED, with 50 remaining');
    assert.equal(failed(0, later), undefined);
    // Nobody could have had one.
    assert.equal(failed(50, later, ['closed', 'closed']), undefined);
    assert.equal(failed(50, later, ['scheduled', 'scheduled']), undefined);
    assert.match(failed(50, later, ['open', 'closed']) ?? '', /50 remaining/);
    for (const code of ['UNKNOWN_COUPON', 'INTERNAL', 'NOT_DIBS']) assert.equal(failed(0, { [code]: 2 }), `2 ${code}`);
    assert.equal(failed(7, {}), undefined);
  });
});
