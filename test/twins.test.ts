/**
 * The fold exists twice: sale.ts and apply.lua. Random traces (logs with windows, stock, closes, bad entries and
 * clocks that step back; batches that repeat and overlap; lost, rolled-back and rebuilt states) go through both
 * ledgers, and every answer must be the same, and what a third fold that simply read the log from its beginning says.
 * A fourth follows the change log that comes out of it and must arrive at the same state.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import fc from 'fast-check';
import type { CouponId, UserId } from '../src/coupon.ts';
import type { Located, SaleChanged, Won } from '../src/entry.ts';
import { MemoryLedger } from '../src/memory/ledger.ts';
import type { LedgerQuery, Place, Snapshot, StockLedger } from '../src/ports.ts';
import { createRedisLedger } from '../src/redis/ledger.ts';
import { type Counts, type Frontier, PartitionFold } from '../src/sale.ts';
import { k as keyOf } from './support/entries.ts';
import { redisKeys } from './support/redis-keys.ts';

const url = process.env.DIBS_REDIS_URL;
const runs = Number(process.env.DIBS_TWINS_RUNS ?? 120);
const decidedMin = 10_000;
/** Making a failing trace smaller ends then; 120 runs that pass take 5 s. */
const runsMsMax = 60_000;
const couponIds = ['a', 'b', 'c', 'never-opened'] as CouponId[];
const identity = 'log';

// --- Traces -----------------------------------------------------------------------------------------------------

const entryArbitrary = fc.record({
  kind: fc.oneof(
    { weight: 30, arbitrary: fc.constant('request' as const) },
    { weight: 3, arbitrary: fc.constant('opened' as const) },
    { weight: 3, arbitrary: fc.constant('stock_added' as const) },
    { weight: 1, arbitrary: fc.constant('closed' as const) },
    { weight: 2, arbitrary: fc.constant('malformed' as const) },
  ),
  coupon: fc.nat({ max: couponIds.length - 1 }),
  user: fc.nat({ max: 14 }),
  key: fc.nat({ max: 3 }),
  stock: fc.oneof(fc.nat({ max: 6 }), fc.constant(10_000_000)),
  opensAt: fc.option(fc.nat({ max: 300 })),
  closesAt: fc.option(fc.nat({ max: 600 })),
  /** Of the clock, against the one that runs evenly: brokers' clocks step back. */
  jitter: fc.integer({ min: -30, max: 30 }),
  /** Offsets before it that hold no entries for us. */
  skipped: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat({ max: 3 }) }),
});
const partition = fc.nat({ max: 1 });
const stepArbitrary = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      partition,
      entries: fc.array(entryArbitrary, { minLength: 1, maxLength: 60, size: 'max' }),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant('apply' as const),
      partition,
      /** How far before the ledger's next the batch begins, in entries; beyond the ledger's next when negative. */
      back: fc.integer({ min: -1, max: 30 }),
      size: fc.nat({ max: 60 }),
      also: fc.subarray(couponIds),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('told' as const),
      partition,
      from: fc.integer({ min: -20, max: 3 }),
      next: fc.integer({ min: -20, max: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('rebuild' as const),
      partition,
      /** Which part of what was told the store holds. */
      part: fc.double({ min: 0, max: 1, noNaN: true }),
      replaces: fc.constantFrom('right', 'nothing', 'another'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('lose' as const), partition }) },
);
type Of<A> = A extends fc.Arbitrary<infer T> ? T : never;
type Step = Of<typeof stepArbitrary>;
const traceArbitrary = fc.record({
  start: fc.constantFrom(0, 9e12, 9_007_199_254_000_000),
  epoch: fc.constantFrom(0, 1_763_000_000_000, 8_639_999_999_990_000),
  steps: fc.array(stepArbitrary, { minLength: 20, maxLength: 60, size: 'max' }),
});

