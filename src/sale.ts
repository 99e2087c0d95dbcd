/**
 * The fold. A sale is what comes out of reading its requests in the order of the log: the first `stock` distinct
 * users win, nothing else. `decide` is pure; `PartitionFold` keeps the state of one partition of the log. The Lua
 * script of the Redis ledger is its twin: the same traces must give the same decisions (test/twins.test.ts).
 */
import type { Millis, RequestKey, UserId } from './coupon.ts';
import type { Change, Located, Mark, SaleChanged, Strays, Won } from './entry.ts';
import { stockMax } from './limits.ts';

export type Phase = 'not_open' | 'open' | 'sold_out' | 'closed';

/** The whole sale after something changed it: its opening, stock, close, or a phase that began, by the clock too. */
export interface SaleChange {
  /** The entry that changed it; the phase holds for that entry too (a winner of the last slot has its slot). */
  offset: number;
  at: Millis;
  stock: number;
  opensAt: Millis | null;
  closesAt: Millis | null;
  closed: boolean;
  phase: Phase;
  /** The key of the stock entry that made this change. */
  key: RequestKey | null;
}

/** Requests that did not win, in total, by reason. */
export interface Counts {
  duplicated: number;
  closed: number;
  not_open: number;
  sold_out: number;
}
export const noCounts = (): Counts => ({ duplicated: 0, closed: 0, not_open: 0, sold_out: 0 });
export type LossReason = keyof Counts;

export interface Holder {
  slot: number;
  offset: number;
  key: RequestKey;
  at: Millis;
}

/** `slot:offset:key:at`. Nothing in it is a space, as nothing in a user's id is. */
export const holderText = ({ slot, offset, key, at }: Holder): string => `${slot}:${offset}:${key}:${at}`;

export function parseHolder(text: string): Holder {
  const [slot, offset, key, at] = text.split(':');
  return { slot: Number(slot), offset: Number(offset), key: key as RequestKey, at: Number(at) };
}

/**
 * Holders in pairs, or as one text of `userId holderText` after another with a space between all of them: text goes
 * from one server to another without an object for each holder.
 */
export type HolderList = [UserId, Holder][] | string;

export const holdersText = (list: HolderList): string =>
  typeof list === 'string' ? list : list.map(([userId, holder]) => `${userId} ${holderText(holder)}`).join(' ');

export function holderPairs(list: HolderList): [UserId, Holder][] {
  if (typeof list !== 'string') return list;
  const words = list.split(' ');
  const pair = (_: unknown, i: number): [UserId, Holder] => [
    words[2 * i] as UserId,
    parseHolder(words[2 * i + 1] as string),
  ];
  return Array.from({ length: words.length / 2 }, pair);
}

export interface Sale {
  changes: SaleChange[];
  taken: number;
  holders: Holders;
  counts: Counts;
}

export type Decision =
  | { kind: 'won'; slot: number }
  | { kind: 'lost'; reason: LossReason }
  | { kind: 'stray'; reason: keyof Strays }
  /** The terms of the sale after an operator's entry. */
  | { kind: 'terms'; stock: number; opensAt: Millis | null; closesAt: Millis | null; closed: boolean }
  /** An operator's entry that changes nothing: a repeat, or one that comes too late or asks for too much. */
  | { kind: 'unchanged' };

type Terms = Pick<SaleChange, 'stock' | 'opensAt' | 'closesAt' | 'closed'>;

export function phaseAt(terms: Terms, taken: number, clock: Millis): Phase {
  if (terms.closed || (terms.closesAt !== null && clock >= terms.closesAt)) return 'closed';
  if (terms.opensAt !== null && clock < terms.opensAt) return 'not_open';
  return taken >= terms.stock ? 'sold_out' : 'open';
}

/**
 * What the log's next entry means, given the sale before it. `clock` is the greatest append time of the partition
 * up to and with this entry. Order of precedence: malformed, unknown coupon, duplicated, closed, not open, sold out, won.
 */
