/**
 * The cluster profile at the pace of the brief's own code: one append, one filter call, one script call, one insert and
 * one announcement for each request, nothing in batches. The core and its promises are the same: only what stands
 * around its ports takes everything apart. Flags as those of `dibs serve`.
 *
 * Requests that came in the same turn of the loop are still answered together, once the last of them is in the log.
 */
import type { Ports } from '../src/app.ts';
import { changeLog, type LogEntry, requestLog } from '../src/entry.ts';
import type { EventLog, StockLedger } from '../src/ports.ts';
import { around, run } from './wrapped.ts';

/** What a consumer has fetched at once and handles one by one. */
const fetchedMax = 500;

export function naive({ log, ledger, ...others }: Ports): Ports {
  return { ...others, log: oneByOne(log), ledger: oneQueryEach(ledger) };
}

function oneByOne(log: EventLog): EventLog {
  const fetched = new Map<string, { entries: LogEntry[]; end: number }>();
  return around(log, {
    async append(name, partition, values, keys) {
      // The changes of one request are one event.
      if (name !== requestLog) return log.append(name, partition, values, keys);
      let base: number | undefined;
      for (const [i, value] of values.entries()) {
        const offset = await log.append(name, partition, [value], keys && [keys[i] as string]);
        base ??= offset;
      }
      return base as number;
    },
    async read(name, partition, from, max, waitMs, signal) {
      if (name !== requestLog && name !== changeLog) return log.read(name, partition, from, max, waitMs, signal);
      // Statistics and verify read as they like.
      if (max > fetchedMax && name === requestLog) return log.read(name, partition, from, max, waitMs, signal);
      const id = `${name} ${partition} ${max}`;
      let have = fetched.get(id);
      if (have?.entries[0]?.offset !== from) {
        const read = await log.read(name, partition, from, Math.min(max, fetchedMax), waitMs, signal);
        have = { entries: read.entries, end: read.end };
        if (have.entries.length === 0) return read;
      }
      const n = name === requestLog ? 1 : untilSecondWin(have.entries);
      const entries = have.entries.slice(0, n);
      fetched.set(id, { ...have, entries: have.entries.slice(n) });
      return { entries, next: (entries.at(-1) as LogEntry).offset + 1, end: have.end };
    },
  });
}

/** One insert a winner: what comes before the next one goes with it. */
function untilSecondWin(entries: readonly LogEntry[]): number {
  const isWin = ({ text }: LogEntry) => text.includes('"type":"won"');
  const first = entries.findIndex(isWin);
  const second = entries.findIndex((entry, i) => i > first && isWin(entry));
  return first < 0 || second < 0 ? entries.length : second;
}

const oneQueryEach = (ledger: StockLedger): StockLedger =>
  around(ledger, {
    async read(partition, queries) {
      return (await Promise.all(queries.map(query => ledger.read(partition, [query])))).flat();
    },
  });

if (import.meta.main) await run(import.meta.filename, naive);
