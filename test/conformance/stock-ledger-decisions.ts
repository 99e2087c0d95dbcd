/** What every StockLedger decides, once, whoever asks and however often. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Located, SaleChanged, Won } from '../../src/entry.ts';
import type { Counts } from '../../src/sale.ts';
import { k as keyOf } from '../support/entries.ts';
import type { LedgerCalls } from '../support/ledger-calls.ts';
import {
  added,
  autumn,
  batchOf,
  closed,
  counts,
  malformed,
  opened,
  request,
  sale,
  welcome,
  won,
} from '../support/ledger-entries.ts';

export function ledgerDecisions({ bench, ledger, rebuilt, apply, changesOf, present }: LedgerCalls): void {
  test('the first users win, in order, each once; the last slot ends the sale at its own offset', async () => {
    const at = await rebuilt();
    assert.deepEqual(
      await changesOf(at, opened(0, 2), request(1, 'u1'), request(2, 'u1'), request(3, 'u2'), request(4, 'u3')),
      [sale(0, 2, 'open'), won(1, 'u1', 1), won(3, 'u2', 2), sale(3, 2, 'sold_out')],
    );
  });

  test('precedence: malformed, unknown coupon, duplicated, closed, not open, sold out, won', async () => {
    const at = await rebuilt();
    const opensAt = 1_010;
    const steps: [Located, Partial<Counts> & { malformed?: number; unknown_coupon?: number }][] = [
      [malformed(0), { malformed: 1 }],
      [request(1, 'u1'), { unknown_coupon: 1 }],
      [{ ...opened(2, 1), opensAt } as Located, {}],
      [request(3, 'u1'), { not_open: 1 }],
      [request(10, 'u1'), {}],
      [request(11, 'u1'), { duplicated: 1 }],
      [request(12, 'u2'), { sold_out: 1 }],
      [closed(13), {}],
      [request(14, 'u1'), { duplicated: 1 }],
      [request(15, 'u2'), { closed: 1 }],
      [malformed(16), { malformed: 1 }],
    ];
    const expected = { ...counts(), malformed: 0, unknown_coupon: 0 };
    let from = 0;
    for (const [entry, step] of steps) {
      const applied = await apply(at, batchOf([entry], { from, alsoCount: [welcome] }));
      for (const [reason, n] of Object.entries(step)) expected[reason as keyof typeof expected] += n as number;
      const { strays, counts: byCoupon } = applied.frontier as NonNullable<typeof applied.frontier>;
      assert.deepEqual({ ...counts(), ...byCoupon[welcome], ...strays }, expected, `at ${entry.offset}`);
      from = entry.offset + 1;
    }
  });

  test('a sale closed by its window beats not open and sold out; phases begin at the first entry decided in them', async () => {
    const at = await rebuilt();
    const window = { opensAt: 2_000, closesAt: 3_000 };
    const open = { ...opened(0, 1), ...window } as Located;
    const entries = [open, request(1, 'u1', welcome, keyOf(1), 2_500), request(2, 'u2', welcome, keyOf(2), 1_500)];
    assert.deepEqual(await changesOf(at, ...entries, request(3, 'u3', welcome, keyOf(3), 3_000)), [
      sale(0, 1, 'not_open', window),
      { ...won(1, 'u1', 1), at: 2_500 },
      sale(1, 1, 'sold_out', { ...window, at: 2_500 }),
      sale(3, 1, 'closed', { ...window, at: 3_000 }),
    ]);
    assert.equal((await present(at.partition)).clock, 3_000);
  });

  test('the clock never steps back', async () => {
    const at = await rebuilt();
    const applied = await apply(at, batchOf([opened(0, 1), request(1, 'u1', welcome, keyOf(1), 5)]));
    assert.equal(applied.frontier?.clock, 1_000);
  });

  test('stock: an add counts once a key, reopens a sold-out sale, and not a closed one', async () => {
    const at = await rebuilt();
    assert.deepEqual(
      await changesOf(at, opened(0, 1), request(1, 'u1'), added(2, 2, 77), added(3, 2, 77), request(4, 'u2')),
      [
        sale(0, 1, 'open'),
        won(1, 'u1', 1),
        sale(1, 1, 'sold_out'),
        sale(2, 3, 'open', { key: keyOf(77) }),
        won(4, 'u2', 2),
      ],
    );
    assert.deepEqual(
      await changesOf(at, added(5, 2, 77), added(6, 10_000_000, 78), closed(7), closed(8), added(9, 1, 79)),
      [sale(7, 3, 'closed', { closed: true })],
    );
  });

  test('opening again, and stock or close of an unknown coupon, change nothing', async () => {
    const at = await rebuilt();
    assert.deepEqual(await changesOf(at, added(0, 1, 1), closed(1), opened(2, 1), opened(3, 9)), [sale(2, 1, 'open')]);
    const { strays } = await present(at.partition);
    assert.deepEqual(strays, { malformed: 0, unknown_coupon: 0 });
  });

  test('coupons of one partition do not touch each other', async () => {
    const at = await rebuilt();
    const applied = await apply(
      at,
      batchOf([opened(0, 1), opened(1, 1, autumn), request(2, 'u1', autumn), request(3, 'u1'), request(4, 'u2')]),
    );
    assert.deepEqual(
      applied.changes.filter(c => c.type === 'won'),
      [won(2, 'u1', 1, autumn), won(3, 'u1', 1)],
    );
    assert.deepEqual(applied.frontier?.counts, { [welcome]: counts({ sold_out: 1 }), [autumn]: counts() });
  });

  test('beyond its next is a gap, which names both places and changes nothing', async () => {
    const at = await rebuilt();
    await apply(at, batchOf([opened(0, 1)]));
    const gap = await ledger().apply(at.partition, at.build, batchOf([request(2, 'u1')]));
    assert.deepEqual(gap, { kind: 'gap', next: 1, told: 0 });
    assert.equal((await present(at.partition)).next, 1);
  });

  test('a batch without entries moves next: the log has offsets that hold none for us', async () => {
    const at = await rebuilt();
    const applied = await apply(at, { from: 0, next: 7, hash: 'h7', entries: [], alsoCount: [welcome] });
    assert.deepEqual(applied.changes, []);
    assert.deepEqual(applied.frontier, {
      next: 7,
      clock: 0,
      hash: 'h7',
      strays: { malformed: 0, unknown_coupon: 0 },
      counts: {},
    });
  });

  test('a crash between deciding and telling: the same batch again gives the same changes, none decided', async () => {
    const at = await rebuilt();
    const batch = batchOf([
      opened(0, 2),
      request(1, 'u1'),
      malformed(2),
      request(3, 'u1'),
      request(4, 'nobody', autumn),
      request(5, 'u2'),
      request(6, 'u3'),
      added(7, 1, 9),
      request(8, 'u3'),
    ]);
    const first = await apply(at, batch);
    const repeated = await apply(at, batch, bench().other);
    assert.deepEqual(repeated, { ...first, decided: 0 });
    assert.equal(first.decided, 9);
    assert.deepEqual(await apply(at, batch), repeated);
  });

  test('a batch that straddles next is answered from the record up to there and decided beyond', async () => {
    const at = await rebuilt();
    const entries = [opened(0, 2), request(1, 'u1'), request(2, 'u2'), request(3, 'u2'), request(4, 'u3')];
    await apply(at, batchOf(entries.slice(0, 2)));
    const applied = await apply(at, batchOf(entries));
    assert.deepEqual(applied.changes, [sale(0, 2, 'open'), won(1, 'u1', 1), won(2, 'u2', 2), sale(2, 2, 'sold_out')]);
    assert.equal(applied.decided, 3);
    assert.deepEqual(applied.frontier?.counts[welcome], counts({ duplicated: 1, sold_out: 1 }));
  });

  test('below its next the frontier is null, and the record still answers', async () => {
    const at = await rebuilt();
    await apply(at, batchOf([opened(0, 1), request(1, 'u1'), request(2, 'u2')]));
    const applied = await apply(at, batchOf([opened(0, 1), request(1, 'u1')]));
    assert.deepEqual(applied, {
      kind: 'applied',
      changes: [sale(0, 1, 'open'), won(1, 'u1', 1), sale(1, 1, 'sold_out')],
      frontier: null,
      decided: 0,
    });
    assert.equal((await present(at.partition)).hash, 'hash-3');
  });

  test('two owners that interleave see the same changes for the same offsets', async () => {
    const at = await rebuilt();
    const entries = [opened(0, 20), ...Array.from({ length: 40 }, (_, i) => request(i + 1, `u${i % 25}`))];
    const seen: (Won | SaleChanged)[][] = [];
    for (const [by, size] of [
      [ledger(), 3],
      [bench().other, 7],
    ] as const) {
      const all: (Won | SaleChanged)[] = [];
      seen.push(all);
      for (let i = 0; i < entries.length; i += size) {
        const batch = batchOf(entries.slice(i, i + size));
        // Whoever is behind is answered from the record, whoever is ahead decides.
        const other = by === ledger() ? bench().other : ledger();
        await Promise.all([
          other.apply(at.partition, at.build, batch),
          apply(at, batch, by).then(a => all.push(...a.changes)),
        ]);
      }
    }
    assert.deepEqual(seen[0], seen[1]);
    assert.equal(seen[0]?.filter(c => c.type === 'won').length, 20);
  });

  test('alsoCount names totals of coupons that the batch does not touch', async () => {
    const at = await rebuilt();
    await apply(at, batchOf([opened(0, 1), opened(1, 1, autumn), request(2, 'u1'), request(3, 'u1')]));
    const applied = await apply(at, batchOf([request(4, 'u1', autumn)], { alsoCount: [welcome, 'unknown'] }));
    assert.deepEqual(applied.frontier?.counts, { [welcome]: counts({ duplicated: 1 }), [autumn]: counts() });
  });
}