function located(e: Of<typeof entryArbitrary>, offset: number, evenClock: number, epoch: number): Located {
  const at = Math.max(0, evenClock + e.jitter) + epoch;
  const couponId = couponIds[e.coupon] as CouponId;
  const time = (t: number | null) => (t === null ? null : t + epoch);
  switch (e.kind) {
    case 'request':
      return {
        type: 'request',
        couponId,
        userId: `user-${e.user}` as UserId,
        key: keyOf(offset * 4 + e.key),
        offset,
        at,
      };
    case 'opened':
      if (couponId === 'never-opened') return { type: 'closed', couponId, offset, at };
      return {
        type: 'opened',
        couponId,
        stock: e.stock,
        opensAt: time(e.opensAt),
        closesAt: time(e.closesAt),
        offset,
        at,
      };
    case 'stock_added':
      return { type: 'stock_added', couponId, add: e.stock + 1, key: keyOf(e.key), offset, at };
    case 'closed':
      return { type: 'closed', couponId, offset, at };
    case 'malformed':
      return { type: 'malformed', why: 'bad', offset, at };
  }
}

// --- The world of one trace -------------------------------------------------------------------------------------

type Changes = (Won | SaleChanged)[];
type Chunk = Snapshot['holders'] extends AsyncIterable<infer C> ? C : never;

/** One partition's log with all that was ever said of it. */
class Road {
  readonly entries: Located[] = [];
  readonly changesOf = new Map<number, Changes>();
  /** Read from the beginning, entry by entry: what is right. */
  readonly oracle = new PartitionFold();
  /** The oracle's frontier and totals after each entry, by the offset after it. */
  readonly after = new Map<number, string>();
  readonly follower = new PartitionFold();
  end: number;
  told = 0;

  constructor(start: number) {
    this.end = start;
  }

  append(entry: Located): void {
    this.entries.push(entry);
    this.changesOf.set(entry.offset, this.oracle.decide(entry));
    this.end = entry.offset + 1;
    this.oracle.frontier.next = this.end;
    this.oracle.frontier.hash = hashOf(this.end);
    this.after.set(this.end, frontierText(this.oracle));
  }

  /** What the store holds up to `next`, from a fold of its own. */
  snapshot(next: number): Snapshot {
    const fold = new PartitionFold();
    for (const entry of this.entries) {
      if (entry.offset >= next) break;
      fold.decide(entry);
    }
    fold.frontier.next = next;
    fold.frontier.hash = hashOf(next);
    async function* holders(): Snapshot['holders'] {
      for (const [couponId, sale] of fold.sales) {
        const all = [...sale.holders.entries()];
        const half = all.length >> 1;
        yield { couponId: couponId as CouponId, holders: all.slice(half) };
        yield { couponId: couponId as CouponId, holders: all.slice(0, half) };
      }
    }
    return {
      frontier: structuredClone(fold.frontier),
      sales: [...fold.sales].map(([couponId, { changes, counts, taken }]) => ({
        couponId: couponId as CouponId,
        changes,
        counts,
        taken,
      })),
      malformed: [...fold.malformed],
      holders: holders(),
    };
  }
}

const hashOf = (next: number): string => (next === 0 ? '' : `hash-${next}`);

function frontierText(fold: PartitionFold): string {
  const counts = Object.fromEntries([...fold.sales].map(([couponId, sale]) => [couponId, { ...sale.counts }]));
  return JSON.stringify({ ...fold.frontier, counts });
}

const stateOf = (fold: PartitionFold) => ({
  frontier: fold.frontier,
  malformed: [...fold.malformed].sort((a, b) => a - b),
  sales: [...fold.sales]
    .map(([couponId, { changes, taken, counts, holders }]) => ({
      couponId,
      changes,
      taken,
      counts,
      holders: [...holders.entries()],
    }))
    .sort((a, b) => a.couponId.localeCompare(b.couponId)),
});

class World {
  decided = 0;
  answered = 0;
  private readonly roads: Road[];
  private readonly epoch: number;
  private readonly twins: readonly [MemoryLedger, StockLedger];
  private readonly base: number;
  private readonly lose: (partition: number) => Promise<void>;

