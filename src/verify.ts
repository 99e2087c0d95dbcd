/**
 * Holds the store against the log. The winners are computed again by the fold and the codec, which are all that this
 * file shares with the stages, and compared with the rows, one partition after another. It only reads, so it may run
 * beside a sale: the checkpoint is read first, so whatever it promises is in the rows that are read after it.
 */
import type { CouponId, CouponRow, Millis, UserCouponRow } from './coupon.ts';
import { changeLog, decodeEntry, entryHash, type Located, type LogEntry, requestLog } from './entry.ts';
import { Unavailable } from './errors.ts';
import { type Status, statusOf } from './outcome.ts';
import type { Checkpoint, CouponReader, EventLog, SetAside, Snapshot } from './ports.ts';
import { currentTerms, type Decision, decide, PartitionFold, type SaleChange } from './sale.ts';
import { Findings, type Problem } from './verify-findings.ts';
import { compareRows, type RowsOfCoupon } from './verify-rows.ts';
import { compareChanges, compareTerms } from './verify-terms.ts';

export type { Problem, ProblemKind } from './verify-findings.ts';

export interface VerifyReport {
  ok: boolean;
  /** The caller's clock when it was asked for. */
  at: Millis;
  /** Entries of the request log that were folded again. */
  checkedEntries: number;
  /** Entries that the store's checkpoints have not reached, and that are not judged. */
  behind: number;
  /** Requests below the checkpoint that would never get a final answer. */
  unanswered: number;
  partitions: { partition: number; next: number; end: number; problems: number }[];
  coupons: CouponReport[];
  /** Those of no single coupon. */
  problems: Problem[];
}

export interface CouponReport {
  couponId: CouponId;
  stock: number;
  /** By the log, below the checkpoint. */
  winners: number;
  rows: number;
  /** Winners that the store refused and that wait for a redrive. */
  setAside: number;
  /** The first of each kind. */
  problems: Problem[];
  problemsTotal: number;
}

export interface VerifyTools {
  log: Pick<EventLog, 'read' | 'end' | 'partitions'>;
  store: CouponReader;
  /** Only this coupon; the others' entries then only move the clock. */
  couponId?: CouponId;
  now: Millis;
  /** Called between reads, so that others of the process get their turn. */
  rest?: () => Promise<void>;
}

/** Entries of one read: some 10 ms of the process's time. */
const readMax = 2_000;
const readMsMax = 5_000;

/** @throws Alarm when the log cannot be read or holds a version that this build does not know; Unavailable as its ports do. */
export async function verify({ log, store, couponId, now, rest }: VerifyTools): Promise<VerifyReport> {
  const wanted = couponId === undefined ? undefined : await store.coupons([couponId]);
  const report: VerifyReport = {
    ok: true,
    at: now,
    checkedEntries: 0,
    behind: 0,
    unanswered: 0,
    partitions: [],
    coupons: [],
    problems: [],
  };
  if (wanted?.length === 0) {
    report.problems.push({ kind: 'unknown_coupon', detail: `the store has no coupon ${couponId}` });
  }
  const chosen = wanted ? wanted.map(row => row.partition) : Array.from({ length: log.partitions }, (_, p) => p);
  for (const partition of chosen) await new PartitionCheck(partition, { log, store, couponId, rest }, report).run();
  report.coupons.sort((a, b) => (a.couponId < b.couponId ? -1 : 1));
  report.ok = report.problems.length === 0 && report.coupons.every(coupon => coupon.problemsTotal === 0);
  return report;
}

/** What the store says of one coupon, and what was found. */
interface Subject extends RowsOfCoupon {
  /** As read before the rows, then after them: while a sale goes on its count moves in between. */
  row: CouponRow;
  /** The sale as stored, below the checkpoint. */
  changes: SaleChange[];
}

class PartitionCheck {
  private readonly partition: number;
  private readonly log: VerifyTools['log'];
  private readonly store: CouponReader;
  private readonly couponId: CouponId | undefined;
  private readonly rest: () => Promise<void>;
  private readonly report: VerifyReport;
  private readonly found = new Findings();
  private readonly fold = new PartitionFold();
  private readonly subjects = new Map<string, Subject>();
  private malformed = new Set<number>();
  private offset = 0;

