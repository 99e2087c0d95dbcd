import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  type Change,
  changeLog,
  decodeChange,
  decodeEntry,
  type Entry,
  encodeChange,
  encodeEntry,
  encodeRequest,
  entryHash,
  type LogEntry,
  logNames,
} from '../src/entry.ts';
import { Alarm } from '../src/errors.ts';
import { stockMax } from '../src/limits.ts';
import { c, k, u } from './support/entries.ts';

const at = (text: string, offset = 7): LogEntry => ({ offset, at: 1_234, text });
const of = (value: unknown): LogEntry => at(JSON.stringify(value));

// --- arbitraries --------------------------------------------------------------------------------------------------

const textOf = (alphabet: string) =>
  fc.array(fc.constantFrom(...alphabet.split('')), { minLength: 1, maxLength: 64 }).map(letters => letters.join(''));
const lower = 'abcdefghijklmnopqrstuvwxyz0123456789';
const couponId = textOf(`${lower}-`).map(c);
const userId = textOf(`${lower}ABCXYZ._:@-`).map(u);
const key = fc
  .bigInt({ min: 0n, max: 2n ** 64n - 1n })
  .map(n => n.toString(16).padStart(16, '0') as ReturnType<typeof k>);
const place = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const time = fc.nat({ max: 8.64e15 });
const maybeTime = fc.option(time);
const stock = fc.nat({ max: stockMax });

const entry: fc.Arbitrary<Exclude<Entry, { type: 'malformed' }>> = fc.oneof(
  fc.record({ type: fc.constant('request' as const), couponId, userId, key }),
  fc.record({ type: fc.constant('opened' as const), couponId, stock, opensAt: maybeTime, closesAt: maybeTime }),
  fc.record({
    type: fc.constant('stock_added' as const),
    couponId,
    add: fc.integer({ min: 1, max: stockMax }),
    key,
  }),
  fc.record({ type: fc.constant('closed' as const), couponId }),
);

const counts = fc.record({ duplicated: place, closed: place, not_open: place, sold_out: place });
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({
    type: fc.constant('won' as const),
    couponId,
    userId,
    slot: fc.integer({ min: 1, max: stockMax }),
    offset: place,
    key,
    at: time,
  }),
  fc.record({
    type: fc.constant('sale' as const),
    couponId,
    offset: place,
    at: time,
    stock,
    opensAt: maybeTime,
    closesAt: maybeTime,
    closed: fc.boolean(),
    phase: fc.constantFrom('not_open' as const, 'open' as const, 'sold_out' as const, 'closed' as const),
    key: fc.option(key),
  }),
  fc.record({
    type: fc.constant('refused' as const),
    offset: place,
    at: time,
    reason: fc.constant('malformed' as const),
    why: fc.string(),
    bytes: fc.string(),
  }),
  fc.record({
    type: fc.constant('mark' as const),
    from: place,
    next: place,
    clock: time,
    hash: fc.string(),
    counts: fc.dictionary(couponId, counts, { noNullPrototype: true }),
    strays: fc.record({ malformed: place, unknown_coupon: place }),
  }),
);

suite('round trips', () => {
  test('every entry comes back as it was, at its place', () => {
    fc.assert(
      fc.property(entry, e => {
        assert.deepEqual(decodeEntry(at(encodeEntry(e))), { ...e, offset: 7, at: 1_234 });
      }),
    );
  });
  test('every change comes back as it was, with its version beside it', () => {
    fc.assert(
      fc.property(change, ch => {
        // fast-check's records have no prototype.
        assert.deepEqual(decodeChange(at(encodeChange(ch))), { v: 1, ...structuredClone(ch) });
      }),
    );
  });
  test('the fast writer of requests and the general one agree', () => {
    assert.deepEqual(JSON.parse(encodeRequest(c('a'), u('b'), k(3))), {
      v: 1,
      type: 'request',
      couponId: 'a',
      userId: 'b',
      key: '0000000000000003',
    });
  });
});