export function decide(sale: Sale | undefined, clock: Millis, entry: Located): Decision {
  switch (entry.type) {
    case 'malformed':
      return { kind: 'stray', reason: 'malformed' };
    case 'opened': {
      if (sale) return { kind: 'unchanged' };
      return { kind: 'terms', stock: entry.stock, opensAt: entry.opensAt, closesAt: entry.closesAt, closed: false };
    }
    case 'stock_added': {
      if (!sale) return { kind: 'unchanged' };
      const terms = currentTerms(sale);
      const stock = terms.stock + entry.add;
      const refused = phaseAt(terms, sale.taken, clock) === 'closed' || stock > stockMax;
      if (refused || sale.changes.some(c => c.key === entry.key)) return { kind: 'unchanged' };
      return { kind: 'terms', stock, opensAt: terms.opensAt, closesAt: terms.closesAt, closed: false };
    }
    case 'closed': {
      if (!sale || currentTerms(sale).closed) return { kind: 'unchanged' };
      return { kind: 'terms', ...termsOf(currentTerms(sale)), closed: true };
    }
    case 'request': {
      if (!sale) return { kind: 'stray', reason: 'unknown_coupon' };
      if (sale.holders.has(entry.userId)) return { kind: 'lost', reason: 'duplicated' };
      const phase = phaseAt(currentTerms(sale), sale.taken, clock);
      return phase === 'open' ? { kind: 'won', slot: sale.taken + 1 } : { kind: 'lost', reason: phase };
    }
  }
}

const termsOf = ({ stock, opensAt, closesAt, closed }: Terms): Terms => ({ stock, opensAt, closesAt, closed });

/** A sale exists only once it was opened, so it has at least that change. */
export const currentTerms = (sale: Pick<Sale, 'changes'>): SaleChange =>
  sale.changes[sale.changes.length - 1] as SaleChange;

/** The phase that held for an entry at `offset`: undefined before the coupon was opened. */
export function phaseOf(changes: readonly SaleChange[], offset: number): Phase | undefined {
  for (let i = changes.length - 1; i >= 0; i--) {
    const change = changes[i] as SaleChange;
    if (change.offset <= offset) return change.phase;
  }
  return undefined;
}

/** The fold's state besides the sales, as of `next`. */
export interface Frontier {
  next: number;
  clock: Millis;
  /** entryHash of the entry before `next`; empty at the beginning. */
  hash: string;
  strays: Strays;
}

/** One partition of the request log, folded up to `next`. */
export class PartitionFold {
  frontier: Frontier = { next: 0, clock: 0, hash: '', strays: { malformed: 0, unknown_coupon: 0 } };
  readonly sales = new Map<string, Sale>();
  /** Offsets of malformed entries: their tasks, if any, are refused. */
  readonly malformed = new Set<number>();

  /** Decides the entry at `next` and returns what it changed, in order. The caller moves `next` and `hash` on. */
  decide(entry: Located): (Won | SaleChanged)[] {
    const { frontier } = this;
    if (entry.at > frontier.clock) frontier.clock = entry.at;
    let sale = entry.type === 'malformed' ? undefined : this.sales.get(entry.couponId);
    const decision = decide(sale, frontier.clock, entry);
    const changes: (Won | SaleChanged)[] = [];
    if (entry.type === 'malformed' || decision.kind === 'stray') {
      if (entry.type === 'malformed') this.malformed.add(entry.offset);
      frontier.strays[entry.type === 'malformed' ? 'malformed' : 'unknown_coupon']++;
      return changes;
    }
    if (decision.kind === 'won' && sale && entry.type === 'request') {
      const { couponId, userId, offset, key, at } = entry;
      sale.taken = decision.slot;
      sale.holders.add(userId, { slot: decision.slot, offset, key, at });
      changes.push({ type: 'won', couponId, userId, slot: decision.slot, offset, key, at });
    }
    if (decision.kind === 'lost' && sale) sale.counts[decision.reason]++;
    if (decision.kind === 'terms' && !sale) {
      sale = { changes: [], taken: 0, holders: new Holders(), counts: noCounts() };
      this.sales.set(entry.couponId, sale);
    }
    if (!sale) return changes;
    const terms = decision.kind === 'terms' ? decision : currentTerms(sale);
    const phase = phaseAt(terms, sale.taken, frontier.clock);
    if (decision.kind === 'terms' || phase !== currentTerms(sale).phase) {
      const key = decision.kind === 'terms' && entry.type === 'stock_added' ? entry.key : null;
      const change: SaleChange = { offset: entry.offset, at: entry.at, ...termsOf(terms), phase, key };
      sale.changes.push(change);
      changes.push({ type: 'sale', couponId: entry.couponId, ...change });
    }
    return changes;
  }

