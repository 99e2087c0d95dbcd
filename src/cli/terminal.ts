/** How things look: colours on a terminal only, numbers with separators, times for people, aligned tables. */
import type { WriteStream } from 'node:tty';

type Colour = 'red' | 'green' | 'yellow' | 'dim' | 'bold';
const codes: Record<Colour, [on: number, off: number]> = {
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  dim: [2, 22],
  bold: [1, 22],
};

/** https://no-color.org: NO_COLOR with any text but the empty one. */
function coloured(stream: NodeJS.WriteStream | WriteStream): boolean {
  return stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
}

export function paint(colour: Colour, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  if (!coloured(stream)) return text;
  const [on, off] = codes[colour];
  return `\x1b[${on}m${text}\x1b[${off}m`;
}

export const print = (line = ''): void => {
  process.stdout.write(`${line}\n`);
};

export const printJson = (value: unknown): void => print(JSON.stringify(value, null, 2));

/** 1234567 -> 1,234,567 */
export const number = (n: number): string => n.toLocaleString('en-US', { maximumFractionDigits: 1 });

/** 1 coupon, 2 coupons, 1,000 coupons */
export const count = (n: number, one: string, many = `${one}s`): string => `${number(n)} ${n === 1 ? one : many}`;

/** Each unit ends where rounding would reach the next one: there is no 1 min 60 s. */
export function duration(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1_000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.round(ms / 60_000);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** 2026-11-22T21:00:00.000Z -> 2026-11-22 21:00:00Z */
export const time = (iso: string | undefined): string =>
  iso === undefined ? '' : iso.replace('T', ' ').replace(/\.\d+Z$/, 'Z');

/** What is written to a terminal must not steer it: control characters show as escapes. */
export const plain = (text: string): string =>
  text.replace(/\p{Cc}/gu, c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

export interface Column<T> {
  head: string;
  of(row: T): string | number | undefined;
}

/** Numbers to the right, the rest to the left. */
export function table<T>(rows: readonly T[], columns: readonly Column<T>[]): string {
  const right = columns.map(column => rows.some(row => typeof column.of(row) === 'number'));
  const cells = rows.map(row =>
    columns.map(column => {
      const value = column.of(row);
      return typeof value === 'number' ? number(value) : plain(value ?? '');
    }),
  );
  const heads = columns.map(column => column.head);
  const widths = heads.map((head, i) => Math.max(head.length, ...cells.map(row => row[i]?.length ?? 0)));
  const line = (row: string[]) =>
    row
      .map((cell, i) => (right[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  return [paint('dim', line(heads)), ...cells.map(line)].join('\n');
}

/** As JSON if asked for; else a table, or the sentence `none` where there is nothing. */
export function printRows<T>(
  rows: readonly T[],
  json: boolean | undefined,
  none: string,
  columns: readonly Column<T>[],
): void {
  if (json) printJson(rows);
  else print(rows.length === 0 ? none : table(rows, columns));
}

/** Aligned `name  value` lines. */
export function pairs(rows: readonly (readonly [name: string, value: string | undefined])[]): string {
  const shown = rows.filter((row): row is readonly [string, string] => row[1] !== undefined && row[1] !== '');
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${paint('dim', name.padEnd(width))}  ${plain(value)}`).join('\n');
}

/** A line that is written over and over on a terminal's stderr; elsewhere each text that differs is a line. */
export class StatusLine {
  readonly #stream = process.stderr;
  #last = '';

  get live(): boolean {
    return this.#stream.isTTY === true;
  }

  show(text: string): void {
    if (text === this.#last) return;
    this.#last = text;
    if (!this.live) {
      this.#stream.write(`${text}\n`);
      return;
    }
    const width = Math.max(20, (this.#stream.columns ?? 80) - 1);
    this.#stream.write(`\r\x1b[2K${text.length > width ? `${text.slice(0, width - 1)}…` : text}`);
  }

  clear(): void {
    if (this.live && this.#last !== '') this.#stream.write('\r\x1b[2K');
    this.#last = '';
  }
}