const request = { v: 1, type: 'request', couponId: 'a', userId: 'u', key: '0000000000000001' };
const open = { v: 1, type: 'opened', couponId: 'a', stock: 1, opensAt: null, closesAt: null };
const add = { v: 1, type: 'stock_added', couponId: 'a', add: 1, key: '0000000000000001' };

suite('bytes that break their own version are malformed, with the reason', () => {
  const table: [LogEntry, string][] = [
    [at(''), 'not JSON'],
    [at('{"v":1'), 'not JSON'],
    [at('null'), 'not an object'],
    [at('[1]'), 'not an object'],
    [at('"text"'), 'not an object'],
    [at('17'), 'not an object'],
    [of({}), 'no version'],
    [of({ ...request, v: 0 }), 'no version'],
    [of({ ...request, v: -1 }), 'no version'],
    [of({ ...request, v: 1.5 }), 'no version'],
    [of({ ...request, v: '1' }), 'no version'],
    [of({ ...request, v: null }), 'no version'],
    [of({ ...request, couponId: undefined }), 'bad couponId'],
    [of({ ...request, couponId: 'A' }), 'bad couponId'],
    [of({ ...request, couponId: '' }), 'bad couponId'],
    [of({ ...request, couponId: 'a'.repeat(65) }), 'bad couponId'],
    [of({ ...request, couponId: ['a'] }), 'bad couponId'],
    [of({ ...request, userId: 'with space' }), 'bad userId'],
    [of({ ...request, userId: 'new\nline' }), 'bad userId'],
    [of({ ...request, userId: 'line\n' }), 'bad userId'],
    [of({ ...request, userId: 'u'.repeat(65) }), 'bad userId'],
    [of({ ...request, userId: 5 }), 'bad userId'],
    [of({ ...request, key: '1' }), 'bad key'],
    [of({ ...request, key: '000000000000000G' }), 'bad key'],
    [of({ ...request, key: undefined }), 'bad key'],
    [of({ ...request, type: 'constructor' }), 'unknown type'],
    [of({ ...request, type: undefined }), 'unknown type'],
    [of({ ...open, stock: -1 }), 'bad stock'],
    [of({ ...open, stock: 1.5 }), 'bad stock'],
    [of({ ...open, stock: stockMax + 1 }), 'bad stock'],
    [of({ ...open, stock: '1' }), 'bad stock'],
    [of({ ...open, opensAt: -1 }), 'bad time'],
    [of({ ...open, closesAt: 8.64e15 + 1 }), 'bad time'],
    [of({ ...open, opensAt: undefined }), 'bad time'],
    [of({ ...add, add: 0 }), 'bad add'],
    [of({ ...add, add: -1 }), 'bad add'],
    [of({ ...add, key: null }), 'bad key'],
    [{ offset: 7, at: 1_234, text: encodeRequest(c('a'), u('u'), k(1)), bytes: new Uint8Array([0xff]) }, 'not UTF-8'],
  ];
  for (const [e, why] of table) {
    test(`${why}: ${e.text.slice(0, 60)}`, () => {
      assert.deepEqual(decodeEntry(e), { type: 'malformed', why, offset: 7, at: 1_234 });
    });
  }
  test('fields that this version does not name are ignored', () => {
    assert.equal(decodeEntry(of({ ...request, more: 1 })).type, 'request');
  });
  test('no text makes decodeEntry throw anything but an alarm', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), text => {
        try {
          assert.ok(decodeEntry(at(text)).offset === 7);
        } catch (error) {
          assert.ok(error instanceof Alarm);
        }
      }),
    );
  });
});

