/** Distributions of times, in ms: quantiles and a small bar chart. */
import { duration, number } from './terminal.ts';

export interface Distribution {
  count: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
}

/** Undefined when there is nothing to measure. */
export function distributionOf(times: readonly number[]): Distribution | undefined {
  if (times.length === 0) return undefined;
  const sorted = Float64Array.from(times).sort();
  const at = (q: number) => round(sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? 0);
  return { count: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

const round = (ms: number) => Math.round(ms * 100) / 100;

const barWidth = 32;
const eighths = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

export function bar(share: number): string {
  const parts = Math.max(share > 0 ? 1 : 0, Math.round(share * barWidth * 8));
  return '█'.repeat(Math.floor(parts / 8)) + (eighths[parts % 8] ?? '');
}

/** Bounds of the bins: 1, 2, 5, 10, 20, 50, ... ms. */
function boundsUpTo(max: number): number[] {
  const bounds: number[] = [];
  for (let decade = 1; ; decade *= 10) {
    for (const step of [1, 2, 5]) {
      bounds.push(decade * step);
      if (decade * step >= max) return bounds;
    }
  }
}

/** Lines: the quantiles, then one bar for each bin from the first to the last that holds anything. */
export function histogram(title: string, times: readonly number[]): string[] {
  const distribution = distributionOf(times);
  if (!distribution) return [`${title}: nothing measured`];
  const { p50, p90, p99, max } = distribution;
  const bounds = boundsUpTo(max);
  const bins = new Array<number>(bounds.length).fill(0);
  for (const ms of times) {
    const i = bounds.findIndex(bound => ms <= bound);
    bins[i < 0 ? bins.length - 1 : i] = (bins[i < 0 ? bins.length - 1 : i] ?? 0) + 1;
  }
  const first = bins.findIndex(n => n > 0);
  const most = Math.max(...bins);
  const lines = [
    `${title}   p50 ${duration(p50)}   p90 ${duration(p90)}   p99 ${duration(p99)}   max ${duration(max)}`,
  ];
  for (let i = first; i < bins.length; i++) {
    const n = bins[i] ?? 0;
    lines.push(`  ≤ ${short(bounds[i] ?? 0).padStart(6)}  ${bar(n / most).padEnd(barWidth)}  ${number(n)}`);
  }
  return lines;
}

const short = (ms: number) => (ms < 1_000 ? `${ms} ms` : `${number(ms / 1_000)} s`);
