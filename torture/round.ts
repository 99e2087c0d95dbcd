/** One round: a sale with a crowd, a fault in the middle of it, healing, and the checker. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Dump } from '../src/checker/dump.ts';
import type { CheckReport } from '../src/checker/findings.ts';
import type { HistoryLine } from '../src/checker/history.ts';
import { testTiming } from '../test/support/sale.ts';
import type { Arena, Own, Ring } from './arena.ts';
import { Crowd } from './crowd.ts';
import { assertKept, assertLetIn, assertLoss, assertRight, assertUnsaid, Violated } from './judge.ts';

export interface Context<A extends Ring = Arena> {
  arena: A;
  crowd: Crowd;
  /** 0 <= x < 1, seeded. */
  random(): number;
  /** Counts what was done, for the report. */
  did(what: string): void;
}

export interface Fault<A extends Ring = Arena> {
  /** What it breaks. */
  own: Own;
  run(context: Context<A>): Promise<void>;
  /** Units of its coupon; some half of the crowd's when absent. */
  stock?: number;
  /** The window of its coupon, ms from now. */
  window?: { opensInMs: number; closesInMs: number };
  /** No going on: after it the service must say so, and the round ends there. Whether requests were `lost`. */
  alarms?: 'lost' | 'kept';
  /** Why it cannot be done on this machine. */
  impossible?: string | undefined;
  /** A ledger that goes back to before a restock is a known limit of the filter (docs/architecture.md). */
  noRestock?: true;
}

/**
 * Settings of the command line: how long a server is away, how often each role dies in a round, how often somebody
 * presses meanwhile, how patient they are, and whether there were enough deaths.
 */
export const extent = { awayMs: 8_000, deaths: 1, pressEachMs: 50, timing: testTiming, isOver: () => false };

export interface Round<A extends Ring = Arena> {
  name: string;
  fault: Fault<A>;
  arena: A;
  random(): number;
  did(what: string): void;
}

/** Where the history and the dump of a round that failed are left. */
export const leftIn = join(import.meta.dirname, '../.torture');

const usualStock = 160;

/** @throws when the sale does not come to rest, or anything of it is not as it must be. */
export async function runRound<A extends Ring>({ name, fault, arena, random, did }: Round<A>): Promise<CheckReport> {
  const crowd = new Crowd(name, arena.urls, extent.timing);
  const context: Context<A> = { arena, crowd, random, did };
  let dump: Dump | undefined;
  try {
    await crowd.open(fault.stock ?? usualStock, fault.window && windowFrom(fault.window));
    crowd.press(60);
    if (!fault.window) {
      await crowd.answeredAtLeast(30);
      assertLetIn('before anything was broken', crowd.history, crowd.turnedAway);
    }
    const restocks = !fault.noRestock && !fault.alarms && random() < 0.5;
    const restock = () => crowd.restock(40, `${name}-more`);
    // Under a long fault nobody may live long enough to answer it.
    const restocked = restocks ? restock().catch(() => false) : undefined;
    crowd.press(20);
    await fault.run(context);
    if (fault.alarms) {
      await crowd.leave();
      dump = await arena.dump();
      assertUnsaid(arena.leaks);
      return (fault.alarms === 'lost' ? assertLoss : assertKept)(crowd.history, dump);
    }
    await arena.heal();
    const healed = crowd.history.length;
    if ((await restocked) === false) await restock();
    crowd.pressAgain(10);
    crowd.press(120);
    await crowd.settle();
    await arena.drained();
    dump = await arena.dump();
    assertUnsaid(arena.leaks);
    assertLetIn('after all was healed', crowd.history.slice(healed), crowd.turnedAway);
    return assertRight(crowd.history, dump);
  } catch (error) {
    const left = await leave(name, crowd.history, dump ?? (await arena.dump().catch(() => undefined)));
    const alarms = await arena.alarms();
    const { leaks } = arena;
    const message = [`${(error as Error).message}`, ...alarms, ...leaks.slice(0, 3), `left in ${left}`].join('\n');
    throw error instanceof Violated || leaks.length > 0 ? new Violated(message) : new Error(message, { cause: error });
  } finally {
    crowd.close();
  }
}

const windowFrom = ({ opensInMs, closesInMs }: NonNullable<Fault['window']>) => ({
  opensAt: new Date(Date.now() + opensInMs).toISOString(),
  closesAt: new Date(Date.now() + closesInMs).toISOString(),
});

async function leave(name: string, history: readonly HistoryLine[], dump: Dump | undefined): Promise<string> {
  const lines = (all: readonly unknown[]) => all.map(line => `${JSON.stringify(line)}\n`).join('');
  await mkdir(leftIn, { recursive: true });
  await writeFile(join(leftIn, `${name}.seen.jsonl`), lines(history));
  if (dump)
    await writeFile(join(leftIn, `${name}.kept.jsonl`), lines([...dump.entries, ...dump.rows, ...dump.letters]));
  return `.torture/${name}.*.jsonl`;
}
