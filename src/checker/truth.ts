/**
 * What the log gives: its rules told once more, from the documents and with nothing of the service but the codec of an
 * entry. The first `stock` distinct users of a coupon win, in the order of its partition, while its window is open by
 * the greatest append time so far.
 */
import { decodeEntry, type Located } from '../entry.ts';
import { type EntryLine, logEntryOf } from './dump.ts';
import type { Found } from './findings.ts';

export type Phase = 'not_open' | 'open' | 'sold_out' | 'closed';

export interface Win {
  entry: Judged;
  slot: number;
}

/** An entry of the log, and what became of it. */
export interface Judged {
  partition: Partition;
  line: EntryLine;
  entry: Located;
  /** Greatest append time of the partition up to and with it. */
  clock: number;
  verdict:
    | { kind: 'malformed' | 'unknown_coupon' | 'not_open' | 'sold_out' | 'closed' | 'operator' | 'ignored' }
    | { kind: 'won'; win: Win }
    /** `win` is the earlier one of this user. */
    | { kind: 'duplicated'; win: Win };
}

/** The phase of a sale once the entries before `next` are decided. */
interface PhaseSince {
  next: number;
  phase: Phase;
}

export class Sale {
  readonly coupon: string;
  readonly partition: Partition;
  readonly opening: Judged;
  stock: number;
  /** The operator's entry that closed it. */
  closing: Judged | undefined;
  readonly opensAt: number | null;
  readonly closesAt: number | null;
  readonly wins = new Map<string, Win>();
  readonly bySlot: Win[] = [];
  readonly phases: PhaseSince[] = [];
  /** Keys of the stock entries that counted. */
  readonly stocked = new Map<string, Judged>();

  constructor(coupon: string, partition: Partition, opening: Judged) {
    const { stock, opensAt, closesAt } = opening.entry as Extract<Located, { type: 'opened' }>;
    this.coupon = coupon;
    this.partition = partition;
    this.opening = opening;
    this.stock = stock;
    this.opensAt = opensAt;
    this.closesAt = closesAt;
  }

  phaseAt(clock: number): Phase {
    if (this.closing) return 'closed';
    if (this.closesAt !== null && clock >= this.closesAt) return 'closed';
    if (this.opensAt !== null && clock < this.opensAt) return 'not_open';
    return this.bySlot.length < this.stock ? 'open' : 'sold_out';
  }

  /** Whether it was sold out for some length of the log from `low` to `high`, both counted in entries. */
  wasSoldOut(low: number, high: number): boolean {
    return this.phases.some((since, i) => {
      const until = this.phases[i + 1]?.next ?? Number.POSITIVE_INFINITY;
      return since.phase === 'sold_out' && since.next <= high && until > low;
    });
  }

  /** Whether it was closed when the log had `length` entries: by the operator or by the clock, whoever moved it. */
  wasClosed(length: number): boolean {
    const clock = this.partition.clockAt(length);
    if (this.closesAt !== null && clock >= this.closesAt) return true;
    return this.phases.some(({ next, phase }) => phase === 'closed' && next <= length);
  }
}

export class Partition {
  readonly entries: Judged[] = [];
  /** Opened ones. */
  readonly sales = new Map<string, Sale>();
  clock = 0;

  /** Of the first `length` entries. */
  clockAt(length: number): number {
    return this.entries[Math.min(length, this.entries.length) - 1]?.clock ?? 0;
  }
}

export const stockMax = 10_000_000;

export class Truth {
  readonly partitions = new Map<number, Partition>();
  readonly sales = new Map<string, Sale>();
  readonly partitionOf = new Map<string, Partition>();
  /** Requests and stock entries by who asked with which key: see `requestId` and `stockId`. */
  readonly byKey = new Map<string, Judged[]>();

  constructor(lines: readonly EntryLine[], found: Found) {
    const sorted = [...lines].sort((a, b) => a.partition - b.partition || a.offset - b.offset);
    for (const line of sorted) this.take(line, found);
  }

