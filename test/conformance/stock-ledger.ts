/** What every StockLedger does: each sentence of the port's comments, against the real thing. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { CouponId, RequestKey, UserId } from '../../src/coupon.ts';
import type { Located, SaleChanged, Won } from '../../src/entry.ts';
import type { Applied, ApplyBatch, Place, Snapshot, StockLedger } from '../../src/ports.ts';
import type { Counts, Holder, Phase, SaleChange } from '../../src/sale.ts';

export interface LedgerBench {
  ledger: StockLedger;
  /** The same ledger as another process sees it; the same object where there is only one process. */
  other: StockLedger;
  loseState(partition: number): Promise<void>;
  /** Only where state can be broken from outside. */
  faults?: {
    loseHolders(partition: number, couponId: string): Promise<void>;
    /** Copies all state of the partition; the answer puts it back. */
    save(partition: number): Promise<() => Promise<void>>;
    loseAll(): Promise<void>;
    forgetScripts(): Promise<void>;
  };
  close(): Promise<void>;
}

const identity = 'log-1';
const welcome = 'welcome' as CouponId;
const autumn = 'autumn' as CouponId;
const keyOf = (n: number): RequestKey => n.toString(16).padStart(16, '0') as RequestKey;

const request = (
  offset: number,
  user: string,
  couponId = welcome,
  key = keyOf(offset),
  at = 1_000 + offset,
): Located => ({
  type: 'request',
  couponId,
  userId: user as UserId,
  key,
  offset,
  at,
});
const opened = (offset: number, stock: number, couponId = welcome, opensAt = null as number | null): Located => ({
  type: 'opened',
  couponId,
  stock,
  opensAt,
  closesAt: null,
  offset,
  at: 1_000 + offset,
});
const added = (offset: number, add: number, key: number): Located => ({
  type: 'stock_added',
  couponId: welcome,
  add,
  key: keyOf(key),
  offset,
  at: 1_000 + offset,
});
const closed = (offset: number): Located => ({ type: 'closed', couponId: welcome, offset, at: 1_000 + offset });
const malformed = (offset: number): Located => ({ type: 'malformed', why: 'not JSON', offset, at: 1_000 + offset });

const won = (offset: number, user: string, slot: number, couponId = welcome): Won => ({
  type: 'won',
  couponId,
  userId: user as UserId,
  slot,
  offset,
  key: keyOf(offset),
  at: 1_000 + offset,
});
function sale(offset: number, stock: number, phase: Phase, more: Partial<SaleChanged> = {}): SaleChanged {
  const terms = { stock, opensAt: null, closesAt: null, closed: false, phase, key: null };
  return { type: 'sale', couponId: welcome, offset, at: 1_000 + offset, ...terms, ...more };
}
const change = ({ type: _, couponId: __, ...saleChange }: SaleChanged): SaleChange => saleChange;
const counts = (more: Partial<Counts> = {}): Counts => ({
  duplicated: 0,
  closed: 0,
  not_open: 0,
  sold_out: 0,
  ...more,
});

/** A batch that begins where its entries do, and says all that follows from them. */
function batchOf(entries: Located[], more: Partial<ApplyBatch> = {}): ApplyBatch {
  const from = entries[0]?.offset ?? 0;
  const next = (entries.at(-1)?.offset ?? from - 1) + 1;
  return { from, next, hash: `hash-${next}`, entries, alsoCount: [], ...more };
}

const holder = (slot: number, offset: number): Holder => ({ slot, offset, key: keyOf(offset), at: 1_000 + offset });

function snapshotOf(more: Partial<Snapshot> = {}, holders: { couponId: CouponId; holders: [UserId, Holder][] }[] = []) {
  const frontier = { next: 0, clock: 0, hash: '', strays: { malformed: 0, unknown_coupon: 0 } };
  async function* chunks() {
    yield* holders;
  }
  return { frontier, sales: [], malformed: [], holders: chunks(), ...more } satisfies Snapshot;
}

/** Two of three slots taken, up to offset 10. */
const halfSold = (holders = [holder(1, 4), holder(2, 6)]): Snapshot =>
  snapshotOf(
    {
      frontier: { next: 10, clock: 1_009, hash: 'hash-10', strays: { malformed: 1, unknown_coupon: 2 } },
      sales: [
        { couponId: welcome, taken: 2, counts: counts({ duplicated: 3 }), changes: [change(sale(0, 3, 'open'))] },
        { couponId: autumn, taken: 0, counts: counts(), changes: [change(sale(1, 5, 'open'))] },
      ],
      malformed: [5],
    },
    holders.map((h, i) => ({ couponId: welcome, holders: [[`u${i}` as UserId, h]] })),
  );

