/**
 * Rounds: the sides one after the other, in turned order each round, so that what drifts hits both. A round in which
 * other processes took more than 30 % of a core is done again, a bounded number of times; the calmest try counts, and
 * the report says how many rounds stayed disturbed.
 */
import { othersCores, usage } from './cpu.ts';

/** Cores. */
export const othersMax = 0.3;

export interface Side<T> {
  name: string;
  /** One measured stretch; everything it started has come to its end when it resolves. */
  run(round: number): Promise<T>;
}

export interface Pace {
  rounds: number;
  /** Of one round, while there is time. */
  triesMax: number;
  /** ms left for rounds that are done again; each takes its time from it. */
  spare: { ms: number };
  say(line: string): void;
}

export interface Round<T> {
  values: T[];
  /** The largest of its sides, cores. */
  others: number;
  tries: number;
}

/** `values` of each round in the order of `sides`. */
export async function alternate<T>(sides: readonly Side<T>[], pace: Pace): Promise<Round<T>[]> {
  const rounds: Round<T>[] = [];
  let stretch = 0;
  for (let r = 0; r < pace.rounds; r++) {
    let best: Round<T> | undefined;
    let tries = 0;
    do {
      const begin = performance.now();
      tries++;
      const order = sides.map((_, i) => i);
      if (r % 2 === 1) order.reverse();
      const values: T[] = [];
      let others = 0;
      for (const i of order) {
        const before = usage();
        values[i] = await (sides[i] as Side<T>).run(stretch++);
        others = Math.max(others, othersCores(before, usage()));
      }
      if (!best || others < best.others) best = { values, others, tries };
      best.tries = tries;
      if (tries > 1) pace.spare.ms -= performance.now() - begin;
    } while (best.others > othersMax && tries < pace.triesMax && pace.spare.ms > 0);
    pace.say(roundLine(r, best));
    rounds.push(best);
  }
  return rounds;
}

const roundLine = <T>(r: number, { values, others, tries }: Round<T>): string => {
  const shown = values.map(value => (typeof value === 'number' ? value.toFixed(1) : JSON.stringify(value, rounded)));
  const again = tries > 1 ? `, try ${tries}` : '';
  return `  round ${r + 1}: ${shown.join(' | ')} (others ${(others * 100).toFixed(0)} % of a core${again})`;
};

const rounded = (_: string, value: unknown): unknown =>
  typeof value === 'number' ? Number(value.toPrecision(4)) : value;

export interface Summary {
  median: number;
  min: number;
  max: number;
  rounds: number;
  /** Rounds of which no try was calm. */
  disturbed: number;
  /** What other processes took, cores. */
  others: { median: number; max: number };
}

export function summary<T>(rounds: readonly Round<T>[], of: (values: T[]) => number): Summary {
  const found = rounds.map(round => of(round.values)).sort((a, b) => a - b);
  const others = rounds.map(round => round.others);
  return {
    median: median(found),
    min: found[0] ?? Number.NaN,
    max: found.at(-1) ?? Number.NaN,
    rounds: found.length,
    disturbed: others.filter(cores => cores > othersMax).length,
    others: { median: median(others), max: Math.max(...others) },
  };
}

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[half] as number)
    : ((sorted[half - 1] ?? Number.NaN) + (sorted[half] ?? Number.NaN)) / 2;
}

export interface MedianRange {
  median: number;
  /**
   * The median of a run without end lies between both, at least 95 times in a hundred; whatever the numbers'
   * distribution. Of fewer than six it is all of them, and less often.
   */
  low: number;
  high: number;
}

export function medianRange(numbers: readonly number[]): MedianRange {
  const sorted = [...numbers].sort((a, b) => a - b);
  const n = sorted.length;
  // A number is below the median or not, as a coin falls: `outside` is the chance that at most `rank` + 1 of them are.
  let rank = 0;
  let exactly = n * 0.5 ** n;
  for (let outside = 0.5 ** n + exactly; outside <= 0.025; outside += exactly) {
    rank++;
    exactly *= (n - rank) / (rank + 1);
  }
  const at = (i: number) => sorted[i] ?? Number.NaN;
  return { median: median(sorted), low: at(rank), high: at(n - 1 - rank) };
}

/** The value below which `share` of them lie. */
export function percentile(numbers: readonly number[], share: number): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