  /** `base`: its partitions are base and base + 1, which no other world has. */
  constructor(
    trace: { start: number; epoch: number },
    twins: readonly [MemoryLedger, StockLedger],
    base: number,
    lose: (partition: number) => Promise<void>,
  ) {
    this.roads = [new Road(trace.start), new Road(trace.start)];
    this.epoch = trace.epoch;
    this.twins = twins;
    this.base = base;
    this.lose = lose;
  }

  async begin(): Promise<void> {
    for (const p of [0, 1]) await this.rebuild(p, this.road(p).snapshot(0), 'nothing');
  }

  async take(step: Step): Promise<void> {
    const road = this.road(step.partition);
    switch (step.kind) {
      case 'append':
        for (const e of step.entries) {
          road.append(located(e, road.end + e.skipped, road.entries.length, this.epoch));
        }
        return;
      case 'apply':
        await this.apply(step.partition, step.back, step.size, step.also);
        return this.read(step.partition);
      case 'told':
        return this.tell(step.partition, step.from, step.next);
      case 'rebuild': {
        const known = road.entries.filter(entry => entry.offset < road.follower.frontier.next);
        const upTo = known[Math.floor(step.part * known.length) - 1];
        await this.rebuild(step.partition, road.snapshot(upTo ? upTo.offset + 1 : 0), step.replaces);
        return this.read(step.partition);
      }
      case 'lose':
        this.twins[0].clear(this.base + step.partition);
        return this.lose(this.base + step.partition);
    }
  }

  private road(p: number): Road {
    return this.roads[p] as Road;
  }

  private async places(p: number): Promise<[Place, Place]> {
    return (await Promise.all(this.twins.map(twin => twin.place(this.base + p)))) as [Place, Place];
  }

  private async same<T>(ask: (twin: StockLedger, build: string) => Promise<T>, p: number): Promise<T> {
    const places = await this.places(p);
    const builds = places.map(place => (place.kind === 'present' ? place.build : 'none'));
    const [mine, theirs] = await Promise.all(this.twins.map((twin, i) => ask(twin, builds[i] as string)));
    assert.deepEqual(theirs, mine);
    return mine as T;
  }

  private async rebuild(p: number, snapshot: Snapshot, replaces: string): Promise<void> {
    const chunks: Chunk[] = [];
    for await (const chunk of snapshot.holders) chunks.push(chunk);
    const answer = await this.same(async (twin, build) => {
      const holders = (async function* () {
        yield* chunks;
      })();
      const named = { right: build, nothing: undefined, another: 'another' }[replaces];
      const place = await twin.rebuild(
        this.base + p,
        identity,
        { ...structuredClone({ ...snapshot, holders: null }), holders },
        named,
      );
      assert.deepEqual(await twin.place(this.base + p), place);
      return { ...place, build: '' };
    }, p);
    assert.equal(answer.kind, 'present');
  }

  private async apply(p: number, back: number, size: number, alsoCount: string[]): Promise<void> {
    const road = this.road(p);
    const [place] = await this.places(p);
    const next = place.kind === 'present' ? place.next : 0;
    const first = road.entries.findIndex(entry => entry.offset >= next);
    const index = first === -1 ? road.entries.length : first;
    const begin = Math.max(0, index - Math.max(0, back));
    const entries = road.entries.slice(begin, begin + size);
    // Where it begins at the ledger's own place or beyond, offsets that hold nothing belong to it too.
    const from = back < 0 ? next - back : begin === index ? next : (road.entries[begin] as Located).offset;
    const last = entries.at(-1);
    const to = back < 0 ? Math.max(from, (last?.offset ?? 0) + 1) : last ? last.offset + 1 : from;
    const batch = { from, next: to, hash: hashOf(to), entries, alsoCount };
    const applied = await this.same((twin, build) => twin.apply(this.base + p, build, batch), p);
    if (applied.kind !== 'applied') {
      assert.equal(applied.kind, place.kind === 'missing' ? 'missing' : 'gap');
      return;
    }
    this.decided += applied.decided;
    this.answered += entries.length;
    assert.deepEqual(
      applied.changes,
      entries.flatMap(entry => road.changesOf.get(entry.offset) as Changes),
      'not what the log says',
    );
    if (!applied.frontier) return;
    const expected = road.after.get(to);
    if (expected) {
      const right = JSON.parse(expected) as { counts: Record<string, unknown> };
      for (const couponId of Object.keys(right.counts)) {
        if (!(couponId in applied.frontier.counts)) delete right.counts[couponId];
      }
      assert.deepEqual(applied.frontier, right);
    }
    this.follow(road, from, applied.changes, entries, applied.frontier);
  }

