/** Calls of a ledger that must succeed, on partitions that nobody else has. */
import assert from 'node:assert/strict';
import type { Located } from '../../src/entry.ts';
import type { Applied, ApplyBatch, Place } from '../../src/ports.ts';
import type { LedgerBench } from '../conformance/stock-ledger.ts';
import { batchOf, identity, snapshotOf } from './ledger-entries.ts';

export interface Built {
  partition: number;
  build: string;
}

/** `bench` is there once the suite runs. */
export function ledgerCalls(bench: () => LedgerBench) {
  let partitions = 0;
  const ledger = () => bench().ledger;
  const nextPartition = () => partitions++;

  async function rebuilt(snapshot = snapshotOf(), partition = nextPartition()): Promise<Built> {
    const place = await ledger().rebuild(partition, identity, snapshot, undefined);
    assert.equal(place.kind, 'present');
    return { partition, build: (place as Extract<Place, { kind: 'present' }>).build };
  }
  async function apply(at: Built, batch: ApplyBatch, by = ledger()) {
    const applied = await by.apply(at.partition, at.build, batch);
    assert.equal(applied.kind, 'applied', JSON.stringify(applied));
    return applied as Extract<Applied, { kind: 'applied' }>;
  }
  const changesOf = async (at: Built, ...entries: Located[]) => (await apply(at, batchOf(entries))).changes;
  async function present(partition: number) {
    const place = await ledger().place(partition);
    assert.equal(place.kind, 'present');
    return place as Extract<Place, { kind: 'present' }>;
  }
  return { bench, ledger, nextPartition, rebuilt, apply, changesOf, present };
}
export type LedgerCalls = ReturnType<typeof ledgerCalls>;
