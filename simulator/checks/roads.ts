/** Checks of what the stages do: ledger, change log, rows and board, each at the moment it changes. */
import { hash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { CouponId } from '../../src/coupon.ts';
import { changeLog, type LogEntry, type LogName, requestLog } from '../../src/entry.ts';
import type { Applied, ApplyBatch, Committed } from '../../src/ports.ts';
import type { Life } from '../scheduler.ts';
import type { SharedBoard, SharedLedger } from '../servers.ts';
import type { MemoryStore } from '../store.ts';
import { before, type Known, type TruePartition } from '../truth.ts';
import { type Facts, rowId, type Spell } from './facts.ts';

interface Shared {
  ledger: SharedLedger;
  store: MemoryStore;
  board: SharedBoard;
}

export class RoadChecks {
  /** Set while a bad entry is put into a log on purpose. */
  puttingBad = false;
  private readonly facts: Facts;
  private readonly shared: Shared;
  /** What was told of is in the change log for good. */
  private readonly toldChecked: number[];
  private readonly lastFirst: number[];
  private readonly markNext: number[];
  private readonly hashes: string[][];
  private readonly checkpoints: { next: number; changeNext: number; storeBacks: number }[];

  constructor(facts: Facts, shared: Shared) {
    this.facts = facts;
    this.shared = shared;
    this.toldChecked = facts.truth.map(() => 0);
    this.lastFirst = facts.truth.map(() => -1);
    this.markNext = facts.truth.map(() => 0);
    this.hashes = facts.truth.map(() => []);
    this.checkpoints = facts.truth.map(() => ({ next: 0, changeNext: 0, storeBacks: 0 }));
  }

  appended(log: LogName, partition: number, entries: readonly LogEntry[]): void {
    if (log === requestLog) for (const entry of entries) this.requested(partition, entry);
    if (log === changeLog) for (const entry of entries) this.changed(partition, entry);
  }

  private requested(partition: number, entry: LogEntry): void {
    const { facts } = this;
    this.truth(partition).add(entry.text, entry.at, this.puttingBad);
    facts.appendedAt[partition]?.push(facts.now);
    this.hashes[partition]?.push(hashOf(entry));
  }

  private changed(partition: number, entry: LogEntry) {
    const { facts } = this;
    if (this.puttingBad) {
      facts.unreadable[partition]?.push(entry.offset);
      return;
    }
    const raw = JSON.parse(entry.text) as Record<string, never>;
    const truth = this.truth(partition);
    if (raw.type === 'mark') return this.marked(partition, truth, raw);
    const { type, offset } = raw as unknown as { type: string; offset: number };
    const id = `${type} ${offset}`;
    const ought = changesOf(truth.entries[offset]).find(change => change.startsWith(`${type} `));
    facts.expect(ought === lineOf(raw), 'changes_true', () => `${lineOf(raw)} stands there, the log gives ${ought}`);
    const seen = facts.changesSeen[partition] as Set<string>;
    if (seen.has(id)) return;
    seen.add(id);
    const [last, mark] = [this.lastFirst[partition] as number, this.markNext[partition] as number];
    facts.expect(offset >= last, 'changes_in_order', () => `${id} comes first after a change of ${last}`);
    facts.expect(offset >= mark, 'marks_whole', () => `${id} comes first after the mark of ${mark}`);
    this.lastFirst[partition] = Math.max(last, offset);
  }

  private marked(partition: number, truth: TruePartition, raw: Record<string, never>): void {
    const { facts } = this;
    const { from, next, clock, hash, counts, strays } = raw as unknown as {
      [K in 'from' | 'next' | 'clock']: number;
    } & { hash: string; counts: Record<string, Record<string, number>>; strays: unknown };
    const mark = this.markNext[partition] as number;
    facts.expect(next <= truth.entries.length, 'marks_true', () => `a mark of ${next} beyond the log`);
    facts.expect(from <= mark, 'marks_true', () => `a mark from ${from} after one of ${mark}: a hole`);
    const has = [clock, hash, strays];
    const ought = [truth.clockAt(next), this.hashAt(partition, next), truth.straysAt(next)];
    facts.expect(
      same(has, ought),
      'marks_true',
      () => `the mark of ${next} says ${show(has)}, the fold is ${show(ought)}`,
    );
    for (const [couponId, total] of Object.entries(counts)) {
      const should = truth.countsAt(couponId, next);
      facts.expect(
        same(total, should),
        'marks_true',
        () => `the mark of ${next} counts ${show(total)}, the fold ${show(should)}`,
      );
    }
    for (const { couponId } of truth.entries.slice(mark, next)) {
      const isMissing = truth.sales.has(couponId) && !counts[couponId] && truth.phaseAt(couponId, next) !== undefined;
      facts.expect(!isMissing, 'marks_true', () => `the mark of ${next} does not name ${couponId}`);
    }
    const seen = facts.changesSeen[partition] as Set<string>;
    for (const known of truth.entries.slice(mark, next)) {
      for (const id of idsOf(known))
        facts.expect(seen.has(id), 'marks_whole', () => `${id} is not before the mark of ${next}`);
    }
    this.markNext[partition] = Math.max(mark, next);
  }

  applied(partition: number, batch: ApplyBatch, applied: Applied): void {
    if (applied.kind !== 'applied') return;
    const { facts } = this;
    const truth = this.truth(partition);
    const ought = truth.entries
      .slice(batch.from, batch.next)
      .flatMap(changesOf)
      .filter(line => !line.startsWith('refused'));
    const has = applied.changes.map(change => lineOf(change as never));
    facts.expect(
      has.join() === ought.join(),
      'ledger_true',
      () => `decided ${has} from ${batch.from} to ${batch.next}, ought ${ought}`,
    );
    this.decided(partition);
  }

  told(partition: number, told: number | undefined): void {
    if (told === undefined) return;
    const { facts } = this;
    const next = this.shared.ledger.stateOf(partition)?.fold.frontier.next ?? told;
    facts.expect(told <= next, 'told_acknowledged', () => `told up to ${told}, and only ${next} are decided`);
    const seen = facts.changesSeen[partition] as Set<string>;
    const checked = this.toldChecked[partition] as number;
    this.toldChecked[partition] = Math.max(checked, told);
    for (const known of this.truth(partition).entries.slice(checked, told)) {
      for (const id of idsOf(known))
        facts.expect(seen.has(id), 'told_acknowledged', () => `told up to ${told}, and ${id} is not in the change log`);
    }
  }

  /** The ledger's whole state is the fold at its next. */
  rebuilt(partition: number): void {
    this.ledgerIsTrue(partition, 'rebuild_true');
    this.decided(partition);
  }

  ledgerIsTrue(partition: number, check: 'rebuild_true' | 'ledger_true'): void {
    const { facts } = this;
    const state = this.shared.ledger.stateOf(partition);
    if (!state) return;
    const { fold, told } = state;
    // It lost a holder, and notices when it is asked for that sale.
    if ([...fold.sales.values()].some(sale => sale.taken !== sale.holders.size)) return;
    const { next, clock, hash, strays } = fold.frontier;
    const truth = this.truth(partition);
    const frontier = [clock, hash, strays];
    const ought = [truth.clockAt(next), this.hashAt(partition, next), truth.straysAt(next)];
    facts.expect(told <= next, check, () => `told is ${told}, next is ${next}`);
    facts.expect(same(frontier, ought), check, () => `at ${next} it is ${show(frontier)}, ought ${show(ought)}`);
    const malformed = truth.entries.slice(0, next).filter(({ verdict }) => verdict.kind === 'malformed');
    const [bad, oughtBad] = [[...fold.malformed].sort((a, b) => a - b), malformed.map(({ offset }) => offset)];
    facts.expect(same(bad, oughtBad), check, () => `at ${next} it has ${bad} malformed, ought ${oughtBad}`);
    for (const [couponId, sale] of truth.sales) {
      const changes = before(sale.changes, next);
      const there = fold.sales.get(couponId);
      if (changes.length === 0) continue;
      const has = there && [
        there.taken,
        there.changes,
        there.counts,
        [...there.holders.entries()].map(([u, h]) => `${u} ${h.slot} ${h.offset} ${h.key} ${h.at}`).sort(),
      ];
      const winners = before(sale.winners, next);
      const should = [
        winners.length,
        changes,
        truth.countsAt(couponId, next),
        winners.map(w => `${w.userId} ${w.slot} ${w.offset} ${w.key} ${w.at}`).sort(),
      ];
      facts.expect(same(has, should), check, () => `${couponId} at ${next} is ${show(has)}, ought ${show(should)}`);
    }
  }

  /** Notes where the ledger is; called whenever that may have changed. */
  decided(partition: number): void {
    const { facts } = this;
    const next = this.shared.ledger.stateOf(partition)?.fold.frontier.next ?? 0;
    const most = facts.nextMax[partition] as number;
    facts.note(facts.behind[partition] as Spell, next < most);
    for (let offset = most; offset < next; offset++) (facts.decidedAt[partition] as number[])[offset] = facts.now;
    facts.nextMax[partition] = Math.max(most, next);
    // The board may have gone back as well.
    this.compared(partition, false);
  }

  /** Once the store went back a board that was ahead of it is not believed before it was written whole again. */
  private compared(partition: number, isWhole: boolean): void {
    const { facts, shared } = this;
    if (facts.storeBacks === 0) return;
    const ahead = facts.boardAhead[partition] as Spell;
    const isAhead =
      (shared.board.stateOf(partition)?.changeNext ?? 0) > shared.store.checkpointOf(partition).changeNext;
    facts.note(ahead, isAhead || (ahead.now && !isWhole));
  }

  couponCreated(couponId: string): void {
    const { createdAt } = this.facts;
    if (!createdAt.has(couponId)) createdAt.set(couponId, this.facts.now);
  }

  committed(partition: number, committed: Committed): void {
    if (committed.kind === 'committed') this.stored(partition);
  }

  /** A process that lives on appends copies of those whom the store refused. */
  knowsRefused(life: Life, partition: number, committed: Committed): void {
    if (committed.kind !== 'committed') return;
    for (const { offset } of committed.refused) this.facts.uncopied.set(`${life.name} ${partition} ${offset}`, life);
  }

  copies(life: Life, partition: number, values: readonly string[]): void {
    for (const value of values) {
      const { offset, log } = JSON.parse(value) as { offset: number; log: LogName };
      if (log === requestLog) this.facts.uncopied.delete(`${life.name} ${partition} ${offset}`);
    }
  }

  /** A copy could not be appended: nothing is owed of those that were to go behind it, their rows are there. */
  givesUpCopies(life: Life, partition: number): void {
    const { uncopied } = this.facts;
    for (const id of uncopied.keys()) if (id.startsWith(`${life.name} ${partition} `)) uncopied.delete(id);
  }

  /** All that the store holds of a partition. */
  stored(partition: number): void {
    const { facts } = this;
    const { store } = this.shared;
    const truth = this.truth(partition);
    const { next, changeNext, clock, hash, strays } = store.checkpointOf(partition);
    const last = this.checkpoints[partition] as (typeof this.checkpoints)[number];
    const forward = last.storeBacks < facts.storeBacks || (next >= last.next && changeNext >= last.changeNext);
    facts.expect(forward, 'checkpoint_forward', () => `from ${show(last)} to ${next}, ${changeNext}`);
    this.checkpoints[partition] = { next, changeNext, storeBacks: facts.storeBacks };
    facts.checkpointMax[partition] = Math.max(next, facts.checkpointMax[partition] as number);
    const storedAt = facts.storedAt[partition] as number[];
    for (let offset = Math.min(last.next, next); offset < next; offset++) storedAt[offset] = facts.now;
    this.compared(partition, false);
    // What was read before it went back is still on its way.
    if (last.storeBacks < facts.storeBacks) (facts.boardAhead[partition] as Spell).until = facts.now;
    const [has, ought] = [
      [clock, hash, strays],
      [truth.clockAt(next), this.hashAt(partition, next), truth.straysAt(next)],
    ];
    facts.expect(same(has, ought), 'checkpoint_true', () => `at ${next} it is ${show(has)}, ought ${show(ought)}`);
    const aside = store.letters(partition);
    const asideAt = new Set(aside.filter(letter => letter.log === requestLog).map(letter => letter.offset));
    for (const { slot, offset } of aside) {
      if (slot === null) continue;
      facts.asideEver[partition]?.add(offset);
      const { userId = '' } = truth.entries[offset] ?? {};
      const isBarred = store.barredEver.has(userId);
      facts.expect(
        isBarred,
        'set_aside_true',
        () => `the winner ${offset} is set aside, and ${userId} was never barred`,
      );
    }
    for (const { offset, verdict } of truth.entries.slice(0, next)) {
      if (verdict.kind !== 'malformed' || asideAt.has(offset)) continue;
      facts.fail('letters_kept', `the malformed entry ${offset} is not set aside`);
    }
    facts.rowsNow[partition]?.clear();
    for (const { couponId, issued } of store.issuedOf(partition))
      this.couponStored(partition, couponId, issued, next, asideAt);
  }

  private couponStored(
    partition: number,
    couponId: CouponId,
    issued: number,
    next: number,
    asideAt: ReadonlySet<number>,
  ): void {
    const { facts } = this;
    const sale = this.truth(partition).sales.get(couponId);
    const stock = Math.max(0, ...(sale?.changes ?? []).map(change => change.stock));
    const users = new Set<string>();
    const rows = this.shared.store.rowsOf(couponId);
    for (const row of rows) {
      const id = rowId(row);
      facts.rowsEver.add(id);
      facts.rowsNow[partition]?.add(id);
      facts.expect(!users.has(row.userId), 'one_a_user', () => `${row.userId} has two rows of ${couponId}`);
      users.add(row.userId);
      const won = sale?.byUser.get(row.userId);
      const isTrue =
        won && won.slot === row.slot && won.offset === row.offset && won.key === row.key && won.at === row.issuedAt;
      facts.expect(isTrue === true, 'rows_true', () => `${show(row)} is there, won was ${show(won)}`);
    }
    const { length } = rows;
    facts.expect(length <= stock && issued <= stock, 'no_oversell', () => `${couponId} has ${length} rows of ${stock}`);
    facts.expect(length === issued, 'rows_true', () => `${couponId} counts ${issued}, has ${length}`);
    for (const winner of before(sale?.winners ?? [], next)) {
      const kept = users.has(winner.userId) || asideAt.has(winner.offset);
      facts.expect(kept, 'rows_complete', () => `${show(winner)} has no row below the checkpoint ${next}`);
    }
  }

  /** The statistics' place has passed these changes: whatever they say is counted. */
  counted(partition: number, entries: readonly LogEntry[]): void {
    const { facts } = this;
    const greatest = new Map<string, Record<string, number>>();
    for (const { offset, text } of entries) {
      if (facts.unreadable[partition]?.includes(offset)) continue;
      const raw = JSON.parse(text) as { type: string; couponId: string; slot: number; counts: typeof totals };
      const totals: Record<string, Record<string, number>> = raw.type === 'mark'
        ? raw.counts
        : raw.type === 'won'
          ? { [raw.couponId]: { issued: raw.slot } }
          : {};
      for (const [couponId, total] of Object.entries(totals)) {
        const most = greatest.get(couponId) ?? {};
        for (const [name, n] of Object.entries(total)) most[name] = Math.max(most[name] ?? 0, n);
        greatest.set(couponId, most);
      }
    }
    for (const [couponId, most] of greatest) {
      const has = this.shared.store.countedOf(couponId);
      const isThere = facts.countsTorn || Object.entries(most).every(([name, n]) => (has[name] ?? 0) >= n);
      facts.expect(isThere, 'stats_true', () => `${couponId} is counted as ${show(has)} behind ${show(most)}`);
    }
  }

  shown(partition: number, isWhole = false): void {
    // A commit that the store has lost since may have been on its way here.
    this.compared(partition, isWhole);
    const { facts } = this;
    const shown = this.shared.board.stateOf(partition)?.committedNext ?? 0;
    const most = facts.checkpointMax[partition] as number;
    facts.expect(shown <= most, 'board_true', () => `it shows ${shown} as committed, the store was at ${most}`);
  }

  /** By who read the board as it was until now, `seen`, and knows where the store is. */
  restored(partition: number, given: number, seen: number | undefined, was: number | undefined): void {
    const { facts, shared } = this;
    const { changeNext } = shared.store.checkpointOf(partition);
    const shows = shared.board.stateOf(partition)?.changeNext ?? 0;
    const isTrue = shows <= changeNext || given > changeNext || seen !== was;
    facts.expect(
      isTrue,
      'board_true',
      () => `it is written whole and shows ${shows}, the store went back to ${changeNext}`,
    );
    // The store is ahead of its board: who looks at the board first is never behind it, unless the store goes back.
    if (facts.storeBacks === 0) this.notLowered(partition, was);
    this.shown(partition, true);
  }

  /** The board showed `was` until now. */
  notLowered(partition: number, was: number | undefined): void {
    const shows = this.shared.board.stateOf(partition)?.changeNext ?? 0;
    this.facts.expect(shows >= (was ?? 0), 'board_true', () => `it was at ${was} and is written as of ${shows}`);
  }

  private truth(partition: number): TruePartition {
    return this.facts.truth[partition] as TruePartition;
  }

  private hashAt(partition: number, next: number): string {
    return next === 0 ? '' : (this.hashes[partition]?.[next - 1] ?? 'beyond the log');
  }
}

const hashOf = ({ offset, at, text, bytes }: LogEntry): string =>
  hash('sha256', `${offset}:${at}:${bytes ? Buffer.from(bytes).toString('base64') : text}`).slice(0, 16);

/** What an entry changes, as lines to compare. */
export function changesOf(known: Known | undefined): string[] {
  if (!known) return [];
  const { offset, couponId, verdict, change } = known;
  const lines: string[] = [];
  if (verdict.kind === 'won') lines.push(lineOf({ type: 'won', couponId, ...verdict.winner } as never));
  if (verdict.kind === 'malformed') lines.push(`refused ${offset}`);
  if (change) lines.push(lineOf({ type: 'sale', couponId, ...change } as never));
  return lines;
}

const idsOf = (known: Known): string[] =>
  changesOf(known).map(line => `${line.slice(0, line.indexOf(' '))} ${known.offset}`);

export function lineOf(raw: Record<string, unknown>): string {
  const { type, couponId, offset, at } = raw;
  if (type === 'refused') return `refused ${offset}`;
  const rest =
    type === 'won'
      ? [raw.userId, raw.slot, raw.key]
      : [raw.stock, raw.opensAt, raw.closesAt, raw.closed, raw.phase, raw.key];
  return `${type} ${couponId} at ${offset} ${at} ${rest.join(' ')}`;
}

const show = (what: unknown): string => JSON.stringify(what);
const same = isDeepStrictEqual;
