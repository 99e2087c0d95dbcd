/**
 * A history: what the clients of a sale did and were told, one JSON object a line. All times are ms of one monotonic
 * clock. A call without `to` was never answered; one without `status` broke, so that nothing is known of it.
 */

interface Timed {
  from: number;
  to?: number;
  /** HTTP status of a whole answer. */
  status?: number;
  /** Of its JSON: `code`, `reason`, `taskId`, `state`, `outcome`, `slot`, as far as they are there. */
  body?: Told;
}

/** What an answer or an event says, without what nobody compares. */
export interface Told {
  code?: string;
  reason?: string;
  taskId?: string;
  state?: string;
  ahead?: number;
  outcome?: string;
  slot?: number;
}

export interface Issue extends Timed {
  op: 'issue';
  coupon: string;
  user: string;
  key?: string;
}

/** The terms as they were asked for; times in ms since 1970. */
export interface Create extends Timed {
  op: 'create';
  coupon: string;
  stock: number;
  opensAt: number | null;
  closesAt: number | null;
}

export interface AddStock extends Timed {
  op: 'stock';
  coupon: string;
  add: number;
  key?: string;
}

export interface Close extends Timed {
  op: 'close';
  coupon: string;
}

export interface AskTask extends Timed {
  op: 'task';
  task: string;
}

/** One event of a stream, `progress` or `outcome`. Streams are numbered; a reconnect is another one. */
export interface Frame {
  op: 'frame';
  at: number;
  stream: number;
  task: string;
  event: string;
  body: Told;
}

export type Call = Issue | Create | AddStock | Close | AskTask;
export type HistoryLine = Call | Frame;

const members = ['code', 'reason', 'taskId', 'state', 'ahead', 'outcome', 'slot'] as const;

/** The part of an answer that a history keeps. */
export function toldOf(body: unknown): Told {
  if (typeof body !== 'object' || body === null) return {};
  const all = body as Record<string, unknown>;
  return Object.fromEntries(members.flatMap(name => (all[name] === undefined ? [] : [[name, all[name]]])));
}

const ops = new Set(['issue', 'create', 'stock', 'close', 'task', 'frame']);

/** @throws Error that names the line which is none of a history. */
export const parseHistory = (text: string): HistoryLine[] =>
  parseLines(text, 'history', line => ops.has(line.op as string)) as unknown as HistoryLine[];

export function parseLines(
  text: string,
  what: string,
  fits: (line: Record<string, unknown>) => boolean,
): Record<string, unknown>[] {
  const lines: Record<string, unknown>[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const parsed = parsedOf(line);
    if (!parsed || !fits(parsed)) throw new Error(`line ${i + 1} of the ${what} is none: ${line.slice(0, 80)}`);
    lines.push(parsed);
  }
  return lines;
}

function parsedOf(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
