/**
 * The two logs' languages. Both are JSON, one object an entry with its version, so that a consumer in any language
 * can be added. Versions: an entry of a version that this build does not know stops the stage that meets it; bytes
 * that break their own version are malformed.
 */
import { hash } from 'node:crypto';
import {
  type CouponId,
  isCouponId,
  isRequestKey,
  isStock,
  isUserId,
  type Millis,
  type RequestKey,
  type UserId,
} from './coupon.ts';
import { Alarm } from './errors.ts';
import { type Counts, noCounts, type SaleChange } from './sale.ts';

/** Names of the logs, the brief's. A dead-letter log holds copies; the store's set-aside rows are the truth. */
export const requestLog = 'coupon-issued';
export const changeLog = 'coupon-issued-success';
export const requestDeadLetters = 'coupon-issued-dead-letters';
export const changeDeadLetters = 'coupon-issued-success-dead-letters';
export type LogName = typeof requestLog | typeof changeLog | typeof requestDeadLetters | typeof changeDeadLetters;
export const logNames: readonly LogName[] = [requestLog, changeLog, requestDeadLetters, changeDeadLetters];

/** An entry as the log gives it. `at` is the log's append time. `bytes` is there only when they are not UTF-8. */
export interface LogEntry {
  offset: number;
  at: Millis;
  text: string;
  bytes?: Uint8Array;
  /** What the text says, once somebody has decoded it: an entry that is kept in memory is given to several stages. */
  change?: Change;
}

/** What may stand in the request log. */
export type Entry =
  | { type: 'request'; couponId: CouponId; userId: UserId; key: RequestKey }
  | { type: 'opened'; couponId: CouponId; stock: number; opensAt: Millis | null; closesAt: Millis | null }
  | { type: 'stock_added'; couponId: CouponId; add: number; key: RequestKey }
  | { type: 'closed'; couponId: CouponId }
  | { type: 'malformed'; why: string };

/** An entry at its place. */
export type Located = Entry & { offset: number; at: Millis };

export interface Won {
  type: 'won';
  couponId: CouponId;
  userId: UserId;
  slot: number;
  /** Place of the request that won. */
  offset: number;
  key: RequestKey;
  at: Millis;
}

export interface SaleChanged extends SaleChange {
  type: 'sale';
  couponId: CouponId;
}

export interface RefusedEntry {
  type: 'refused';
  offset: number;
  at: Millis;
  reason: 'malformed';
  why: string;
  /** The entry's bytes, base64. */
  bytes: string;
}

/**
 * Everything before `next` of the request log is decided and stands in the change log before this mark. `clock`,
 * `hash`, `counts` and `strays` are the fold's as of `next`; counts are totals, so that a repeat changes nothing.
 * A mark names the coupons that its range touched.
 */
export interface Mark {
  type: 'mark';
  from: number;
  next: number;
  clock: Millis;
  hash: string;
  counts: Record<string, Counts>;
  strays: Strays;
}

/** Entries that belong to no coupon, in total. */
export interface Strays {
  malformed: number;
  unknown_coupon: number;
}

export type Change = Won | SaleChanged | RefusedEntry | Mark;

const version = 1;

export const encodeRequest = (couponId: CouponId, userId: UserId, key: RequestKey): string =>
  `{"v":1,"type":"request","couponId":"${couponId}","userId":"${userId}","key":"${key}"}`;

export const encodeEntry = (entry: Exclude<Entry, { type: 'malformed' }>): string =>
  entry.type === 'request'
    ? encodeRequest(entry.couponId, entry.userId, entry.key)
    : JSON.stringify({ v: version, ...entry });

export const encodeWon = (w: Won): string =>
  `{"v":1,"type":"won","couponId":"${w.couponId}","userId":"${w.userId}","slot":${w.slot},"offset":${w.offset},"key":"${w.key}","at":${w.at}}`;

export const encodeChange = (change: Change): string =>
  change.type === 'won' ? encodeWon(change) : JSON.stringify({ v: version, ...change });

/** Identifies one entry of one log: two logs that agree on it at a place agree up to there, for all we can tell. */
export const entryHash = (e: LogEntry): string =>
  hash('sha256', `${e.offset}:${e.at}:${e.bytes ? Buffer.from(e.bytes).toString('base64') : e.text}`).slice(0, 16);

