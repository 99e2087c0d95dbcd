/**
 * The ledger in this process's memory: what the Redis ledger is, without a server. A partition is missing until it
 * is rebuilt. Nothing here waits except for the snapshot of a rebuild, so every method is one consistent step.
 */
import type { CouponId } from '../coupon.ts';
import type { Change, SaleChanged, Won } from '../entry.ts';
import { Alarm } from '../errors.ts';
import { statusBatchMax } from '../limits.ts';
import type { Applied, ApplyBatch, LedgerQuery, LedgerView, Place, SaleView, Snapshot, StockLedger } from '../ports.ts';
import {
  type Counts,
  currentTerms,
  type Frontier,
  Holders,
  holderPairs,
  PartitionFold,
  phaseAt,
  type Sale,
} from '../sale.ts';

interface PartitionState {
  fold: PartitionFold;
  told: number;
  identity: string;
  build: string;
}

export class MemoryLedger implements StockLedger {
  private readonly states = new Map<number, PartitionState>();
  private builds = 0;

  async place(partition: number): Promise<Place> {
    return this.placeNow(partition);
  }

  async apply(partition: number, build: string, batch: ApplyBatch): Promise<Applied> {
    const state = this.states.get(partition);
    if (!state) return { kind: 'missing' };
    if (state.build !== build) return { kind: 'damaged', why: `build ${state.build} is there, not ${build}` };
    const { fold } = state;
    if (batch.from > fold.frontier.next) return { kind: 'gap', next: fold.frontier.next, told: state.told };
    const named = couponsOf(batch);
    for (const couponId of named) {
      const why = damageOf(couponId, fold.sales.get(couponId));
      if (why) return { kind: 'damaged', why };
    }
    return applyTo(fold, batch, named);
  }

  async told(partition: number, build: string, from: number, next: number): Promise<number | undefined> {
    const state = this.states.get(partition);
    if (!state || state.build !== build) return undefined;
    if (from > state.told || next > state.fold.frontier.next) return undefined;
    state.told = Math.max(state.told, next);
    return state.told;
  }

  async rebuild(partition: number, identity: string, snapshot: Snapshot, replaces: string | undefined): Promise<Place> {
    const fold = await foldOf(snapshot);
    const there = this.states.get(partition);
    if (!there || there.build === replaces) {
      const build = `memory-${++this.builds}`;
      this.states.set(partition, { fold, told: fold.frontier.next, identity, build });
    }
    return this.placeNow(partition);
  }

  async read(partition: number, queries: readonly LedgerQuery[]): Promise<(LedgerView | undefined)[]> {
    if (queries.length > statusBatchMax)
      throw new Error(`a read takes ${statusBatchMax} queries, not ${queries.length}`);
    const fold = this.states.get(partition)?.fold;
    if (!fold) return queries.map(() => undefined);
    const { next, clock } = fold.frontier;
    return queries.map(({ couponId, userId, offset }) => {
      const sale = fold.sales.get(couponId);
      if (damageOf(couponId, sale)) return undefined;
      const malformed = fold.malformed.has(offset);
      return { next, clock, holder: sale?.holders.get(userId), changes: sale ? [...sale.changes] : [], malformed };
    });
  }

  async sales(wanted: readonly { couponId: CouponId; partition: number }[]): Promise<Map<CouponId, SaleView>> {
    const views = new Map<CouponId, SaleView>();
    for (const { couponId, partition } of wanted) {
      const fold = this.states.get(partition)?.fold;
      const sale = fold?.sales.get(couponId);
      if (!fold || !sale || damageOf(couponId, sale)) continue;
      const { next, clock } = fold.frontier;
      const phase = phaseAt(currentTerms(sale), sale.taken, clock);
      views.set(couponId, { next, clock, taken: sale.taken, phase, changes: [...sale.changes] });
    }
    return views;
  }

  /**
   * Takes over what another thread's ledger decided, change by change in the order of the change log, beginning
   * where the snapshot of the rebuild ended. A partition without state stays without. Repeats change nothing.
   */
  follow(partition: number, change: Change): void {
    const state = this.states.get(partition);
    if (!state) return;
    state.fold.follow(change);
    if (change.type === 'mark') state.told = Math.max(state.told, change.next);
  }

  /** Drops the state: after a failed transaction the decisions in memory are not those of the log. Rebuild it. */
  clear(partition: number): void {
    this.states.delete(partition);
  }

  async close(): Promise<void> {
    this.states.clear();
  }

  private placeNow(partition: number): Place {
    const state = this.states.get(partition);
    if (!state) return { kind: 'missing' };
    const { fold, told, identity, build } = state;
    return { kind: 'present', ...copyOf(fold.frontier), told, identity, build };
  }
}

function applyTo(fold: PartitionFold, { next, hash, entries }: ApplyBatch, named: ReadonlySet<string>): Applied {
  const { frontier } = fold;
  const changes: (Won | SaleChanged)[] = [];
  let decided = 0;
  for (const entry of entries) {
    const isNew = entry.offset >= frontier.next;
    if (isNew) decided++;
    for (const change of isNew ? fold.decide(entry) : fold.recorded(entry)) changes.push(change);
  }
  if (next > frontier.next) {
    frontier.next = next;
    frontier.hash = hash;
  }
  if (frontier.next > next) return { kind: 'applied', changes, frontier: null, decided };
  const counts: Record<string, Counts> = {};
  for (const couponId of named) {
    const sale = fold.sales.get(couponId);
    if (sale) counts[couponId] = { ...sale.counts };
  }
  return { kind: 'applied', changes, frontier: { ...copyOf(frontier), counts }, decided };
}

async function foldOf(snapshot: Snapshot): Promise<PartitionFold> {
  const fold = new PartitionFold();
  fold.frontier = copyOf(snapshot.frontier);
  for (const { couponId, changes, counts } of snapshot.sales) {
    fold.sales.set(couponId, { changes: [...changes], counts: { ...counts }, taken: 0, holders: new Holders() });
  }
  for (const offset of snapshot.malformed) fold.malformed.add(offset);
  for await (const { couponId, holders } of snapshot.holders) {
    const sale = fold.sales.get(couponId);
    if (!sale) throw new Alarm(`the store has holders of ${couponId}, but not the sale`);
    for (const [userId, holder] of holderPairs(holders)) {
      sale.holders.add(userId, holder);
      sale.taken++;
    }
  }
  return fold;
}

/** Coupons whose totals the batch's frontier names; those without state are left out there. */
function couponsOf({ entries, alsoCount }: ApplyBatch): Set<string> {
  const named = new Set(alsoCount);
  for (const entry of entries) if (entry.type !== 'malformed') named.add(entry.couponId);
  return named;
}

function damageOf(couponId: string, sale: Sale | undefined): string | undefined {
  if (!sale || sale.taken === sale.holders.size) return undefined;
  return `${couponId} has ${sale.taken} slots taken and ${sale.holders.size} holders`;
}

const copyOf = ({ next, clock, hash, strays }: Frontier): Frontier => ({ next, clock, hash, strays: { ...strays } });
