/**
 * What every StockLedger does: each sentence of the port's comments, against the real thing. What it decides:
 * stock-ledger-decisions.ts. What it does when its state is damaged or lost: stock-ledger-damage.ts.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { CouponId, UserId } from '../../src/coupon.ts';
import type { Located } from '../../src/entry.ts';
import type { Snapshot, StockLedger } from '../../src/ports.ts';
import type { Holder } from '../../src/sale.ts';
import { k as keyOf } from '../support/entries.ts';
import { type LedgerCalls, ledgerCalls } from '../support/ledger-calls.ts';
import {
  autumn,
  batchOf,
  change,
  counts,
  halfSold,
  holder,
  identity,
  malformed,
  opened,
  request,
  sale,
  snapshotOf,
  welcome,
  won,
} from '../support/ledger-entries.ts';
import { ledgerDamage } from './stock-ledger-damage.ts';
import { ledgerDecisions } from './stock-ledger-decisions.ts';

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

export function stockLedgerSuite(name: string, open: () => Promise<LedgerBench>): void {
  describe(`StockLedger: ${name}`, () => {
    let bench: LedgerBench;
    before(async () => {
      bench = await open();
    });
    after(() => bench.close());

    const calls = ledgerCalls(() => bench);
    rebuilds(calls);
    ledgerDecisions(calls);
    tells(calls);
    reads(calls);
    ledgerDamage(calls);

    test('after close, once or twice, nothing hangs', async () => {
      const last = await open();
      await last.ledger.close();
      await last.close();
    });
  });
}

function rebuilds({ bench, ledger, nextPartition, rebuilt, apply, present }: LedgerCalls): void {
  test('a partition without state is missing, neither zero nor full', async () => {
    const partition = nextPartition();
    assert.deepEqual(await ledger().place(partition), { kind: 'missing' });
    assert.deepEqual(await ledger().apply(partition, 'none', batchOf([opened(0, 1)])), { kind: 'missing' });
    assert.equal(await ledger().told(partition, 'none', 0, 0), undefined);
    const query = { couponId: welcome, userId: 'u1' as UserId, offset: 0 };
    assert.deepEqual(await ledger().read(partition, [query, query]), [undefined, undefined]);
    assert.equal((await ledger().sales([{ couponId: welcome, partition }])).size, 0);
  });

  test('two winners of one slot, of which one is set aside, are each who they are', async () => {
    const mine = holder(1, 4);
    const { partition } = await rebuilt(halfSold(['u0', 'u1'], [mine, { ...mine, offset: 6, at: 7 }]));
    const queries = ['u0', 'u1'].map(userId => ({ couponId: welcome, userId: userId as UserId, offset: 9 }));
    const views = await ledger().read(partition, queries);
    assert.deepEqual(
      views.map(view => view?.holder),
      [mine, { ...mine, offset: 6, at: 7 }],
    );
  });

  test('a rebuild into nothing makes the snapshot the state; next and told are its next', async () => {
    const { partition, build } = await rebuilt(halfSold());
    assert.deepEqual(await ledger().place(partition), {
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
    assert.deepEqual(await ledger().read(partition, queries), [
      { next: 10, clock: 1_009, holder: holder(2, 6), changes, malformed: false },
      { next: 10, clock: 1_009, holder: undefined, changes, malformed: true },
      { next: 10, clock: 1_009, holder: undefined, changes: [change(sale(1, 5, 'open'))], malformed: false },
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
    const place = await ledger().rebuild(partition, identity, halfSold(), build);
    assert.equal(place.kind, 'present');
    assert.notEqual((place as { build: string }).build, build);
    assert.equal((await present(partition)).next, 10);
    assert.equal((await ledger().apply(partition, build, batchOf([request(10, 'u5')]))).kind, 'damaged');
  });

  test('a rebuild leaves alone what it does not replace, and answers that place', async () => {
    const { partition, build } = await rebuilt();
    for (const replaces of [undefined, 'another']) {
      const place = await bench().other.rebuild(partition, 'log-2', halfSold(), replaces);
      assert.deepEqual(place, await ledger().place(partition));
      assert.equal((place as { build: string }).build, build);
      assert.equal((place as { identity: string }).identity, identity);
    }
  });

  test('a rebuild of a build that is gone by then is made the state: nothing is there', async () => {
    const partition = nextPartition();
    const place = await ledger().rebuild(partition, identity, halfSold(), 'gone');
    assert.equal(place.kind, 'present');
    assert.equal((await present(partition)).next, 10);
  });

  test('of two rebuilds that replace the same build one is made the state', async () => {
    const { partition, build } = await rebuilt();
    const [a, b] = await Promise.all([
      ledger().rebuild(partition, identity, halfSold(), build),
      bench().other.rebuild(partition, identity, halfSold(), build),
    ]);
    assert.deepEqual(a, b);
    assert.deepEqual(a, await ledger().place(partition));
    assert.deepEqual(
      (await ledger().read(partition, [{ couponId: welcome, userId: 'u1' as UserId, offset: 7 }]))[0]?.holder,
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
      ledger().rebuild(partition, identity, { ...halfSold(), holders: broken() }, build),
      /went away/,
    );
    assert.equal((await present(partition)).build, build);
    assert.equal((await present(partition)).next, 0);
  });

  test('a snapshot with holders of a sale that it lacks is an alarm', async () => {
    const holders = [{ couponId: welcome, holders: [['u0', holder(1, 4)]] as [UserId, Holder][] }];
    await assert.rejects(ledger().rebuild(nextPartition(), identity, snapshotOf({}, holders), undefined), {
      name: 'Alarm',
    });
  });
}

function tells({ ledger, rebuilt, apply, present }: LedgerCalls): void {
  test('told moves to the greater, from a place it covers to one that is decided', async () => {
    const { partition, build } = await rebuilt();
    await apply({ partition, build }, batchOf([opened(0, 1), request(1, 'u1'), request(2, 'u2')]));
    assert.equal(await ledger().told(partition, build, 1, 2), undefined, 'from beyond told');
    assert.equal(await ledger().told(partition, build, 0, 4), undefined, 'next beyond decided');
    assert.equal(await ledger().told(partition, 'another', 0, 2), undefined, 'another build');
    assert.equal((await present(partition)).told, 0);
    assert.equal(await ledger().told(partition, build, 0, 2), 2);
    assert.equal(await ledger().told(partition, build, 0, 1), 2, 'a repeat does not move it back');
    assert.equal(await ledger().told(partition, build, 2, 3), 3);
    assert.equal((await present(partition)).told, 3);
  });
}

function reads({ ledger, nextPartition, rebuilt, apply, present }: LedgerCalls): void {
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
    const views = await ledger().read(
      partition,
      Array.from({ length: 500 }, (_, i) => query(i)),
    );
    assert.equal(views.length, 500);
    views.forEach((view, i) => {
      const isHolder = i % 2 === 1 && i < 250;
      assert.deepEqual(view, {
        next: 251,
        clock: 1_250,
        holder: isHolder ? holder(i + 1, i + 1) : undefined,
        changes: i % 2 ? [change(sale(0, 300, 'open'))] : [],
        malformed: false,
      });
    });
    assert.deepEqual(await ledger().read(partition, []), []);
    await assert.rejects(
      ledger().read(
        partition,
        Array.from({ length: 501 }, (_, i) => query(i)),
      ),
      /500 queries/,
    );
  });

  test('a view that was read does not change afterwards', async () => {
    const { partition, build } = await rebuilt();
    await apply({ partition, build }, batchOf([opened(0, 1)]));
    const [view] = await ledger().read(partition, [{ couponId: welcome, userId: 'u1' as UserId, offset: 1 }]);
    const sales = await ledger().sales([{ couponId: welcome, partition }]);
    await apply({ partition, build }, batchOf([request(1, 'u1')]));
    assert.equal(view?.changes.length, 1);
    assert.equal(sales.get(welcome)?.changes.length, 1);
  });

  test('sales reads coupons of several partitions and leaves out what has no state; the phase follows the clock', async () => {
    const one = await rebuilt();
    const two = await rebuilt();
    await apply(one, batchOf([opened(0, 1), request(1, 'u1')]));
    await apply(two, batchOf([opened(0, 1, autumn, 1_002), request(1, 'u1', autumn), request(2, 'nobody')]));
    const sales = await ledger().sales([
      { couponId: welcome, partition: one.partition },
      { couponId: autumn, partition: two.partition },
      { couponId: 'unknown' as CouponId, partition: two.partition },
      { couponId: 'elsewhere' as CouponId, partition: nextPartition() },
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
    assert.equal(await ledger().told(at.partition, at.build, 0, next), next);
    const query = { couponId: welcome, userId: 'u1' as UserId, offset: next - 1 };
    const view = (await ledger().read(at.partition, [query]))[0];
    assert.deepEqual(view?.holder, { slot: 1, offset: next - 3, key: keyOf(1), at: late });
    assert.equal(view?.malformed, true);
    assert.equal(view?.changes[0]?.closesAt, closesAt);
  });
}
