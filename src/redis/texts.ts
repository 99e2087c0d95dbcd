/**
 * What the Redis ledger keeps, as text. One hash a partition, `state`, holds everything but the holders:
 *
 * | field | value |
 * |---|---|
 * | next, told, clock, hash, identity, build | as in LedgerPlace |
 * | strays_malformed, strays_unknown | requests that belong to no coupon |
 * | malformed | number of fields m:OFFSET |
 * | m:OFFSET | '1': an entry that could not be read |
 * | s:COUPON | totals and terms: taken:duplicated:closed:not_open:sold_out:stock:opensAt:closesAt:isClosed:phase |
 * | c:COUPON | changes, oldest first, joined by ';': offset:at:stock:opensAt:closesAt:isClosed:phase:key |
 *
 * The terms of s: repeat those of the last change, so that a batch without sale changes need not read c:.
 * Holders are one hash a coupon, userId -> holderText of src/sale.ts. No time or key is '-'.
 * It is not JSON because cjson writes 14 digits and offsets and times may have 16.
 */
import type { Millis, RequestKey } from '../coupon.ts';
import type { Located } from '../entry.ts';
import { type Counts, currentTerms, type Frontier, type Phase, type SaleChange } from '../sale.ts';

const orDash = (value: number | string | null): string => (value === null ? '-' : `${value}`);
const time = (text: string): Millis | null => (text === '-' ? null : Number(text));

export const changeText = (c: SaleChange): string =>
  `${c.offset}:${c.at}:${c.stock}:${orDash(c.opensAt)}:${orDash(c.closesAt)}:${c.closed ? 1 : 0}:${c.phase}:${orDash(c.key)}`;

export function parseChange(text: string): SaleChange {
  const [offset, at, stock, opensAt, closesAt, closed, phase, key] = text.split(':') as string[] &
    [string, string, string, string, string, string, string, string];
  return {
    offset: Number(offset),
    at: Number(at),
    stock: Number(stock),
    opensAt: time(opensAt),
    closesAt: time(closesAt),
    closed: closed === '1',
    phase: phase as Phase,
    key: key === '-' ? null : (key as RequestKey),
  };
}

export const changesText = (changes: readonly SaleChange[]): string => changes.map(changeText).join(';');
export const parseChanges = (text: string): SaleChange[] => text.split(';').map(parseChange);

export function saleText(sale: { changes: SaleChange[]; counts: Counts; taken: number }): string {
  const { duplicated, closed, not_open, sold_out } = sale.counts;
  const terms = currentTerms(sale);
  const counted = `${sale.taken}:${duplicated}:${closed}:${not_open}:${sold_out}`;
  return `${counted}:${terms.stock}:${orDash(terms.opensAt)}:${orDash(terms.closesAt)}:${terms.closed ? 1 : 0}:${terms.phase}`;
}

export function parseCounts(text: string): Counts {
  const [duplicated, closed, not_open, sold_out] = text.split(':').map(Number) as [number, number, number, number];
  return { duplicated, closed, not_open, sold_out };
}

/** Fields of a state besides its sales, for swap.lua: name and value in turn. */
export function frontierFields(
  { next, clock, hash, strays }: Frontier,
  identity: string,
  build: string,
  malformed: readonly number[],
): string[] {
  const places = ['next', `${next}`, 'told', `${next}`, 'clock', `${clock}`, 'hash', hash];
  const names = ['identity', identity, 'build', build, 'malformed', `${new Set(malformed).size}`];
  const counted = ['strays_malformed', `${strays.malformed}`, 'strays_unknown', `${strays.unknown_coupon}`];
  return [...places, ...names, ...counted, ...malformed.flatMap(offset => [`m:${offset}`, '1'])];
}

/** An entry's four arguments of apply.lua. `place` is that of its coupon in the list of those named, from 1. */
export function pushEntry(args: string[], entry: Located, place: number | undefined): void {
  const { offset, at } = entry;
  switch (entry.type) {
    case 'request':
      args.push(`${place}`, entry.userId, `${offset}:${entry.key}:${at}`, `${at}`);
      return;
    case 'opened':
      args.push(`o${place}`, `${entry.stock}:${orDash(entry.opensAt)}:${orDash(entry.closesAt)}`, `${offset}`, `${at}`);
      return;
    case 'stock_added':
      args.push(`a${place}`, `${entry.add}:${entry.key}`, `${offset}`, `${at}`);
      return;
    case 'closed':
      args.push(`c${place}`, '', `${offset}`, `${at}`);
      return;
    case 'malformed':
      args.push('m', '', `${offset}`, `${at}`);
      return;
  }
}
