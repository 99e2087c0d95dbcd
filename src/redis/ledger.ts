/**
 * The ledger in Redis. One hash tag a partition, one script a call: each call is one consistent step there, whoever
 * else calls. Builds of the state have names of their own, so that a rebuild fills keys nobody reads and one script
 * makes them the state.
 */
import type { CouponId } from '../coupon.ts';
import type { Located, SaleChanged, Won } from '../entry.ts';
import { Alarm } from '../errors.ts';
import { createHost, type Host } from '../host.ts';
import { statusBatchMax, stockMax } from '../limits.ts';
import type { Applied, ApplyBatch, LedgerQuery, LedgerView, Place, SaleView, Snapshot, StockLedger } from '../ports.ts';
import { type Counts, currentTerms, type HolderList, holdersText, parseHolder, phaseAt } from '../sale.ts';
import { type Connection, connect, type RedisCounts, type RedisSettings, warnOfEviction } from './connection.ts';
import { hsetsOf } from './hset.ts';
import { fillBatchMax, fillExpiryMs } from './limits.ts';
import { changesText, frontierFields, parseChange, parseChanges, parseCounts, pushEntry, saleText } from './texts.ts';

/** Connects in the background; calls made before wait for the first attempt. */
export function createRedisLedger(settings: RedisSettings): RedisLedger {
  return new RedisLedger(settings);
}

type ApplyReply =
  | [kind: 'missing']
  | [kind: 'damaged', why: string]
  | [kind: 'gap', next: string, told: string]
  | [
      kind: 'applied',
      decided: number,
      next: string,
      clock: string,
      hash: string,
      malformed: string,
      unknown: string,
      marks: string,
      recorded: string[],
      changes: (number | string)[],
      coupons: string[],
    ];
type AppliedReply = Extract<ApplyReply, ['applied', ...unknown[]]>;

type ReadReply = [string, string, ([string] | [] | null)[], string[], number[]] | null;
type SalesReply = [string, string, ...([string, string] | null)[]] | null;

export class RedisLedger implements StockLedger {
  readonly counts: RedisCounts = { commands: 0 };
  private readonly connection: Connection;
  private readonly prefix: string;
  private readonly host: Host;

  constructor(settings: RedisSettings) {
    this.prefix = settings.prefix ?? 'dibs';
    this.host = settings.host ?? createHost();
    this.connection = connect(settings, this.counts);
    warnOfEviction(this.connection, settings.log ?? (() => {}));
  }

  async place(partition: number): Promise<Place> {
    const fields = ['next', 'told', 'clock', 'hash', 'identity', 'build', 'strays_malformed', 'strays_unknown'];
    const found = await this.connection.run(redis => redis.hmget(this.stateKey(partition), ...fields));
    if (found[0] === null) return { kind: 'missing' };
    const [next, told, clock, hash, identity, build, malformed, unknown] = found as string[] &
      [string, string, string, string, string, string, string, string];
    return {
      kind: 'present',
      next: Number(next),
      told: Number(told),
      clock: Number(clock),
      hash,
      identity,
      build,
      strays: { malformed: Number(malformed), unknown_coupon: Number(unknown) },
    };
  }

  async apply(partition: number, build: string, batch: ApplyBatch): Promise<Applied> {
    const places = placesOf(couponsOf(batch));
    const { from, next, hash } = batch;
    const args = [build, `${from}`, `${next}`, hash, `${stockMax}`, `${places.size}`, ...places.keys()];
    for (const entry of batch.entries) {
      pushEntry(args, entry, entry.type === 'malformed' ? undefined : places.get(entry.couponId));
    }
    const reply = await this.connection.script<ApplyReply>('apply', this.stateKey(partition), args);
    switch (reply[0]) {
      case 'missing':
        return { kind: 'missing' };
      case 'damaged':
        return { kind: 'damaged', why: reply[1] };
      case 'gap':
        return { kind: 'gap', next: Number(reply[1]), told: Number(reply[2]) };
      case 'applied':
        return appliedOf(reply, batch, [...places.keys()]);
    }
  }

  async told(partition: number, build: string, from: number, next: number): Promise<number | undefined> {
    const args = [build, `${from}`, `${next}`];
    const told = await this.connection.script<string | null>('told', this.stateKey(partition), args);
    return told === null ? undefined : Number(told);
  }