suite('a version that this build does not know stops whoever meets it', () => {
  for (const [name, decode] of [
    ['decodeEntry', decodeEntry],
    ['decodeChange', decodeChange],
  ] as const) {
    test(name, () => {
      assert.throws(
        () => decode(of({ ...request, v: 2 })),
        (error: Error) => {
          assert.ok(error instanceof Alarm);
          assert.match(error.message, /entry 7 has version 2, this build knows 1: run a newer build/);
          return true;
        },
      );
      // Whatever else is in it: a newer version may mean anything.
      assert.throws(() => decode(of({ v: 3 })), Alarm);
    });
  }
});

suite('bytes that are no change give the reason', () => {
  const won = { v: 1, type: 'won', couponId: 'a', userId: 'u', slot: 1, offset: 4, key: '0000000000000001', at: 5 };
  const sale = { ...open, type: 'sale', offset: 1, at: 2, closed: false, phase: 'open', key: null };
  const mark = {
    v: 1,
    type: 'mark',
    from: 0,
    next: 1,
    clock: 2,
    hash: '',
    counts: {},
    strays: { malformed: 0, unknown_coupon: 0 },
  };
  const table: [unknown, string][] = [
    [{ v: 1, type: 'request' }, 'unknown type'],
    [{ ...won, slot: -1 }, 'bad won'],
    [{ ...won, userId: 'a b' }, 'bad won'],
    [{ ...won, offset: 1.5 }, 'bad won'],
    [{ ...won, key: 'x' }, 'bad won'],
    [{ ...sale, phase: 'paused' }, 'bad sale'],
    [{ ...sale, closed: 0 }, 'bad sale'],
    [{ ...sale, stock: -1 }, 'bad sale'],
    [{ ...sale, key: 'x' }, 'bad sale'],
    [{ v: 1, type: 'refused', offset: 1, at: 1, why: '' }, 'bad refused'],
    [{ ...mark, from: -1 }, 'bad mark'],
    [{ ...mark, next: '1' }, 'bad mark'],
    [{ ...mark, counts: null }, 'bad mark'],
    [{ ...mark, hash: 1 }, 'bad mark'],
    [{ ...mark, hash: 'a\0' }, 'bad mark'],
    [{ ...mark, counts: { a: null } }, 'bad mark'],
    [{ ...mark, counts: { 'a\u0000b': { duplicated: 1, closed: 0, not_open: 0, sold_out: 0 } } }, 'bad mark'],
    [{ ...mark, counts: { a: { duplicated: 1, closed: 0, not_open: 0 } } }, 'bad mark'],
    [{ ...mark, strays: {} }, 'bad mark'],
    [{ v: 1, type: 'refused', offset: 1, at: 1, why: '\ud800', bytes: '' }, 'bad refused'],
    ['text', 'not an object'],
    [{}, 'no version'],
  ];
  for (const [value, why] of table) {
    test(`${why}: ${JSON.stringify(value).slice(0, 80)}`, () => assert.equal(decodeChange(of(value)), why));
  }
  test('the table begins with what is right', () => {
    for (const value of [won, sale, mark]) assert.equal(typeof decodeChange(of(value)), 'object');
  });
});

suite('entryHash', () => {
  const bytes = (...b: number[]): LogEntry => ({ offset: 7, at: 1_234, text: '', bytes: Uint8Array.from(b) });
  test('is 16 hex digits, and the same for the same entry', () => {
    assert.match(entryHash(at('x')), /^[0-9a-f]{16}$/);
    assert.equal(entryHash(at('x')), entryHash(at('x')));
  });
  test('differs by place, time, text and bytes', () => {
    const all = [at('x'), at('y'), at('x', 8), { ...at('x'), at: 1_235 }, bytes(0xff), bytes(0xfe), bytes(0xff, 0xfe)];
    assert.equal(new Set(all.map(entryHash)).size, all.length);
  });
});

test("the logs have the brief's names", () => {
  assert.deepEqual(logNames, [
    'coupon-issued',
    'coupon-issued-success',
    'coupon-issued-dead-letters',
    'coupon-issued-success-dead-letters',
  ]);
  assert.equal(changeLog, 'coupon-issued-success');
});
