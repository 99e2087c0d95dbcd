import type { Millis, RequestKey } from './coupon.ts';
import { type Holder, phaseOf, type SaleChange } from './sale.ts';

/** What the user is told at the end. An outcome never changes. */
export type Outcome =
  | { outcome: 'issued'; slot: number; at: Millis }
  | { outcome: 'duplicated'; slot: number; at: Millis }
  | { outcome: 'inactive'; reason: 'sold_out' | 'not_open' | 'closed' }
  | { outcome: 'refused'; reason: 'malformed' | 'unknown_coupon' };

/** Where a task is. `done` is for good; the others may still move on. */
export type Status =
  | { state: 'accepted' }
  | { state: 'reserved'; slot: number }
  | { state: 'set_aside' }
  | ({ state: 'done' } & Outcome);

/**
 * What is known of one request's surroundings, read from the ledger and the board, or from one snapshot of the store.
 * `next`: everything before it is decided. `committedNext`: everything before it is in the store.
 */
export interface View {
  next: number;
  committedNext: number;
  holder: Holder | undefined;
  changes: readonly SaleChange[];
  /** The request's own entry could not be read. */
  malformed: boolean;
  /** The holder's row was refused by the store and waits for an operator. */
  holderSetAside: boolean;
  /** Beside a queue: there was no row of the holder, which may die on its way, whatever is committed by now. */
  inHand?: boolean;
}

/** The state of the request at `offset` with `key`. Undefined view: nothing is known at present. */
export function statusOf({ offset, key }: { offset: number; key: RequestKey }, view: View | undefined): Status {
  if (!view || offset >= view.next) return { state: 'accepted' };
  if (view.malformed) return { state: 'done', outcome: 'refused', reason: 'malformed' };
  const { holder } = view;
  if (holder && holder.offset <= offset) {
    const mine = holder.offset === offset || holder.key === key;
    const committed = !view.inHand && holder.offset < view.committedNext;
    if (committed && !view.holderSetAside) {
      return { state: 'done', outcome: mine ? 'issued' : 'duplicated', slot: holder.slot, at: holder.at };
    }
    if (!mine) return { state: 'accepted' };
    return committed ? { state: 'set_aside' } : { state: 'reserved', slot: holder.slot };
  }
  const phase = phaseOf(view.changes, offset);
  switch (phase) {
    case undefined:
      return { state: 'done', outcome: 'refused', reason: 'unknown_coupon' };
    case 'open':
      return { state: 'accepted' };
    default:
      return { state: 'done', outcome: 'inactive', reason: phase };
  }
}