  private take(line: EntryLine, found: Found): void {
    const partition = this.partitions.get(line.partition) ?? new Partition();
    this.partitions.set(line.partition, partition);
    const expected = (partition.entries.at(-1)?.line.offset ?? -1) + 1;
    if (line.offset < expected) {
      found.add('duplicated', 'two entries of one offset', line);
      return;
    }
    if (line.offset > expected) {
      found.add('lost', `entries ${expected} to ${line.offset - 1} are not in the log`, line);
    }
    partition.clock = Math.max(partition.clock, line.at);
    const judged: Judged = {
      partition,
      line,
      entry: decodeEntry(logEntryOf(line)),
      clock: partition.clock,
      verdict: { kind: 'ignored' },
    };
    partition.entries.push(judged);
    this.decide(judged, partition);
    const { entry } = judged;
    if (entry.type !== 'malformed') notePhase(partition.sales.get(entry.couponId), line.offset + 1);
  }

  private decide(judged: Judged, partition: Partition): void {
    const { entry, clock } = judged;
    if (entry.type === 'malformed') {
      judged.verdict = { kind: 'malformed' };
      return;
    }
    this.partitionOf.set(entry.couponId, partition);
    const sale = partition.sales.get(entry.couponId);
    if (entry.type === 'request') this.index(judged, requestId(entry.couponId, entry.userId, entry.key));
    if (entry.type === 'stock_added') this.index(judged, stockId(entry.couponId, entry.key));
    switch (entry.type) {
      case 'request':
        judged.verdict = sale ? request(judged, sale, entry.userId) : { kind: 'unknown_coupon' };
        return;
      case 'opened': {
        if (sale) return;
        judged.verdict = { kind: 'operator' };
        const opened = new Sale(entry.couponId, partition, judged);
        partition.sales.set(entry.couponId, opened);
        this.sales.set(entry.couponId, opened);
        return;
      }
      case 'stock_added': {
        if (!sale || sale.phaseAt(clock) === 'closed') return;
        if (sale.stock + entry.add > stockMax || sale.stocked.has(entry.key)) return;
        sale.stock += entry.add;
        sale.stocked.set(entry.key, judged);
        judged.verdict = { kind: 'operator' };
        return;
      }
      case 'closed':
        if (!sale || sale.closing) return;
        sale.closing = judged;
        judged.verdict = { kind: 'operator' };
    }
  }

  private index(judged: Judged, key: string): void {
    const same = this.byKey.get(key);
    if (same) same.push(judged);
    else this.byKey.set(key, [judged]);
  }
}

function notePhase(sale: Sale | undefined, next: number): void {
  if (!sale) return;
  const phase = sale.phaseAt(sale.partition.clock);
  if (sale.phases.at(-1)?.phase !== phase) sale.phases.push({ next, phase });
}

function request(judged: Judged, sale: Sale, user: string): Judged['verdict'] {
  const before = sale.wins.get(user);
  if (before) return { kind: 'duplicated', win: before };
  const phase = sale.phaseAt(judged.clock);
  if (phase !== 'open') return { kind: phase };
  const win: Win = { entry: judged, slot: sale.bySlot.length + 1 };
  sale.bySlot.push(win);
  sale.wins.set(user, win);
  return { kind: 'won', win };
}

export const requestId = (coupon: string, user: string, key: string): string => `${coupon} ${user} ${key}`;
export const stockId = (coupon: string, key: string): string => `${coupon} + ${key}`;

/** How a request ends, in the words of a task: its outcome, or the reason, with the slot where there is one. */
export function endOf({ entry, verdict }: Judged): string {
  switch (verdict.kind) {
    case 'won':
      return `issued ${verdict.win.slot}`;
    case 'duplicated': {
      const won = verdict.win.entry.entry;
      const same = won.type === 'request' && entry.type === 'request' && won.key === entry.key;
      return `${same ? 'issued' : 'duplicated'} ${verdict.win.slot}`;
    }
    default:
      return verdict.kind;
  }
}
