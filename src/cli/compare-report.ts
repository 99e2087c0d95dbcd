/** What was compared: the numbers of each run, their medians over the rounds, and the table for a terminal. */
import type { Distribution } from './chart.ts';
import { count, duration, number, paint } from './terminal.ts';

/** One crowd against one server. Times in ms, from when a user meant to press. */
export interface CrowdRun {
  users: number;
  stock: number;
  accepted: number;
  acceptedPerSecond: number;
  acceptedMs: Distribution | undefined;
  told: number;
  /** To the true result, whether by the answer at the door, the push, or asking; everybody who was told. */
  resultMs: Distribution | undefined;
  /** The same of those who got one. */
  issuedMs: Distribution | undefined;
  /** Shares 0, 0.01, ... 1 of those who were told were told within these. */
  resultSeries: number[];
  /** Accepted, and never told that they won or lost. */
  lost: number;
  unanswered: number;
  /** Who were told that they have one. */
  winners: number;
  /** Rows, by the server. */
  issued: number;
  duplicates: number;
  oversold: number;
  requestsPerUser: number;
  polled: boolean;
  issuedOverTime: [ms: number, issued: number][];
}

/** What only whoever runs the servers can count. */
export interface Costs {
  /** Calls for one issued coupon. */
  calls?: { redis: number; log: number; database: number };
  /** s of a core for 1,000 issued, of dibs and of its servers. */
  cpuSeconds?: { dibs: number; servers: number };
}

export interface Run extends CrowdRun, Costs {
  target: string;
  crowd: string;
  round: number;
  /** Requests a second of bare node:http before and after. */
  yardstick: [before: number, after: number];
}

export interface FaultRun extends CrowdRun {
  target: string;
  fault: string;
}

export interface Comparison {
  at: string;
  machine: string;
  seed: number;
  targets: string[];
  runs: Run[];
  thrownAway: string[];
  faults: FaultRun[];
}

export function seriesOf(times: readonly number[]): number[] {
  if (times.length === 0) return [];
  const sorted = Float64Array.from(times).sort();
  return Array.from(
    { length: 101 },
    (_, i) => Math.round((sorted[Math.ceil((i / 100) * (sorted.length - 1))] as number) * 10) / 10,
  );
}

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[half] as number)
    : ((sorted[half - 1] as number) + (sorted[half] as number)) / 2;
}

/** Moved by more than this between two looks, the machine was not the same, and the round is thrown away. */
export const yardstickShareMax = 0.25;

/** Whether the yardstick of a run stayed where those of the whole comparison are. */
export function isSteady([before, after]: Run['yardstick'], usual: number): boolean {
  return [before, after].every(now => Math.abs(now - usual) <= usual * yardstickShareMax);
}

/** Parts the runs whose yardstick stayed from the others, which are named. */
export function steadyRuns(runs: readonly Run[]): { kept: Run[]; thrownAway: string[] } {
  if (runs.length === 0) return { kept: [], thrownAway: [] };
  const usual = median(runs.flatMap(({ yardstick }) => yardstick));
  const thrownAway = runs.filter(run => !isSteady(run.yardstick, usual));
  const k = (n: number) => (n / 1_000).toFixed(1);
  return {
    kept: runs.filter(run => isSteady(run.yardstick, usual)),
    thrownAway: thrownAway.map(
      ({ target, crowd, round, yardstick }) =>
        `${target}, ${crowd}, round ${round + 1}: bare node:http did ${yardstick.map(k).join(' and ')} k/s, usually ${k(usual)}`,
    ),
  };
}

/** One line of the table: what it is, and the value of one run. */
export interface Measure {
  name: string;
  of(run: Run): number | undefined;
  show(value: number): string;
}

const figure = (n: number): string =>
  n === 0 || n >= 100 ? number(Math.round(n)) : n >= 10 ? n.toFixed(1) : n.toFixed(2);
const sum = (...parts: (number | undefined)[]): number | undefined =>
  parts.every(part => part === undefined) ? undefined : parts.reduce<number>((all, part) => all + (part ?? 0), 0);

