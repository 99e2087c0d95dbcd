/**
 * Which entry is whose of one request's calls is often open: somebody pressed several times without a key, or again
 * with one key. How many there were is not open: after the second answer two of its entries stand in the log, before
 * the second call at most one.
 */
import type { Request } from './asked.ts';
import { type Issue, isAccepted, isUnknown } from './history.ts';
import type { Begun, Placed } from './places.ts';
import type { Judged, Partition } from './truth.ts';

export interface Bounds {
  /** The entry was in the log by the end of the call, whosever it is. */
  answered: Placed[];
  begun: (Begun & { partition: Partition })[];
}

/** `hasAll`: no entry is of a call that the history does not have. */
export function boundsOf({ calls, entries }: Request, hasAll: boolean): Bounds {
  const accepted = calls.filter(isAccepted);
  const bounds: Bounds = { answered: [], begun: [] };
  // Some are lost, and are said to be: which ones nobody knows.
  if (entries.length < accepted.length) return bounds;
  for (const [i, call] of accepted.toSorted((a, b) => endOf(a) - endOf(b)).entries())
    bounds.answered.push({ call, judged: entries[i] as Judged });
  // Before the last call was begun the last entry was not there, whosever it is.
  const begun = accepted.toSorted((a, b) => a.from - b.from).map((call, i) => ({ call, i: i - accepted.length }));
  const any = calls.filter(call => isAccepted(call) || isUnknown(call)).toSorted((a, b) => a.from - b.from);
  if (hasAll && any.length >= entries.length)
    begun.push(...any.slice(0, entries.length).map((call, i) => ({ call, i })));
  for (const { call, i } of begun) {
    const { line, partition } = entries.at(i) as Judged;
    bounds.begun.push({ from: call.from, offset: line.offset, partition });
  }
  return bounds;
}

const endOf = ({ to = Number.POSITIVE_INFINITY }: Issue): number => to;
