/**
 * How fast a lost ledger is there again, in entries of the log it stands for, against the pure fold of src/sale.ts over
 * the same entries in memory. Everybody wins, which is the most a rebuild can have to do: losers leave it nothing.
 */
import { join } from 'node:path';
import { Redis } from 'ioredis';
import type { CouponId } from '../../src/coupon.ts';
import { changeLog, decodeEntry, type Located, type LogEntry, requestLog } from '../../src/entry.ts';
import { MemoryLedger } from '../../src/memory/ledger.ts';
import { PartitionFold } from '../../src/sale.ts';
import { withSnapshot } from '../../src/sqlite/snapshot.ts';
import { fill } from '../fill.ts';
import { alternate, medianRange, type Round, type Side, summary } from '../rounds.ts';
import { emptyFolder } from '../servers.ts';
import { type Endurance, k, type Reached } from './number.ts';
import { partition, Road, requestsOf } from './road.ts';

const entriesMax = 500_000;
/** Decided and not stored when the ledger is lost: a rebuild from the rows, then so many by the ordinary stage. */
const behind = 0.04;
const couponId = 'rebuilt' as CouponId;
const readMax = 5_000;
const readMsMax = 5_000;
const half = 0.5;

export const rebuild: Endurance = {
  name: 'rebuild',
  about: 'a lost ledger made again, entries a second, against the pure fold in memory',
  async run({ cluster: clusterOf, say, scale, rounds: n }) {
    const cluster = await clusterOf();
    const [entries, late] = [Math.round(entriesMax * scale), Math.round(entriesMax * scale * behind)];
    const road = await Road.open(cluster, 'endurance_rebuild');
    const redis = new Redis(cluster.services.redisUrl);
    const path = join(emptyFolder('rebuild'), 'dibs.db');
    try {
      say(`  ${entries} requests are decided and all but the last ${late} stored`);
      await fill(path, couponId, entries);
      const [reserve, persist] = [road.reserve(), road.persist()];
      await road.create(couponId, 2 * entries);
      await road.append(requestsOf(couponId, entries - late));
      await road.drain(reserve, requestLog);
      await road.drain(persist, changeLog);
      await road.append(requestsOf(couponId, late));
      await road.drain(reserve, requestLog);
      const texts = await read(road);
      const located = texts.map(decodeEntry);
      const perSecond = async (count: number, work: () => Promise<void> | void) => {
        globalThis.gc?.();
        const from = performance.now();
        await work();
        return (count * 1_000) / (performance.now() - from);
      };
      const sides: Side<number>[] = [
        { name: 'fold', run: () => perSecond(texts.length, () => folded(located)) },
        { name: 'fold of bytes', run: () => perSecond(texts.length, () => folded(texts.map(decodeEntry))) },
        {
          name: 'Redis, rows',
          run: async () => {
            await redis.flushall();
            return perSecond(texts.length - late, () => rebuilt(road, texts.length - late));
          },
        },
        {
          name: 'Redis, rows and log',
          run: async () => {
            await redis.flushall();
            return perSecond(texts.length, () => road.drain(road.reserve(), requestLog));
          },
        },
        {
          name: 'memory',
          run: () =>
            perSecond(entries, async () => {
              const ledger = new MemoryLedger();
              const place = await withSnapshot(path, partition, snapshot =>
                ledger.rebuild(partition, 'x', snapshot, undefined),
              );
              if (place.kind === 'missing' || place.next < entries)
                throw new Error('the ledger in memory is not whole');
            }),
        },
      ];
      for (const side of sides) await side.run(-1);
      say(`  entries/s: ${sides.map(({ name }) => name).join(' | ')}`);
      const rounds = await alternate(sides, { rounds: n, triesMax: 2, spare: { ms: 30_000 }, say });
      return [
        line(
          'ledger in Redis, rows and log',
          rounds,
          3,
          `the last ${late} of ${texts.length} by the ordinary stage; without them ${rate(rounds, 2)}/s`,
        ),
        line('ledger in memory (embedded), rows', rounds, 4, `${entries} holders of the file`),
      ];
    } finally {
      redis.disconnect();
      await road.close();
    }
  },
};

const rate = (rounds: readonly Round<number>[], side: number): string =>
  k(summary(rounds, values => values[side] ?? 0).median);

function line(what: string, rounds: readonly Round<number>[], side: number, note: string): Reached {
  const against = (fold: number) => medianRange(rounds.map(({ values }) => (values[side] ?? 0) / (values[fold] ?? 1)));
  const [pure, bytes] = [against(0), against(1)];
  const range = ({ low, high }: typeof pure) => `${low.toFixed(2)} to ${high.toFixed(2)}`;
  return {
    number: `${what}: rebuilt, entries/s / pure fold`,
    toReach: `${half}`,
    measured: `${pure.median.toFixed(2)} (${range(pure)}) of the fold over decoded entries, ${bytes.median.toFixed(2)} (${range(bytes)}) of the fold that decodes them first; ${rate(rounds, side)}/s of ${rate(rounds, 0)} and ${rate(rounds, 1)}/s; ${note}`,
    reached: pure.median >= half,
  };
}

function folded(entries: readonly Located[]): void {
  const fold = new PartitionFold();
  for (const entry of entries) {
    fold.decide(entry);
    fold.frontier.next = entry.offset + 1;
  }
  if (fold.sales.get(couponId)?.taken !== entries.length - 1) throw new Error('not everybody won');
}

async function rebuilt({ ledger, log, store }: Road, next: number): Promise<void> {
  const place = await store.withSnapshot(partition, snapshot =>
    ledger.rebuild(partition, log.identity, snapshot, undefined),
  );
  if (place.kind === 'missing' || place.next !== next) throw new Error('the ledger in Redis is not whole');
}

async function read({ log }: Road): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  const end = await log.end(requestLog, partition);
  while (entries.length < end) {
    const batch = await log.read(requestLog, partition, entries.length, readMax, readMsMax);
    entries.push(...batch.entries);
  }
  return entries;
}
