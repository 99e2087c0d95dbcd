/** What every StockLedger does when its state is not what it was: nothing is decided from it, and a rebuild mends it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { UserId } from '../../src/coupon.ts';
import type { LedgerCalls } from '../support/ledger-calls.ts';
import {
  autumn,
  batchOf,
  halfSold,
  holder,
  identity,
  malformed,
  opened,
  request,
  sale,
  welcome,
  won,
} from '../support/ledger-entries.ts';
import type { LedgerBench } from './stock-ledger.ts';

export function ledgerDamage(calls: LedgerCalls): void {
  const { bench, ledger, rebuilt, apply, changesOf, present } = calls;

  test('another build than expected is damaged, and nothing is decided', async () => {
    const { partition } = await rebuilt();
    const applied = await ledger().apply(partition, 'another', batchOf([opened(0, 1)]));
    assert.equal(applied.kind, 'damaged');
    assert.equal((await present(partition)).next, 0);
  });

  test('slots taken that differ from the number of holders are damage: nothing is decided, read or shown', async () => {
    const { partition, build } = await rebuilt(halfSold(['u0', 'u0']));
    assert.equal((await ledger().apply(partition, build, batchOf([request(10, 'u9')]))).kind, 'damaged');
    assert.equal(
      (await ledger().apply(partition, build, batchOf([malformed(10)], { alsoCount: [welcome] }))).kind,
      'damaged',
    );
    assert.equal((await present(partition)).next, 10);
    const queries = [welcome, autumn].map(couponId => ({ couponId, userId: 'u0' as UserId, offset: 4 }));
    const [damaged, whole] = await ledger().read(partition, queries);
    assert.equal(damaged, undefined);
    assert.equal(whole?.next, 10);
    const sales = await ledger().sales(queries.map(({ couponId }) => ({ couponId, partition })));
    assert.deepEqual([...sales.keys()], [autumn]);
    // The others of the partition go on.
    await apply({ partition, build }, batchOf([request(10, 'u9', autumn)]));
  });

  test('lost state is missing; the rebuild that follows answers the crowd that went on', async () => {
    const { partition, build } = await rebuilt();
    await apply({ partition, build }, batchOf([opened(0, 3), request(1, 'u1')]));
    await bench().loseState(partition);
    assert.deepEqual(await ledger().place(partition), { kind: 'missing' });
    assert.equal((await ledger().apply(partition, build, batchOf([request(2, 'u2')]))).kind, 'missing');
    const place = await ledger().rebuild(partition, identity, halfSold(), build);
    assert.equal(place.kind, 'present');
    assert.deepEqual(await changesOf({ partition, build: (place as { build: string }).build }, request(10, 'u7')), [
      won(10, 'u7', 3),
      sale(10, 3, 'sold_out'),
    ]);
  });

  breaks(calls);
}

/** Only where state can be broken from outside. */
function breaks({ bench, ledger, rebuilt, apply, changesOf, present }: LedgerCalls): void {
  const withFaults = (title: string, run: (faults: NonNullable<LedgerBench['faults']>) => Promise<void>): void => {
    test(title, async t => {
      const { faults } = bench();
      if (!faults) return t.skip('its state cannot be broken from outside');
      await run(faults);
    });
  };

  withFaults('lost holders are damage until a rebuild', async faults => {
    const { partition, build } = await rebuilt(halfSold());
    await faults.loseHolders(partition, welcome);
    assert.equal((await ledger().apply(partition, build, batchOf([request(10, 'u9')]))).kind, 'damaged');
    const query = { couponId: welcome, userId: 'u0' as UserId, offset: 4 };
    assert.deepEqual(await ledger().read(partition, [query]), [undefined]);
    const place = await ledger().rebuild(partition, identity, halfSold(), build);
    assert.equal(place.kind, 'present');
    assert.deepEqual((await ledger().read(partition, [query]))[0]?.holder, holder(1, 4));
  });

  withFaults('rolled-back state has smaller places; going back to them is exact', async faults => {
    const at = await rebuilt();
    const entries = [opened(0, 3), ...Array.from({ length: 6 }, (_, i) => request(i + 1, `u${i % 4}`))];
    await apply(at, batchOf(entries.slice(0, 3)));
    await ledger().told(at.partition, at.build, 0, 2);
    const putBack = await faults.save(at.partition);
    const first = await apply(at, batchOf(entries.slice(2)));
    await ledger().told(at.partition, at.build, 0, 7);
    await putBack();
    assert.deepEqual(await ledger().apply(at.partition, at.build, batchOf([request(7, 'u9')])), {
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
    assert.equal((await ledger().apply(partition, build, batchOf([request(10, 'u9')]))).kind, 'missing');
    await rebuilt(halfSold(), partition);
    assert.equal((await present(partition)).next, 10);
  });

  withFaults('a server that forgot the scripts is taught them again', async faults => {
    const at = await rebuilt(halfSold());
    await faults.forgetScripts();
    assert.deepEqual(await changesOf(at, request(10, 'u9')), [won(10, 'u9', 3), sale(10, 3, 'sold_out')]);
  });
}