  constructor(
    partition: number,
    {
      log,
      store,
      couponId,
      rest = async () => {},
    }: Pick<VerifyTools, 'log' | 'store'> & { [K in 'couponId' | 'rest']: VerifyTools[K] | undefined },
    report: VerifyReport,
  ) {
    this.partition = partition;
    this.log = log;
    this.store = store;
    this.couponId = couponId;
    this.rest = rest;
    this.report = report;
  }

  async run(): Promise<void> {
    const { partition, store, log, report, found } = this;
    const checkpoint = await store.checkpoint(partition);
    const snapshot = await store.withSnapshot(partition, async ({ frontier, sales, malformed }) => ({
      frontier,
      sales,
      malformed,
    }));
    // Before the rows: what is redriven meanwhile is then in one of the two or in both, never in none.
    const aside = await store.setAside({ partition, limit: Number.MAX_SAFE_INTEGER });
    await this.loadSubjects(snapshot, aside, checkpoint.next);
    const end = await log.end(requestLog, partition);
    const { next } = checkpoint;
    if (next > end) {
      found.add('checkpoint', { detail: `the store is at ${next}, but ${requestLog} ends at ${end}`, offset: next });
    }
    await this.foldUpTo(Math.min(next, end), entry => this.checkAnswer(entry));
    await this.checkCheckpoint(checkpoint);
    this.checkStored(snapshot, checkpoint.next);
    this.checkMalformed(aside, checkpoint.next);
    // Rows and terms may be ahead of the mark that ends their batch: those are held against the entries that follow.
    const winners = new Map([...this.fold.sales].map(([id, sale]) => [id, sale.taken]));
    if (this.isAhead(checkpoint.next)) await this.foldUpTo(end, entry => this.fold.decide(entry));
    this.checkCoupons(winners, Math.min(next, end));
    report.checkedEntries += this.offset;
    report.behind += Math.max(0, end - next);
    report.problems.push(...found.problems);
    report.partitions.push({ partition, next, end, problems: found.total });
  }

  private async loadSubjects(
    snapshot: Pick<Snapshot, 'sales'>,
    aside: readonly SetAside[],
    next: number,
  ): Promise<void> {
    const { store, couponId, partition } = this;
    const all = couponId === undefined ? await store.listCoupons(Number.MAX_SAFE_INTEGER) : [];
    const ids =
      couponId === undefined ? all.filter(row => row.partition === partition).map(r => r.couponId) : [couponId];
    const changes = new Map(snapshot.sales.map(sale => [sale.couponId, sale.changes]));
    for (const id of ids) {
      const [before] = await store.coupons([id]);
      if (!before) continue;
      const rows: UserCouponRow[] = [];
      for await (const chunk of store.rows(id)) {
        for (const row of chunk) rows.push(row);
        await this.rest();
      }
      const [after] = await store.coupons([id]);
      const subject: Subject = {
        row: before,
        issuedMax: after?.issued ?? before.issued,
        changes: (changes.get(id) ?? []).filter(change => change.offset < next),
        rows,
        byUser: new Map(rows.map(row => [row.userId, row])),
        aside: new Map(),
        letters: [],
        found: new Findings(),
      };
      this.subjects.set(id, subject);
    }
    for (const letter of aside) {
      const { slot, offset, key, at, userId } = letter;
      if (letter.log !== requestLog || slot === null) continue;
      const subject = this.subjects.get(letter.couponId ?? '');
      if (subject && userId !== null && key !== null) {
        const holder = { slot, offset, key, at };
        subject.aside.set(userId, holder);
        subject.letters.push({ userId, holder });
      } else if (couponId === undefined)
        this.found.add('ghost', { detail: 'set aside as a winner, of no coupon or no user', slot, offset });
    }
    await this.checkTwice();
    this.malformed = new Set(aside.filter(isMalformed).map(letter => letter.offset));
  }

  /** What is redriven while this reads may be in both; what still is when both were read was never taken out. */
  private async checkTwice(): Promise<void> {
    const both = [...this.subjects.values()].flatMap(({ byUser, found, letters }) =>
      letters.flatMap(({ userId, holder: { offset } }) =>
        byUser.get(userId)?.offset === offset ? [{ found, userId, offset }] : [],
      ),
    );
    if (both.length === 0) return;
    const letters = await this.store.setAside({
      partition: this.partition,
      winners: true,
      limit: Number.MAX_SAFE_INTEGER,
    });
    const there = new Set(letters.map(({ offset }) => offset));
    for (const { found, userId, offset } of both)
      if (there.has(offset))
        found.add('dead_letter', { detail: 'set aside as a winner, and has its row', userId, offset });
  }

