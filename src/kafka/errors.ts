import { Alarm, messageOf, NotAccepted, OutcomeUnknown, Unavailable } from '../errors.ts';

/** What the client throws: trees of errors, whose leaves say what happened at each of its tries. */
interface Leaf {
  message?: string;
  code?: string;
  cause?: { code?: string };
  /** Kafka's name of an error that a broker answered with. */
  apiId?: string;
  /** The client was closed before it tried again. */
  closed?: boolean;
}

/** More leaves say no more: the client keeps one of every try. */
const leavesMax = 10_000;

export function leavesOf(error: unknown): Leaf[] {
  const leaves: Leaf[] = [];
  const open: unknown[] = [error];
  while (open.length > 0 && leaves.length < leavesMax) {
    const e = open.pop();
    if (e instanceof AggregateError && e.errors.length > 0) open.push(...e.errors);
    else leaves.push(e as Leaf);
  }
  return leaves;
}

/** Whether a broker answered with one of these. */
export const answered = (error: unknown, ...apiIds: string[]): boolean =>
  leavesOf(error).some(leaf => leaf.apiId !== undefined && apiIds.includes(leaf.apiId));

/** No connection came about. */
const unconnected = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN']);

/** The broker looked at the batch and did not write it. */
const refusals = new Set([
  'MESSAGE_TOO_LARGE',
  'RECORD_LIST_TOO_LARGE',
  'INVALID_RECORD',
  'INVALID_TIMESTAMP',
  'INVALID_REQUIRED_ACKS',
  'INVALID_TOPIC_EXCEPTION',
  'POLICY_VIOLATION',
  'UNSUPPORTED_FOR_MESSAGE_FORMAT',
  'TOPIC_AUTHORIZATION_FAILED',
  'CLUSTER_AUTHORIZATION_FAILED',
]);

function surelyNotWritten(leaf: Leaf): boolean {
  if (noted.has(leaf)) return true;
  if (leaf.apiId !== undefined) return refusals.has(leaf.apiId);
  if (unconnected.has(leaf.cause?.code ?? leaf.code ?? '')) return true;
  return leaf.closed === true || leaf.message?.startsWith('Client closed while retrying') === true;
}

const noted = new WeakSet<object>();

/**
 * Whether a try that failed surely left nothing in the log. The client keeps the errors of all tries until one
 * succeeds, 20 KB each: with unbounded tries that fills the memory, so all but the message is taken out.
 */
export function noteTry(error: Error): boolean {
  const sure = leavesOf(error).every(surelyNotWritten);
  if (error instanceof AggregateError) error.errors.length = 0;
  error.stack = '';
  error.cause = undefined;
  noted.add(error);
  return sure;
}

/** Only when every try surely left nothing behind is a batch surely not in the log. */
export function appendError(error: unknown, triesSure: boolean): NotAccepted | OutcomeUnknown {
  const why = whyOf(error);
  return triesSure && leavesOf(error).every(surelyNotWritten)
    ? new NotAccepted(`the log did not take the entries: ${why}`)
    : new OutcomeUnknown(`the log did not say whether it holds the entries: ${why}`);
}

/** The last try's reason; the whole tree may hold thousands. */
export function whyOf(error: unknown): string {
  const last = error instanceof AggregateError ? error.errors.at(-1) : undefined;
  return last === undefined ? messageOf(error) : whyOf(last);
}

export const unavailable = (error: unknown): Unavailable =>
  error instanceof Unavailable ? error : new Unavailable(`the log does not answer: ${whyOf(error)}`);

export const cut = (what: string): Alarm =>
  new Alarm(`the log was cut or made anew: ${what}; restore the log, or start over with an empty ledger and store`);
