/**
 * A history: what the clients of a sale did and were told, one JSON object a line. All times are ms of one monotonic
 * clock. A call without `to` was never answered; one without `status` broke, so that nothing is known of it.
 */

interface Timed {
  from: number;
  to?: number;
  /** HTTP status of a whole answer. */
  status?: number;
  /** Of its JSON: the members of `Told`, as far as they are there. */
  body?: Told;
}

/** What an answer or an event says, without what nobody compares. */
export interface Told {
  code?: string;
  reason?: string;
  taskId?: string;
  couponId?: string;
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
  /** It was asked for as a stream, and none was opened; one that was is in the history by its frames. */
  stream?: boolean;
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

export const isAccepted = ({ status }: Call): boolean => status === 202;

/** Whether a press may have left an entry without saying so. */
export const isUnknown = ({ status, body }: Call): boolean =>
  status === undefined || (status >= 500 && body?.code !== 'NOT_ACCEPTED' && body?.code !== 'UNAVAILABLE');

const members = ['code', 'reason', 'taskId', 'couponId', 'state', 'ahead', 'outcome', 'slot'] as const;

/** The part of an answer that a history keeps. */
export function toldOf(body: unknown): Told {
  if (typeof body !== 'object' || body === null) return {};
  const all = body as Record<string, unknown>;
  return Object.fromEntries(members.flatMap(name => (all[name] === undefined ? [] : [[name, all[name]]])));
}

type Fits = (value: unknown) => boolean;
/** What the members of a line must be. */
export type Shape = Record<string, Fits>;

export const text: Fits = value => typeof value === 'string';
export const number: Fits = value => Number.isFinite(value);
export const orNull =
  (fits: Fits): Fits =>
  value =>
    value === null || fits(value);
export const maybe =
  (fits: Fits): Fits =>
  value =>
    value === undefined || fits(value);
const boolean: Fits = value => typeof value === 'boolean';
const object: Fits = value => typeof value === 'object' && value !== null;

const call: Shape = { from: number, to: maybe(number), status: maybe(number), body: maybe(object) };
const shapes: Record<HistoryLine['op'], Shape> = {
  issue: { ...call, coupon: text, user: text, key: maybe(text) },
  create: { ...call, coupon: text, stock: number, opensAt: orNull(number), closesAt: orNull(number) },
  stock: { ...call, coupon: text, add: number, key: maybe(text) },
  close: { ...call, coupon: text },
  task: { ...call, task: text, stream: maybe(boolean) },
  frame: { at: number, stream: number, task: text, event: text, body: object },
};

/** A file's lines, or such as there are. */
export type Lines = Iterable<string> | AsyncIterable<string>;

/** @throws Error that names the line which is none of a history. */
export async function parseHistory(lines: Lines): Promise<HistoryLine[]> {
  const history: HistoryLine[] = [];
  await parseLines(lines, 'history', 'op', shapes, line => history.push(line as unknown as HistoryLine));
  return history;
}

/** `kind` names the member that says which of the shapes a line has. */
export async function parseLines(
  lines: Lines,
  what: string,
  kind: string,
  shapes: Record<string, Shape>,
  use: (line: Record<string, unknown>) => void,
): Promise<void> {
  let n = 0;
  for await (const line of lines) {
    n++;
    if (line.trim() === '') continue;
    const parsed = parsedOf(line);
    const name = parsed?.[kind];
    const shape = typeof name === 'string' && Object.hasOwn(shapes, name) ? shapes[name] : undefined;
    const fits = parsed && shape && Object.entries(shape).every(([member, is]) => is(parsed[member]));
    if (!fits) throw new Error(`line ${n} of the ${what} is none: ${line.slice(0, 80)}`);
    use(parsed);
  }
}

function parsedOf(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return object(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    // Whoever asked says which line is none.
    return undefined;
  }
}