  private async foldUpTo(next: number, take: (entry: Located) => void): Promise<void> {
    const { frontier } = this.fold;
    let last: LogEntry | undefined;
    while (this.offset < next) {
      const max = Math.min(readMax, next - this.offset);
      const batch = await this.log.read(requestLog, this.partition, this.offset, max, readMsMax);
      for (const raw of batch.entries) {
        if (raw.offset >= next) break;
        last = raw;
        const entry = decodeEntry(raw);
        if (this.isOthers(entry)) frontier.clock = Math.max(frontier.clock, entry.at);
        else take(entry);
      }
      if (batch.next === this.offset) throw new Unavailable(`${requestLog} gave nothing from ${this.offset} on`);
      this.offset = Math.min(batch.next, next);
      await this.rest();
    }
    frontier.next = next;
    if (last) frontier.hash = entryHash(last);
  }

  private isOthers = (entry: Located): boolean =>
    this.couponId !== undefined && (entry.type === 'malformed' || entry.couponId !== this.couponId);

  /** Decides the entry, and asks the store's own state what its task would be told. */
  private checkAnswer(entry: Located): void {
    const { fold } = this;
    if (entry.type !== 'request') {
      fold.decide(entry);
      return;
    }
    const { couponId, userId, offset, key } = entry;
    const clock = Math.max(fold.frontier.clock, entry.at);
    const decision = decide(fold.sales.get(couponId), clock, entry);
    fold.decide(entry);
    const subject = this.subjects.get(couponId);
    const row = subject?.byUser.get(userId);
    const aside = row ? undefined : subject?.aside.get(userId);
    const status = statusOf(entry, {
      next: Number.MAX_SAFE_INTEGER,
      committedNext: Number.MAX_SAFE_INTEGER,
      holder: row ? { slot: row.slot, offset: row.offset, key: row.key, at: row.issuedAt } : aside,
      changes: subject?.changes ?? [],
      malformed: this.malformed.has(offset),
      holderSetAside: aside !== undefined,
    });
    const found = subject?.found ?? this.found;
    const place = { userId, offset };
    // A duplicate of a winner that is set aside waits with it, for the same redrive.
    if (status.state === 'set_aside' || (status.state === 'accepted' && aside)) return;
    if (status.state !== 'done') {
      this.report.unanswered++;
      found.add('unanswered', { detail: `the request has no final answer`, ...place });
      return;
    }
    const holder = fold.sales.get(couponId)?.holders.get(userId);
    const [told, decided] = [answerOf(status), answerOfDecision(decision, holder?.key === key)];
    if (told !== decided) found.add('wrong_answer', { detail: `decided ${decided}, told ${told}`, ...place });
  }

  private async checkCheckpoint({ next, clock, hash, strays, changeNext, changeHash }: Checkpoint): Promise<void> {
    const { found, fold, partition, log } = this;
    const { frontier } = fold;
    if (frontier.next === next && next > 0 && frontier.hash !== hash) {
      found.add('checkpoint', { detail: `entry ${next - 1} is not the one that was read before`, offset: next - 1 });
    }
    if (frontier.next === next && frontier.clock !== clock) {
      found.add('checkpoint', { detail: `its clock is ${clock}, the log's ${frontier.clock}` });
    }
    const { malformed, unknown_coupon } = frontier.strays;
    const same = strays.malformed === malformed && strays.unknown_coupon === unknown_coupon;
    if (frontier.next === next && this.couponId === undefined && !same) {
      found.add('checkpoint', {
        detail: `it counts ${strays.malformed} malformed and ${strays.unknown_coupon} of unknown coupons, the log has ${malformed} and ${unknown_coupon}`,
      });
    }
    const end = await log.end(changeLog, partition);
    if (changeNext > end) {
      found.add('checkpoint', { detail: `the store is at ${changeNext} of ${changeLog}, which ends at ${end}` });
    } else if (changeNext > 0) {
      const { entries } = await log.read(changeLog, partition, changeNext - 1, 1, readMsMax);
      if (!entries[0] || entries[0].offset !== changeNext - 1 || entryHash(entries[0]) !== changeHash) {
        found.add('checkpoint', { detail: `change ${changeNext - 1} is not the one that was read before` });
      }
    }
  }