  /** Appends to the change log what a reserve stage would, and lets the follower read it. */
  private follow(
    road: Road,
    from: number,
    changes: Changes,
    entries: Located[],
    frontier: Frontier & { counts: Record<string, Counts> },
  ): void {
    const { follower } = road;
    for (const change of changes) follower.follow(change);
    for (const { type, offset, at } of entries) {
      if (type === 'malformed')
        follower.follow({ type: 'refused', offset, at, reason: 'malformed', why: '', bytes: '' });
    }
    follower.follow({ type: 'mark', from, ...frontier });
    if (follower.frontier.next !== road.end) return;
    assert.deepEqual(stateOf(follower), stateOf(road.oracle), 'following differs from deciding');
  }

  private async tell(p: number, from: number, next: number): Promise<void> {
    const [place] = await this.places(p);
    const { told, next: decided } = place.kind === 'present' ? place : { told: 0, next: 0 };
    await this.same((twin, build) => {
      return twin.told(this.base + p, build, Math.max(0, told + from), Math.max(0, decided + next));
    }, p);
  }

  /** Every user of every coupon, at the last offsets; and all sales of both partitions. */
  private async read(p: number): Promise<void> {
    const offsets = this.road(p)
      .entries.slice(-8)
      .map(entry => entry.offset);
    const queries: LedgerQuery[] = couponIds.flatMap(couponId =>
      Array.from({ length: 16 }, (_, user) => ({
        couponId,
        userId: `user-${user}` as UserId,
        offset: offsets[user % Math.max(1, offsets.length)] ?? 0,
      })),
    );
    await this.same(twin => twin.read(this.base + p, queries), p);
    const wanted = [0, 1].flatMap(at => couponIds.slice(0, 2).map(id => ({ couponId: id, partition: this.base + at })));
    await this.same(twin => twin.sales(wanted.filter((_, i) => i % 3 !== p)), p);
    await this.same(async twin => ({ ...(await twin.place(this.base + p)), build: '' }), p);
  }
}

// --- The tests --------------------------------------------------------------------------------------------------

async function runTraces(theirs: StockLedger, lose: (partition: number) => Promise<void>): Promise<void> {
  const mine = new MemoryLedger();
  let base = 0;
  let [decided, answered] = [0, 0];
  await fc.assert(
    fc.asyncProperty(traceArbitrary, async trace => {
      base += 2;
      const world = new World(trace, [mine, theirs], base, lose);
      await world.begin();
      for (const step of trace.steps) await world.take(step);
      decided += world.decided;
      answered += world.answered;
    }),
    { numRuns: runs, interruptAfterTimeLimit: runsMsMax },
  );
  assert.ok(decided >= decidedMin, `only ${decided} entries decided: raise DIBS_TWINS_RUNS`);
  assert.ok(answered > decided, 'nothing was answered from the record');
}

test('the fold in memory gives what the log says, however it is asked', async () => {
  const other = new MemoryLedger();
  await runTraces(other, async partition => other.clear(partition));
});

if (!url) {
  test('the fold in Lua is the twin of the fold in TypeScript', { skip: 'DIBS_REDIS_URL is not set' }, () => {});
} else {
  test('the fold in Lua is the twin of the fold in TypeScript', async () => {
    const keys = redisKeys(url);
    const { admin, prefix } = keys;
    const ledger = createRedisLedger({ url, prefix });
    after(async () => {
      await ledger.close();
      await keys.close();
    });
    await runTraces(ledger, async p => void (await admin.unlink(`${prefix}:{${p}}:state`)));
  });
}
