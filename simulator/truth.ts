/**
 * What is true: the winners and everything else that follows from the request log, computed again as plainly as
 * possible and with nothing of src, so that a mistake there is not made here as well.
 */
export type Phase = 'not_open' | 'open' | 'sold_out' | 'closed';
export type Loss = 'duplicated' | 'closed' | 'not_open' | 'sold_out';

export interface Winner {
  userId: string;
  slot: number;
  offset: number;
  key: string;
  at: number;
}

export interface Change {
  offset: number;
  at: number;
  stock: number;
  opensAt: number | null;
  closesAt: number | null;
  closed: boolean;
  phase: Phase;
  key: string | null;
}

export interface Sale {
  couponId: string;
  changes: Change[];
  /** By slot, which is by offset. */
  winners: Winner[];
  byUser: Map<string, Winner>;
}

export type Verdict =
  | { kind: 'malformed' }
  | { kind: 'unknown_coupon' }
  | { kind: 'won'; winner: Winner }
  | { kind: 'lost'; reason: Loss; holder: Winner | undefined }
  | { kind: 'operator' };

export interface Known {
  offset: number;
  at: number;
  /** Of the partition once this entry is decided. */
  clock: number;
  couponId: string;
  userId: string;
  key: string;
  type: string;
  verdict: Verdict;
  /** Of all sales that it changed: at most one. */
  change: Change | undefined;
}

/** What may stand in the request log. */
interface Raw {
  couponId?: string;
  userId?: string;
  key?: string;
  type?: string;
  stock?: number;
  add?: number;
  opensAt?: number | null;
  closesAt?: number | null;
}

const stockMax = 10_000_000;

export class TruePartition {
  readonly entries: Known[] = [];
  readonly sales = new Map<string, Sale>();
  private clock = 0;

  /** `bad`: its bytes break their own version; who put it there says so. */
  add(text: string, at: number, bad: boolean): Known {
    this.clock = Math.max(this.clock, at);
    const raw = (bad ? {} : JSON.parse(text)) as Raw;
    const { couponId = '', userId = '', key = '', type = '' } = raw;
    const known: Known = {
      ...{ offset: this.entries.length, at, clock: this.clock, couponId, userId, key, type },
      ...{ verdict: { kind: 'operator' }, change: undefined },
    };
    this.entries.push(known);
    if (bad) known.verdict = { kind: 'malformed' };
    else this.decide(known, raw);
    return known;
  }

  /** The phase that an entry at `next` would meet, were it appended at once. */
  phaseAt(couponId: string, next: number): Phase | undefined {
    const sale = this.sales.get(couponId);
    const terms = sale && before(sale.changes, next).at(-1);
    if (!sale || !terms) return undefined;
    return phaseOf(terms, before(sale.winners, next).length, this.clockAt(next));
  }

  clockAt(next: number): number {
    return next === 0 ? 0 : (this.entries[next - 1] as Known).clock;
  }

  countsAt(couponId: string, next: number): Record<Loss, number> {
    const counts = { duplicated: 0, closed: 0, not_open: 0, sold_out: 0 };
    for (const { couponId: id, verdict } of this.entries.slice(0, next)) {
      if (id === couponId && verdict.kind === 'lost') counts[verdict.reason]++;
    }
    return counts;
  }

  straysAt(next: number): { malformed: number; unknown_coupon: number } {
    const strays = { malformed: 0, unknown_coupon: 0 };
    for (const { verdict } of this.entries.slice(0, next)) {
      if (verdict.kind === 'malformed' || verdict.kind === 'unknown_coupon') strays[verdict.kind]++;
    }
    return strays;
  }

  private decide(known: Known, { stock = 0, add = 0, opensAt = null, closesAt = null }: Raw): void {
    const { couponId, offset, at } = known;
    const sale = this.sales.get(couponId);
    const terms = sale?.changes.at(-1);
    if (!sale || !terms) {
      if (known.type === 'request') known.verdict = { kind: 'unknown_coupon' };
      if (known.type !== 'opened') return;
      const opened: Sale = { couponId, changes: [], winners: [], byUser: new Map() };
      this.sales.set(couponId, opened);
      this.change(known, opened, { stock, opensAt, closesAt, closed: false }, null);
      return;
    }
    const phase = phaseOf(terms, sale.winners.length, this.clock);
    if (known.type === 'request') known.verdict = this.request(known, sale, phase);
    else if (known.type === 'closed' && !terms.closed) {
      this.change(known, sale, { ...terms, closed: true }, null);
      return;
    } else if (known.type === 'stock_added' && phase !== 'closed') {
      const raised = terms.stock + add;
      if (raised <= stockMax && !sale.changes.some(change => change.key === known.key)) {
        this.change(known, sale, { ...terms, stock: raised }, known.key);
        return;
      }
    }
    const after = phaseOf(terms, sale.winners.length, this.clock);
    if (after !== terms.phase) {
      known.change = { ...terms, offset, at, phase: after, key: null };
      sale.changes.push(known.change);
    }
  }

  private request({ userId, offset, key, at }: Known, sale: Sale, phase: Phase): Verdict {
    const holder = sale.byUser.get(userId);
    if (holder) return { kind: 'lost', reason: 'duplicated', holder };
    if (phase !== 'open') return { kind: 'lost', reason: phase, holder: undefined };
    const winner: Winner = { userId, slot: sale.winners.length + 1, offset, key, at };
    sale.winners.push(winner);
    sale.byUser.set(userId, winner);
    return { kind: 'won', winner };
  }

  private change(
    known: Known,
    sale: Sale,
    { stock, opensAt, closesAt, closed }: Omit<Change, 'offset' | 'at' | 'phase' | 'key'>,
    key: string | null,
  ): void {
    const { offset, at } = known;
    const terms = { stock, opensAt, closesAt, closed };
    known.change = { offset, at, ...terms, phase: phaseOf(terms, sale.winners.length, this.clock), key };
    sale.changes.push(known.change);
  }
}

export const before = <T extends { offset: number }>(sorted: readonly T[], next: number): T[] =>
  sorted.filter(({ offset }) => offset < next);

function phaseOf(
  { stock, opensAt, closesAt, closed }: Pick<Change, 'stock' | 'opensAt' | 'closesAt' | 'closed'>,
  taken: number,
  clock: number,
): Phase {
  if (closed || (closesAt !== null && closesAt <= clock)) return 'closed';
  if (opensAt !== null && clock < opensAt) return 'not_open';
  return taken < stock ? 'open' : 'sold_out';
}

/** Who has the coupon that a request asked for, once it is decided. */
export const holderOf = (verdict: Verdict): Winner | undefined =>
  verdict.kind === 'won' ? verdict.winner : verdict.kind === 'lost' ? verdict.holder : undefined;

/** How a request ends, in one word a reader can compare: what its task must say when it is done. */
export function endOf({ key, verdict }: Known): string {
  switch (verdict.kind) {
    case 'won':
      return `issued ${verdict.winner.slot}`;
    case 'lost': {
      const { holder, reason } = verdict;
      if (!holder) return reason;
      return `${holder.key === key ? 'issued' : 'duplicated'} ${holder.slot}`;
    }
    case 'malformed':
    case 'unknown_coupon':
      return verdict.kind;
    case 'operator':
      return 'operator';
  }
}