export const measures: readonly Measure[] = [
  { name: 'accepted (202)', of: run => run.accepted, show: number },
  { name: 'issued', of: run => run.issued, show: number },
  { name: 'accepted per second', of: run => run.acceptedPerSecond, show: n => number(Math.round(n)) },
  { name: 'time to 202, p50', of: run => run.acceptedMs?.p50, show: duration },
  { name: 'time to 202, p99', of: run => run.acceptedMs?.p99, show: duration },
  { name: 'time to the true result, p50', of: run => run.resultMs?.p50, show: duration },
  { name: 'time to the true result, p99', of: run => run.resultMs?.p99, show: duration },
  { name: 'time to the true result, max', of: run => run.resultMs?.max, show: duration },
  { name: 'of those who got one, p50', of: run => run.issuedMs?.p50, show: duration },
  { name: 'of those who got one, p99', of: run => run.issuedMs?.p99, show: duration },
  { name: 'HTTP requests per user', of: run => run.requestsPerUser, show: figure },
  { name: 'calls to Redis per issued', of: run => run.calls?.redis, show: figure },
  { name: 'calls to the log per issued', of: run => run.calls?.log, show: figure },
  { name: 'calls to the database per issued', of: run => run.calls?.database, show: figure },
  { name: 'CPU s per 1,000 issued', of: run => sum(run.cpuSeconds?.dibs, run.cpuSeconds?.servers), show: figure },
  { name: '  of them dibs itself', of: run => run.cpuSeconds?.dibs, show: figure },
  { name: 'never told', of: run => run.unanswered, show: number },
];

/** The median over the rounds of each target, as text; '-' where nobody counted. */
export function cellsOf(measure: Measure, runs: readonly Run[], targets: readonly string[]): string[] {
  return targets.map(target => {
    const values = runs.flatMap(run => (run.target === target ? (measure.of(run) ?? []) : []));
    return values.length === 0 ? '-' : measure.show(median(values));
  });
}

/** What is left after a fault; `lost` were accepted and never told. */
export const faultMeasures: readonly { name: string; of(run: FaultRun): number }[] = [
  { name: 'accepted (202)', of: run => run.accepted },
  { name: 'lost requests', of: run => run.lost },
  { name: 'lost winners', of: run => Math.max(0, Math.min(run.stock, run.accepted) - run.issued) },
  { name: 'duplicates', of: run => run.duplicates },
  { name: 'oversold', of: run => run.oversold },
];

export function linesOf({ runs, targets, thrownAway, faults }: Comparison): string[] {
  const lines: string[] = [];
  const width = 34;
  const row = (name: string, cells: readonly string[]) =>
    lines.push(`  ${name.padEnd(width)}${cells.map(cell => cell.padStart(13)).join('')}`.trimEnd());
  for (const crowd of new Set(runs.map(run => run.crowd))) {
    const own = runs.filter(run => run.crowd === crowd);
    lines.push(paint('bold', `${crowd}, medians of ${count(new Set(own.map(run => run.round)).size, 'round')}`));
    row('', targets);
    for (const measure of measures) row(measure.name, cellsOf(measure, own, targets));
    lines.push('');
  }
  for (const fault of new Set(faults.map(run => run.fault))) {
    const own = faults.filter(run => run.fault === fault);
    lines.push(paint('bold', `${fault}, ${count(own[0]?.users ?? 0, 'user')} for ${number(own[0]?.stock ?? 0)}`));
    row('', targets);
    const of = (target: string) => own.find(run => run.target === target);
    for (const measure of faultMeasures) {
      row(
        measure.name,
        targets.map(target => (run => (run ? number(measure.of(run)) : '-'))(of(target))),
      );
    }
    lines.push('');
  }
  for (const why of thrownAway) lines.push(`thrown away: ${why}`);
  if (thrownAway.length === 0) lines.push('no round was thrown away: the yardstick stayed within a quarter');
  return lines;
}