  /** What an entry before `next` changed when it was decided, from the record. */
  recorded(entry: Located): (Won | SaleChanged)[] {
    if (entry.type === 'malformed') return [];
    const sale = this.sales.get(entry.couponId);
    if (!sale) return [];
    const { couponId, offset } = entry;
    const changes: (Won | SaleChanged)[] = [];
    if (entry.type === 'request') {
      const holder = sale.holders.get(entry.userId);
      if (holder?.offset === offset) changes.push({ type: 'won', couponId, userId: entry.userId, ...holder });
    }
    for (const change of sale.changes)
      if (change.offset === offset) changes.push({ type: 'sale', couponId, ...change });
    return changes;
  }

  /** The change log is the fold's other face: following it gives the same state. Repeats change nothing. */
  follow(change: Change): void {
    switch (change.type) {
      case 'won': {
        const sale = this.sales.get(change.couponId);
        // Slots are given in order, and so they come: one that is taken is a repeat.
        if (sale && change.slot > sale.taken) sale.taken = change.slot;
        else return;
        sale.holders.add(change.userId, change);
        return;
      }
      case 'sale': {
        const { type: _, couponId, ...saleChange } = change;
        const sale = this.sales.get(couponId);
        if (!sale) {
          this.sales.set(couponId, { changes: [saleChange], taken: 0, holders: new Holders(), counts: noCounts() });
        } else if (currentTerms(sale).offset < saleChange.offset) sale.changes.push(saleChange);
        return;
      }
      case 'refused':
        this.malformed.add(change.offset);
        return;
      case 'mark':
        this.followMark(change);
        return;
    }
  }

  private followMark({ next, clock, hash, counts, strays }: Mark): void {
    if (next <= this.frontier.next) return;
    this.frontier = { next, clock, hash, strays: { ...strays } };
    for (const [couponId, c] of Object.entries(counts)) {
      const sale = this.sales.get(couponId);
      if (sale) sale.counts = { ...c };
    }
  }
}

const hex8 = (n: number): string => n.toString(16).padStart(8, '0');

/** Few, so that a coupon of few takes little, and that tests and simulations see it grow. */
const holdersMin = 4;

/** Holders of one coupon, packed in the order they came: a million of them take about 110 MB. */
export class Holders {
  private readonly places = new Map<string, number>();
  private slots = new Float64Array(holdersMin);
  private offsets = new Float64Array(holdersMin);
  private ats = new Float64Array(holdersMin);
  /** Two halves each: a BigInt a holder would double the time it takes to load them. */
  private keys = new Uint32Array(2 * holdersMin);

  get size(): number {
    return this.places.size;
  }

  has(userId: string): boolean {
    return this.places.has(userId);
  }

  get(userId: string): Holder | undefined {
    const i = this.places.get(userId);
    if (i === undefined) return undefined;
    const [high, low] = [this.keys[2 * i] as number, this.keys[2 * i + 1] as number];
    const key = `${hex8(high)}${hex8(low)}` as RequestKey;
    return { slot: this.slots[i] as number, offset: this.offsets[i] as number, key, at: this.ats[i] as number };
  }

  /** The user holds none: asking for it here again would be a third of what a holder costs. */
  add(userId: UserId, { slot, offset, key, at }: Holder): void {
    const i = this.places.size;
    if (i === this.offsets.length) this.grow();
    this.places.set(userId, i);
    this.slots[i] = slot;
    this.offsets[i] = offset;
    this.ats[i] = at;
    this.keys[2 * i] = Number.parseInt(key.slice(0, 8), 16);
    this.keys[2 * i + 1] = Number.parseInt(key.slice(8), 16);
  }

  *entries(): Generator<[UserId, Holder]> {
    for (const userId of this.places.keys()) yield [userId as UserId, this.get(userId) as Holder];
  }

  private grow(): void {
    const length = 2 * this.offsets.length;
    const grown = <T extends Float64Array | Uint32Array>(from: T, to: T): T => {
      to.set(from);
      return to;
    };
    this.slots = grown(this.slots, new Float64Array(length));
    this.offsets = grown(this.offsets, new Float64Array(length));
    this.ats = grown(this.ats, new Float64Array(length));
    this.keys = grown(this.keys, new Uint32Array(2 * length));
  }
}
