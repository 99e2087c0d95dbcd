/** What was measured against what was asked for: the table, what falls short, and both kept for bench/README.md. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { median, othersMax, type Summary } from './rounds.ts';

export const out = join(import.meta.dirname, 'out');

export interface Line {
  what: string;
  reach: number;
  aim: number;
  /** Whether more of it is better, or less. */
  better: 'more' | 'less';
  unit: string;
  measured: Summary;
  /** Beside the number, for people. */
  note?: string;
}

export interface Result {
  name: string;
  at: string;
  machine: string;
  lines: Line[];
  /** Everything that was counted on the way. */
  rounds: unknown[];
}

export type Verdict = 'aim' | 'reach' | 'SHORT';

export function verdictOf({ reach, aim, better, measured: { median } }: Line): Verdict {
  const meets = (goal: number) => (better === 'more' ? median >= goal : median <= goal);
  return meets(aim) ? 'aim' : meets(reach) ? 'reach' : 'SHORT';
}

export const machine = (): string => {
  const [cpu] = cpus();
  const gib = Math.round(totalmem() / 2 ** 30);
  return `${cpus().length} x ${cpu?.model.trim()}, ${gib} GiB, Linux ${release()}, Node ${process.versions.node}`;
};

const figure = (n: number, unit: string): string => {
  const digits = n === 0 || Math.abs(n) >= 100 ? 0 : Math.abs(n) >= 10 ? 1 : 2;
  return `${n.toFixed(digits)}${unit && ` ${unit}`}`;
};

const head = ['what', 'reach', 'aim', 'measured', 'verdict'];

function cellsOf(line: Line): string[] {
  const { what, reach, aim, unit, measured, note } = line;
  const { median, min, max, rounds, disturbed } = measured;
  const range = rounds > 1 ? ` (${figure(min, '')} to ${figure(max, '')})` : '';
  const doubt = disturbed > 0 ? `; ${disturbed} of ${rounds} rounds disturbed` : '';
  const measuredText = `${figure(median, unit)}${range}${note ? `; ${note}` : ''}`;
  return [what, figure(reach, unit), figure(aim, unit), measuredText, `${verdictOf(line)}${doubt}`];
}

export function table(lines: readonly Line[]): string {
  const rows = [head, ...lines.map(cellsOf)];
  const widths = head.map((_, i) => Math.max(...rows.map(row => (row[i] as string).length)));
  const text = rows.map(row => `| ${row.map((cell, i) => cell.padEnd(widths[i] as number)).join(' | ')} |`);
  text.splice(1, 0, `|${widths.map(width => '-'.repeat(width + 2)).join('|')}|`);
  return text.join('\n');
}

export function disturbance(lines: readonly Line[]): string {
  const percent = (cores: number) => `${(cores * 100).toFixed(0)} %`;
  const others = lines.map(({ measured }) => measured.others);
  const [middle, most] = [median(others.map(o => o.median)), Math.max(...others.map(o => o.max))];
  return `Other processes took ${percent(middle)} of a core (median), ${percent(most)} at most; from ${percent(othersMax)} on a round counts as disturbed.`;
}

export function shortfalls(lines: readonly Line[]): string[] {
  return lines
    .filter(line => verdictOf(line) === 'SHORT')
    .map(line => {
      const { what, reach, unit, measured } = line;
      return `${what}: ${figure(measured.median, unit)}, ${figure(reach, unit)} was to be reached`;
    });
}

export function keep(result: Result): void {
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, `${result.name}.json`), `${JSON.stringify(result, null, 1)}\n`);
}

/** The last results of each measurement, in the order of `names`. */
export function kept(names: readonly string[]): Result[] {
  if (!existsSync(out)) return [];
  const there = new Set(readdirSync(out));
  return names
    .filter(name => there.has(`${name}.json`))
    .map(name => JSON.parse(readFileSync(join(out, `${name}.json`), 'utf8')) as Result);
}

const [begin, end] = ['<!-- table: node bench/run.ts --paste -->', '<!-- end of table -->'];

/** Puts the last results of all measurements into bench/README.md, between its two marks. */
export function paste(results: readonly Result[]): void {
  const file = join(import.meta.dirname, 'README.md');
  const text = readFileSync(file, 'utf8');
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from)
    throw new Error(`${file} has lost the marks of its table: put "${begin}" and "${end}" back`);
  const days = [...new Set(results.map(({ at }) => at.slice(0, 10)))].sort();
  const lines = results.flatMap(result => result.lines);
  const short = shortfalls(lines);
  const made = [
    `${days.join(', ')}; ${[...new Set(results.map(result => result.machine))].join('; ')}`,
    '',
    table(lines),
    '',
    disturbance(lines),
    '',
    short.length === 0 ? 'Nothing falls short of what was to be reached.' : 'Falls short:',
    ...(short.length === 0 ? [] : ['', ...short.map(line => `- ${line}`)]),
  ];
  writeFileSync(file, `${text.slice(0, from + begin.length)}\n\n${made.join('\n')}\n\n${text.slice(to)}`);
}