  async rebuild(partition: number, identity: string, snapshot: Snapshot, replaces: string | undefined): Promise<Place> {
    const build = Buffer.from(this.host.randomBytes(8)).toString('hex');
    const taken = await this.fill(partition, build, snapshot);
    const { sales, frontier, malformed } = snapshot;
    const fields = frontierFields(frontier, identity, build, malformed);
    const args = [replaces ?? '', build, `${sales.length}`, `${fields.length / 2}`];
    for (const sale of sales) {
      const { couponId, changes } = sale;
      args.push(couponId, saleText({ ...sale, taken: taken.get(couponId) ?? 0 }), changesText(changes));
    }
    // Of a swap that fails nobody knows whether it was carried out: what was filled is left to expire.
    await this.connection.script<number>('swap', this.stateKey(partition), [...args, ...fields]);
    return this.place(partition);
  }

  async read(partition: number, queries: readonly LedgerQuery[]): Promise<(LedgerView | undefined)[]> {
    if (queries.length > statusBatchMax)
      throw new Error(`a read takes ${statusBatchMax} queries, not ${queries.length}`);
    if (queries.length === 0) return [];
    const places = placesOf(queries.map(query => query.couponId));
    const args = [`${places.size}`, ...places.keys()];
    for (const { couponId, userId, offset } of queries) args.push(`${places.get(couponId)}`, userId, `${offset}`);
    const reply = await this.connection.script<ReadReply>('read', this.stateKey(partition), args);
    if (!reply) return queries.map(() => undefined);
    const [next, clock, coupons, holders, malformedPlaces] = reply;
    const changes = coupons.map(coupon => coupon && (coupon[0] === undefined ? [] : parseChanges(coupon[0])));
    const malformed = new Set(malformedPlaces);
    return queries.map(({ couponId }, i) => {
      const changesHere = changes[(places.get(couponId) as number) - 1];
      if (!changesHere) return undefined;
      const holder = holders[i] ? parseHolder(holders[i]) : undefined;
      return {
        ...{ next: Number(next), clock: Number(clock), holder, changes: changesHere },
        malformed: malformed.has(i + 1),
      };
    });
  }

  async sales(wanted: readonly { couponId: CouponId; partition: number }[]): Promise<Map<CouponId, SaleView>> {
    const byPartition = Map.groupBy(wanted, ({ partition }) => partition);
    const views = new Map<CouponId, SaleView>();
    const reads = [...byPartition].map(async ([partition, group]) => {
      const ids = group.map(({ couponId }) => couponId);
      const reply = await this.connection.script<SalesReply>('sales', this.stateKey(partition), ids);
      if (!reply) return;
      const [next, clock, ...sales] = reply;
      ids.forEach((couponId, i) => {
        const sale = sales[i];
        if (sale) views.set(couponId, saleViewOf(Number(next), Number(clock), sale));
      });
    });
    await Promise.all(reads);
    return views;
  }

  async close(): Promise<void> {
    await this.connection.close();
  }

  /**
   * Writes the holders under a build that is not the state; the rest of the snapshot is swapped in with the name.
   * Answers how many of each coupon.
   */
  private async fill(partition: number, build: string, snapshot: Snapshot): Promise<Map<CouponId, number>> {
    const known = new Set<string>(snapshot.sales.map(sale => sale.couponId));
    const taken = new Map<CouponId, number>();
    let [before, filling]: [Promise<unknown>, Promise<unknown>] = [Promise.resolve(), Promise.resolve()];
    try {
      for await (const { couponId, holders } of snapshot.holders) {
        if (!known.has(couponId)) throw new Alarm(`the store has holders of ${couponId}, but not the sale`);
        // Two chunks are on their way while the next is read.
        await before;
        before = filling;
        const chunk = this.fillChunk(this.holdersKey(partition, build, couponId), holders);
        taken.set(couponId, (taken.get(couponId) ?? 0) + chunk.pairs);
        filling = chunk.filled;
        // Awaited two chunks later, or below.
        filling.catch(() => {});
      }
      await before;
      await filling;
      return taken;
    } catch (error) {
      await Promise.allSettled([before, filling]);
      await this.drop([...taken.keys()].map(couponId => this.holdersKey(partition, build, couponId)));
      throw error;
    }
  }