export function stockLedgerSuite(name: string, open: () => Promise<LedgerBench>): void {
  describe(`StockLedger: ${name}`, () => {
    let bench: LedgerBench;
    let ledger: StockLedger;
    let partitions = 0;
    before(async () => {
      bench = await open();
      ledger = bench.ledger;
    });
    after(() => bench.close());

    async function rebuilt(snapshot = snapshotOf(), partition = partitions++) {
      const place = await ledger.rebuild(partition, identity, snapshot, undefined);
      assert.equal(place.kind, 'present');
      return { partition, build: (place as Extract<Place, { kind: 'present' }>).build };
    }
    async function apply(at: { partition: number; build: string }, batch: ApplyBatch, by = ledger) {
      const applied = await by.apply(at.partition, at.build, batch);
      assert.equal(applied.kind, 'applied', JSON.stringify(applied));
      return applied as Extract<Applied, { kind: 'applied' }>;
    }
    const changesOf = async (at: { partition: number; build: string }, ...entries: Located[]) =>
      (await apply(at, batchOf(entries))).changes;
    async function present(partition: number) {
      const place = await ledger.place(partition);
      assert.equal(place.kind, 'present');
      return place as Extract<Place, { kind: 'present' }>;
    }

    test('a partition without state is missing, neither zero nor full', async () => {
      const partition = partitions++;
      assert.deepEqual(await ledger.place(partition), { kind: 'missing' });
      assert.deepEqual(await ledger.apply(partition, 'none', batchOf([opened(0, 1)])), { kind: 'missing' });
      assert.equal(await ledger.told(partition, 'none', 0, 0), undefined);
      const query = { couponId: welcome, userId: 'u1' as UserId, offset: 0 };
      assert.deepEqual(await ledger.read(partition, [query, query]), [undefined, undefined]);
      assert.equal((await ledger.sales([{ couponId: welcome, partition }])).size, 0);
    });

    test('a rebuild into nothing makes the snapshot the state; next and told are its next', async () => {
      const { partition, build } = await rebuilt(halfSold());
      assert.deepEqual(await ledger.place(partition), {
        kind: 'present',
        next: 10,
        told: 10,
        clock: 1_009,
        hash: 'hash-10',
        strays: { malformed: 1, unknown_coupon: 2 },
        identity,
        build,
      });
      const queries = [
        { couponId: welcome, userId: 'u1' as UserId, offset: 7 },
        { couponId: welcome, userId: 'other' as UserId, offset: 5 },
        { couponId: autumn, userId: 'u1' as UserId, offset: 8 },
      ];
      const changes = [change(sale(0, 3, 'open'))];
      assert.deepEqual(await ledger.read(partition, queries), [
        { next: 10, holder: holder(2, 6), changes, malformed: false },
        { next: 10, holder: undefined, changes, malformed: true },
        { next: 10, holder: undefined, changes: [change(sale(1, 5, 'open'))], malformed: false },
      ]);
    });

    test('what was rebuilt goes on as if it had been folded', async () => {
      const at = await rebuilt(halfSold());
      const applied = await apply(at, batchOf([request(10, 'u0'), request(11, 'u2'), request(12, 'u3')]));
      assert.deepEqual(applied, {
        kind: 'applied',
        changes: [won(11, 'u2', 3), sale(11, 3, 'sold_out')],
        frontier: {
          next: 13,
          clock: 1_012,
          hash: 'hash-13',
          strays: { malformed: 1, unknown_coupon: 2 },
          counts: { [welcome]: counts({ duplicated: 4, sold_out: 1 }) },
        },
        decided: 3,
      });
    });

    test('a rebuild replaces the build it names, under a new build id', async () => {
      const { partition, build } = await rebuilt();
      const place = await ledger.rebuild(partition, identity, halfSold(), build);
      assert.equal(place.kind, 'present');
      assert.notEqual((place as { build: string }).build, build);
      assert.equal((await present(partition)).next, 10);
      assert.equal((await ledger.apply(partition, build, batchOf([request(10, 'u5')]))).kind, 'damaged');
    });

    test('a rebuild leaves alone what it does not replace, and answers that place', async () => {
      const { partition, build } = await rebuilt();
      for (const replaces of [undefined, 'another']) {
        const place = await bench.other.rebuild(partition, 'log-2', halfSold(), replaces);
        assert.deepEqual(place, await ledger.place(partition));
        assert.equal((place as { build: string }).build, build);
        assert.equal((place as { identity: string }).identity, identity);
      }
    });

    test('a rebuild of a build that is gone by then is made the state: nothing is there', async () => {
      const partition = partitions++;
      const place = await ledger.rebuild(partition, identity, halfSold(), 'gone');
      assert.equal(place.kind, 'present');
      assert.equal((await present(partition)).next, 10);
    });

    test('of two rebuilds that replace the same build one is made the state', async () => {
      const { partition, build } = await rebuilt();
      const [a, b] = await Promise.all([
        ledger.rebuild(partition, identity, halfSold(), build),
        bench.other.rebuild(partition, identity, halfSold(), build),
      ]);
      assert.deepEqual(a, b);
      assert.deepEqual(a, await ledger.place(partition));
      assert.deepEqual(
        (await ledger.read(partition, [{ couponId: welcome, userId: 'u1' as UserId, offset: 7 }]))[0]?.holder,
        holder(2, 6),
      );
    });

    test('a rebuild whose snapshot breaks off changes nothing', async () => {
      const { partition, build } = await rebuilt();
      async function* broken(): Snapshot['holders'] {
        yield { couponId: welcome, holders: [['u0' as UserId, holder(1, 4)]] };
        throw new Error('the store went away');
      }
      await assert.rejects(
        ledger.rebuild(partition, identity, { ...halfSold(), holders: broken() }, build),
        /went away/,
      );
      assert.equal((await present(partition)).build, build);
      assert.equal((await present(partition)).next, 0);
    });

    test('a snapshot with holders of a sale that it lacks is an alarm', async () => {
      const holders = [{ couponId: welcome, holders: [['u0', holder(1, 4)]] as [UserId, Holder][] }];
      await assert.rejects(ledger.rebuild(partitions++, identity, snapshotOf({}, holders), undefined), {
        name: 'Alarm',
      });
    });

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
      assert.deepEqual(await changesOf(at, added(0, 1, 1), closed(1), opened(2, 1), opened(3, 9)), [
        sale(2, 1, 'open'),
      ]);
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
      const gap = await ledger.apply(at.partition, at.build, batchOf([request(2, 'u1')]));
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
      const repeated = await apply(at, batch, bench.other);
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
        [ledger, 3],
        [bench.other, 7],
      ] as const) {
        const all: (Won | SaleChanged)[] = [];
        seen.push(all);
        for (let i = 0; i < entries.length; i += size) {
          const batch = batchOf(entries.slice(i, i + size));
          // Whoever is behind is answered from the record, whoever is ahead decides.
          const other = by === ledger ? bench.other : ledger;
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

    test('told moves to the greater, from a place it covers to one that is decided', async () => {
      const { partition, build } = await rebuilt();
      await apply({ partition, build }, batchOf([opened(0, 1), request(1, 'u1'), request(2, 'u2')]));
      assert.equal(await ledger.told(partition, build, 1, 2), undefined, 'from beyond told');
      assert.equal(await ledger.told(partition, build, 0, 4), undefined, 'next beyond decided');
      assert.equal(await ledger.told(partition, 'another', 0, 2), undefined, 'another build');
      assert.equal((await present(partition)).told, 0);
      assert.equal(await ledger.told(partition, build, 0, 2), 2);
      assert.equal(await ledger.told(partition, build, 0, 1), 2, 'a repeat does not move it back');
      assert.equal(await ledger.told(partition, build, 2, 3), 3);
      assert.equal((await present(partition)).told, 3);
    });

    test('another build than expected is damaged, and nothing is decided', async () => {
      const { partition } = await rebuilt();
      const applied = await ledger.apply(partition, 'another', batchOf([opened(0, 1)]));
      assert.equal(applied.kind, 'damaged');
      assert.equal((await present(partition)).next, 0);
    });

    test('slots taken that differ from the number of holders are damage: nothing is decided, read or shown', async () => {
      const { partition, build } = await rebuilt(halfSold([holder(1, 4)]));
      assert.equal((await ledger.apply(partition, build, batchOf([request(10, 'u9')]))).kind, 'damaged');
      assert.equal(
        (await ledger.apply(partition, build, batchOf([malformed(10)], { alsoCount: [welcome] }))).kind,
        'damaged',
      );
      assert.equal((await present(partition)).next, 10);
      const queries = [welcome, autumn].map(couponId => ({ couponId, userId: 'u0' as UserId, offset: 4 }));
      const [damaged, whole] = await ledger.read(partition, queries);
      assert.equal(damaged, undefined);
      assert.equal(whole?.next, 10);
      const sales = await ledger.sales(queries.map(({ couponId }) => ({ couponId, partition })));
      assert.deepEqual([...sales.keys()], [autumn]);
      // The others of the partition go on.
      await apply({ partition, build }, batchOf([request(10, 'u9', autumn)]));
    });

    test('read answers in the order of the queries, at most a batch of them, and nothing for an unknown coupon', async () => {
      const { partition, build } = await rebuilt();
      await apply(
        { partition, build },
        batchOf([opened(0, 300), ...Array.from({ length: 250 }, (_, i) => request(i + 1, `u${i}`))]),
      );
      const query = (i: number) => ({
        couponId: (i % 2 ? welcome : autumn) as CouponId,
        userId: `u${i}` as UserId,
        offset: i,
      });
      const views = await ledger.read(
        partition,
        Array.from({ length: 500 }, (_, i) => query(i)),
      );
      assert.equal(views.length, 500);
      views.forEach((view, i) => {
        const isHolder = i % 2 === 1 && i < 250;
        assert.deepEqual(view, {
          next: 251,
          holder: isHolder ? holder(i + 1, i + 1) : undefined,
          changes: i % 2 ? [change(sale(0, 300, 'open'))] : [],
          malformed: false,
        });
      });
      assert.deepEqual(await ledger.read(partition, []), []);
      await assert.rejects(
        ledger.read(
          partition,
          Array.from({ length: 501 }, (_, i) => query(i)),
        ),
        /500 queries/,
      );
    });

    test('a view that was read does not change afterwards', async () => {
      const { partition, build } = await rebuilt();
      await apply({ partition, build }, batchOf([opened(0, 1)]));
      const [view] = await ledger.read(partition, [{ couponId: welcome, userId: 'u1' as UserId, offset: 1 }]);
      const sales = await ledger.sales([{ couponId: welcome, partition }]);
      await apply({ partition, build }, batchOf([request(1, 'u1')]));
      assert.equal(view?.changes.length, 1);
      assert.equal(sales.get(welcome)?.changes.length, 1);
    });

    test('sales reads coupons of several partitions and leaves out what has no state; the phase follows the clock', async () => {
      const one = await rebuilt();
      const two = await rebuilt();
      await apply(one, batchOf([opened(0, 1), request(1, 'u1')]));
      await apply(two, batchOf([opened(0, 1, autumn, 1_002), request(1, 'u1', autumn), request(2, 'nobody')]));
      const sales = await ledger.sales([
        { couponId: welcome, partition: one.partition },
        { couponId: autumn, partition: two.partition },
        { couponId: 'unknown' as CouponId, partition: two.partition },
        { couponId: 'elsewhere' as CouponId, partition: partitions++ },
      ]);
      assert.deepEqual(Object.fromEntries(sales), {
        [welcome]: {
          next: 2,
          clock: 1_001,
          taken: 1,
          phase: 'sold_out',
          changes: [change(sale(0, 1, 'open')), change(sale(1, 1, 'sold_out'))],
        },
        [autumn]: {
          next: 3,
          clock: 1_002,
          taken: 0,
          phase: 'open',
          changes: [change(sale(0, 1, 'not_open', { opensAt: 1_002 }))],
        },
      });
    });

    test('places and times of sixteen digits are kept to the digit', async () => {
      const at = await rebuilt();
      const next = 9_007_199_254_740_000;
      const closesAt = 8_640_000_000_000_000;
      const late = closesAt - 1;
      const open = { ...opened(1, 2), closesAt } as Located;
      const win = request(next - 3, 'u1', welcome, keyOf(1), late);
      const batch = batchOf([open, win, { ...malformed(next - 1), at: 1 }], { from: 0 });
      const applied = await apply(at, batch);
      assert.deepEqual(applied.changes, [
        sale(1, 2, 'open', { closesAt }),
        { ...won(next - 3, 'u1', 1), key: keyOf(1), at: late },
      ]);
      assert.deepEqual(await apply(at, batch), { ...applied, decided: 0 });
      const place = await present(at.partition);
      assert.deepEqual([place.next, place.clock], [next, late]);
      assert.equal(await ledger.told(at.partition, at.build, 0, next), next);
      const query = { couponId: welcome, userId: 'u1' as UserId, offset: next - 1 };
      const view = (await ledger.read(at.partition, [query]))[0];
      assert.deepEqual(view?.holder, { slot: 1, offset: next - 3, key: keyOf(1), at: late });
      assert.equal(view?.malformed, true);
      assert.equal(view?.changes[0]?.closesAt, closesAt);
    });

    test('lost state is missing; the rebuild that follows answers the crowd that went on', async () => {
      const { partition, build } = await rebuilt();
      await apply({ partition, build }, batchOf([opened(0, 3), request(1, 'u1')]));
      await bench.loseState(partition);
      assert.deepEqual(await ledger.place(partition), { kind: 'missing' });
      assert.equal((await ledger.apply(partition, build, batchOf([request(2, 'u2')]))).kind, 'missing');
      const place = await ledger.rebuild(partition, identity, halfSold(), build);
      assert.equal(place.kind, 'present');
      assert.deepEqual(await changesOf({ partition, build: (place as { build: string }).build }, request(10, 'u7')), [
        won(10, 'u7', 3),
        sale(10, 3, 'sold_out'),
      ]);
    });

    faultTests();

    function faultTests(): void {
      const withFaults = (title: string, run: (faults: NonNullable<LedgerBench['faults']>) => Promise<void>): void => {
        test(title, async t => {
          if (!bench.faults) return t.skip('its state cannot be broken from outside');
          await run(bench.faults);
        });
      };

      withFaults('lost holders are damage until a rebuild', async faults => {
        const { partition, build } = await rebuilt(halfSold());
        await faults.loseHolders(partition, welcome);
        assert.equal((await ledger.apply(partition, build, batchOf([request(10, 'u9')]))).kind, 'damaged');
        const query = { couponId: welcome, userId: 'u0' as UserId, offset: 4 };
        assert.deepEqual(await ledger.read(partition, [query]), [undefined]);
        const place = await ledger.rebuild(partition, identity, halfSold(), build);
        assert.equal(place.kind, 'present');
        assert.deepEqual((await ledger.read(partition, [query]))[0]?.holder, holder(1, 4));
      });

      withFaults('rolled-back state has smaller places; going back to them is exact', async faults => {
        const at = await rebuilt();
        const entries = [opened(0, 3), ...Array.from({ length: 6 }, (_, i) => request(i + 1, `u${i % 4}`))];
        await apply(at, batchOf(entries.slice(0, 3)));
        await ledger.told(at.partition, at.build, 0, 2);
        const putBack = await faults.save(at.partition);
        const first = await apply(at, batchOf(entries.slice(2)));
        await ledger.told(at.partition, at.build, 0, 7);
        await putBack();
        assert.deepEqual(await ledger.apply(at.partition, at.build, batchOf([request(7, 'u9')])), {
          kind: 'gap',
          next: 3,
          told: 2,
        });
        const again = await apply(at, batchOf(entries.slice(2)));
        assert.deepEqual(again.changes, first.changes);
        assert.deepEqual(again.frontier, first.frontier);
      });

      withFaults('a server emptied in between is missing, and rebuilt goes on', async faults => {
        const { partition, build } = await rebuilt(halfSold());
        await faults.loseAll();
        assert.equal((await ledger.apply(partition, build, batchOf([request(10, 'u9')]))).kind, 'missing');
        await rebuilt(halfSold(), partition);
        assert.equal((await present(partition)).next, 10);
      });

      withFaults('a server that forgot the scripts is taught them again', async faults => {
        const at = await rebuilt(halfSold());
        await faults.forgetScripts();
        assert.deepEqual(await changesOf(at, request(10, 'u9')), [won(10, 'u9', 3), sale(10, 3, 'sold_out')]);
      });
    }

    test('after close, once or twice, nothing hangs', async () => {
      const last = await open();
      await last.ledger.close();
      await last.close();
    });
  });
}