  /** The stored side of the sales: changes with their phases, totals, and sales that only one of both knows. */
  private checkStored(snapshot: Pick<Snapshot, 'sales' | 'frontier'>, next: number): void {
    const stored = new Map(snapshot.sales.map(sale => [sale.couponId as string, sale]));
    for (const [couponId, sale] of this.fold.sales) {
      const there = stored.get(couponId);
      const subject = this.subjects.get(couponId);
      const found = subject?.found ?? this.found;
      if (!subject) {
        const { offset } = sale.changes[0] as SaleChange;
        found.add('unknown_coupon', { detail: `${couponId} was opened in the log and has no row here`, offset });
      }
      const changes = (there?.changes ?? []).filter(change => change.offset < next);
      compareChanges(changes, sale.changes, subject?.found ?? this.found);
      // Totals move with the marks: they are comparable only if the snapshot is of the same one.
      if (!there || snapshot.frontier.next !== next || this.fold.frontier.next !== next) continue;
      for (const reason of ['duplicated', 'closed', 'not_open', 'sold_out'] as const) {
        const [has, ought] = [there.counts[reason], sale.counts[reason]];
        if (has !== ought) found.add('counts', { detail: `${reason} is stored as ${has}, the log has ${ought}` });
      }
    }
    for (const { couponId, changes } of snapshot.sales) {
      const known = this.fold.sales.has(couponId) || (this.couponId !== undefined && couponId !== this.couponId);
      const first = changes.find(change => change.offset < next);
      if (known || !first) continue;
      const found = this.subjects.get(couponId)?.found ?? this.found;
      found.add('stock', { detail: `${couponId} is stored as opened, the log never did`, offset: first.offset });
    }
  }

  private checkMalformed(aside: readonly SetAside[], next: number): void {
    if (this.couponId !== undefined) return;
    for (const offset of this.fold.malformed) {
      if (!this.malformed.has(offset))
        this.found.add('dead_letter', { detail: 'a malformed entry is not kept', offset });
    }
    for (const letter of aside) {
      if (!isMalformed(letter) || letter.offset >= next || this.fold.malformed.has(letter.offset)) continue;
      this.found.add('dead_letter', { detail: 'set aside as malformed, but it can be read', offset: letter.offset });
    }
  }

  /** Something is stored that the fold as of the checkpoint does not know. */
  private isAhead(next: number): boolean {
    for (const [couponId, { row, rows, aside }] of this.subjects) {
      const sale = this.fold.sales.get(couponId);
      const terms = sale && currentTerms(sale);
      if (terms && (terms.stock !== row.stock || terms.closed !== row.closed)) return true;
      if (rows.some(({ offset }) => offset >= next)) return true;
      for (const { offset } of aside.values()) if (offset >= next) return true;
    }
    return false;
  }

  private checkCoupons(winnersAtNext: ReadonlyMap<string, number>, next: number): void {
    for (const [couponId, subject] of this.subjects) {
      const { row, rows, found, aside } = subject;
      const sale = this.fold.sales.get(couponId);
      if (sale) compareTerms(row, sale.changes, next, found);
      compareRows(subject, sale, next);
      this.report.coupons.push({
        couponId: couponId as CouponId,
        stock: row.stock,
        winners: winnersAtNext.get(couponId) ?? 0,
        rows: rows.length,
        setAside: aside.size,
        problems: found.problems,
        problemsTotal: found.total,
      });
    }
  }
}

const isMalformed = (letter: SetAside): boolean =>
  letter.log === requestLog && letter.slot === null && letter.reason.startsWith('malformed');

const answerOf = (status: Extract<Status, { state: 'done' }>): string =>
  status.outcome === 'issued' || status.outcome === 'duplicated' ? status.outcome : status.reason;

/** A request that repeats the key of the one that won is the same request. */
const answerOfDecision = (decision: Decision, sameKey: boolean): string =>
  decision.kind === 'won' || (decision.kind === 'lost' && decision.reason === 'duplicated' && sameKey)
    ? 'issued'
    : decision.kind === 'lost' || decision.kind === 'stray'
      ? decision.reason
      : decision.kind;