  /**
   * `filled` settles when all of its calls have. A script makes the key with its expiry, which what follows leaves as
   * it is: in a script a holder costs Redis twice as much.
   */
  private fillChunk(key: string, holders: HolderList): { pairs: number; filled: Promise<void> } {
    const { connection } = this;
    const text = holdersText(holders);
    const { commands, pairs } = hsetsOf(key, text, fillBatchMax);
    if (pairs === 0) return { pairs, filled: Promise.resolve() };
    const [, userId, holder] = /^(\S+) (\S+)/.exec(text) as unknown as [string, string, string];
    const calls = [
      connection.script<unknown>('fill', key, [`${fillExpiryMs}`, userId, holder]),
      ...commands.map(command => connection.run(redis => redis.sendCommand(command) as Promise<unknown>)),
    ];
    return { pairs, filled: settled(calls) };
  }

  /** So that a rebuild which fails again and again does not fill the server; what cannot be dropped expires. */
  private async drop(keys: readonly string[]): Promise<void> {
    if (keys.length === 0 || this.connection.redis.status !== 'ready') return;
    const dropped = keys.map(key => this.connection.run(redis => redis.unlink(key)));
    await Promise.allSettled(dropped);
  }

  private stateKey(partition: number): string {
    return `${this.prefix}:{${partition}}:state`;
  }

  private holdersKey(partition: number, build: string, couponId: string): string {
    return `${this.prefix}:{${partition}}:holders:${build}:${couponId}`;
  }
}

async function settled(calls: readonly Promise<unknown>[]): Promise<void> {
  for (const call of await Promise.allSettled(calls)) if (call.status === 'rejected') throw call.reason;
}

function* couponsOf({ entries, alsoCount }: ApplyBatch): Generator<string> {
  yield* alsoCount;
  for (const entry of entries) if (entry.type !== 'malformed') yield entry.couponId;
}

/** Places from 1, as Lua counts. */
function placesOf(couponIds: Iterable<string>): Map<string, number> {
  const places = new Map<string, number>();
  for (const couponId of couponIds) if (!places.has(couponId)) places.set(couponId, places.size + 1);
  return places;
}

function appliedOf(reply: AppliedReply, batch: ApplyBatch, named: string[]): Applied {
  const [, decided, nextText, clock, hash, malformed, unknown, , , , coupons] = reply;
  const changes = changesOf(reply, batch.entries, takenBefore(named, coupons));
  const next = Number(nextText);
  if (next > batch.next) return { kind: 'applied', changes, frontier: null, decided };
  const counts: Record<string, Counts> = {};
  named.forEach((couponId, i) => {
    const text = coupons[i];
    if (text) counts[couponId] = parseCounts(text.slice(text.indexOf(':') + 1));
  });
  const strays = { malformed: Number(malformed), unknown_coupon: Number(unknown) };
  return { kind: 'applied', changes, frontier: { next, clock: Number(clock), hash, strays, counts }, decided };
}

const takenBefore = (named: string[], coupons: string[]): Map<string, number> =>
  new Map(named.map((couponId, i) => [couponId, Number.parseInt(coupons[i] || '0', 10)]));

/** Puts the winners, whose slots follow from the order, and the sale changes together, in the order of the entries. */
function changesOf(
  reply: AppliedReply,
  entries: readonly Located[],
  taken: Map<string, number>,
): (Won | SaleChanged)[] {
  const [, , , , , , , marks, recorded, saleChanges] = reply;
  const changes: (Won | SaleChanged)[] = [];
  let [recordedAt, saleChangesAt] = [0, 0];
  entries.forEach((entry, i) => {
    const mark = marks[i];
    if (entry.type === 'request' && mark !== '-') {
      const { couponId, userId, offset, key, at } = entry;
      if (mark === 'w') {
        const slot = (taken.get(couponId) as number) + 1;
        taken.set(couponId, slot);
        changes.push({ type: 'won', couponId, userId, slot, offset, key, at });
      } else {
        changes.push({ type: 'won', couponId, userId, ...parseHolder(recorded[recordedAt++] as string) });
      }
    }
    if (entry.type !== 'malformed' && saleChanges[saleChangesAt] === i + 1) {
      const change = parseChange(saleChanges[saleChangesAt + 1] as string);
      changes.push({ type: 'sale', couponId: entry.couponId, ...change });
      saleChangesAt += 2;
    }
  });
  return changes;
}

function saleViewOf(next: number, clock: number, [taken, changesHere]: [string, string]): SaleView {
  const changes = parseChanges(changesHere);
  const phase = phaseAt(currentTerms({ changes }), Number(taken), clock);
  return { next, clock, taken: Number(taken), phase, changes };
}