/** Throws Alarm for a version this build does not know; anything else that is wrong is `malformed`. */
export function decodeEntry(e: LogEntry): Located {
  const { offset, at } = e;
  const raw = parseVersioned(e, requestLog);
  if (typeof raw === 'string') return { type: 'malformed', why: raw, offset, at };
  const why = entryFault(raw);
  if (why !== undefined) return { type: 'malformed', why, offset, at };
  const { couponId } = raw as { couponId: CouponId };
  switch (raw.type) {
    case 'request':
      return { type: 'request', couponId, userId: raw.userId as UserId, key: raw.key as RequestKey, offset, at };
    case 'opened': {
      const { stock, opensAt, closesAt } = raw as { stock: number; opensAt: Millis | null; closesAt: Millis | null };
      return { type: 'opened', couponId, stock, opensAt, closesAt, offset, at };
    }
    case 'stock_added':
      return { type: 'stock_added', couponId, add: raw.add as number, key: raw.key as RequestKey, offset, at };
    default:
      return { type: 'closed', couponId, offset, at };
  }
}

type Raw = Record<string, unknown>;

function parseVersioned(e: LogEntry, log: LogName): Raw | string {
  if (e.bytes) return 'not UTF-8';
  let raw: unknown;
  try {
    raw = JSON.parse(e.text);
  } catch {
    return 'not JSON';
  }
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return 'not an object';
  const v = (raw as Raw).v;
  if (!Number.isInteger(v) || (v as number) < 1) return 'no version';
  if ((v as number) > version) {
    throw new Alarm(`${log} entry ${e.offset} has version ${v}, this build knows ${version}: run a newer build`);
  }
  return raw as Raw;
}

const isTime = (t: unknown): t is Millis | null =>
  t === null || (Number.isSafeInteger(t) && (t as number) >= 0 && (t as number) <= 8.64e15);

function entryFault(raw: Raw): string | undefined {
  if (!isCouponId(raw.couponId)) return 'bad couponId';
  switch (raw.type) {
    case 'request':
      return !isUserId(raw.userId) ? 'bad userId' : !isRequestKey(raw.key) ? 'bad key' : undefined;
    case 'opened':
      return !isStock(raw.stock) ? 'bad stock' : !isTime(raw.opensAt) || !isTime(raw.closesAt) ? 'bad time' : undefined;
    case 'stock_added':
      return !isStock(raw.add) || raw.add === 0 ? 'bad add' : !isRequestKey(raw.key) ? 'bad key' : undefined;
    case 'closed':
      return undefined;
    default:
      return 'unknown type';
  }
}

/** A change, or the reason why the bytes are not one. Throws Alarm for an unknown version. */
export function decodeChange(e: LogEntry): Change | string {
  if (e.change) return e.change;
  const raw = parseVersioned(e, changeLog);
  if (typeof raw === 'string') return raw;
  const fault = changeFault(raw);
  if (fault !== undefined) return fault;
  e.change = raw as unknown as Change;
  return e.change;
}

const isPlace = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
/** That every store can keep. */
const isText = (t: unknown): t is string => typeof t === 'string' && t.isWellFormed() && !t.includes('\0');
const isRecord = (r: unknown): r is Raw => typeof r === 'object' && r !== null;
const totals = Object.keys(noCounts());
const strays = ['malformed', 'unknown_coupon'] as const;
const isTotals = (given: unknown, names: readonly string[]): boolean =>
  isRecord(given) && names.every(name => isPlace(given[name]));
const phaseNames = new Set<unknown>(['not_open', 'open', 'sold_out', 'closed']);

function changeFault(raw: Raw): string | undefined {
  switch (raw.type) {
    case 'won':
      return isCouponId(raw.couponId) &&
        isUserId(raw.userId) &&
        isRequestKey(raw.key) &&
        isPlace(raw.offset) &&
        isPlace(raw.at) &&
        isPlace(raw.slot)
        ? undefined
        : 'bad won';
    case 'sale':
      return isCouponId(raw.couponId) &&
        isPlace(raw.offset) &&
        isPlace(raw.at) &&
        isStock(raw.stock) &&
        isTime(raw.opensAt) &&
        isTime(raw.closesAt) &&
        typeof raw.closed === 'boolean' &&
        phaseNames.has(raw.phase) &&
        (raw.key === null || isRequestKey(raw.key))
        ? undefined
        : 'bad sale';
    case 'refused':
      return isPlace(raw.offset) && isPlace(raw.at) && isText(raw.bytes) && isText(raw.why) ? undefined : 'bad refused';
    case 'mark':
      return isPlace(raw.from) &&
        isPlace(raw.next) &&
        isPlace(raw.clock) &&
        isText(raw.hash) &&
        isRecord(raw.counts) &&
        Object.keys(raw.counts).every(isCouponId) &&
        Object.values(raw.counts).every(counts => isTotals(counts, totals)) &&
        isTotals(raw.strays, strays)
        ? undefined
        : 'bad mark';
    default:
      return 'unknown type';
  }
}
