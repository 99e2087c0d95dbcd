/** A sale under faults: a crowd with open streams, and what must hold once it is over. */
import assert from 'node:assert/strict';
import { createNodeFetch } from '../../src/cli/node-fetch.ts';
import {
  type Claim,
  type ClaimOutcome,
  type Client,
  createClient,
  type DoneTask,
  type Timing,
} from '../../src/client/index.ts';

/** Patient where a fault lasts, quick where the tests would wait. */
export const testTiming: Partial<Timing> = {
  triesMax: 1_000,
  acceptMsMax: 90_000,
  backoffMsMax: 1_000,
  streamFailuresMax: 5,
  streamAgainMsMin: 1_000,
};

/** Asks until it is so, 10 ms apart. What cannot be asked is not so. @throws after `msMax`, with what was last seen. */
export async function eventually<T>(
  what: string,
  ask: () => T | Promise<T>,
  isSo: (answer: T) => boolean,
  msMax = 30_000,
): Promise<T> {
  const until = performance.now() + msMax;
  for (;;) {
    const seen = await (async () => ask())().then(
      answer => ({ answer, isSo: isSo(answer) }),
      (error: unknown) => ({ answer: error, isSo: false }),
    );
    if (seen.isSo) return seen.answer as T;
    if (performance.now() > until) {
      throw new Error(`not within ${msMax} ms: ${what}; last seen: ${summaryOf(seen.answer)}`);
    }
    await new Promise(resolve => setTimeout(resolve, 10));
  }
}

/** As JSON; of a long list how many there are and both ends. */
export function summaryOf(answer: unknown): string {
  if (answer instanceof Error) return String(answer);
  const text = JSON.stringify(answer, (_, value) =>
    Array.isArray(value) && value.length > 2 * endsMax
      ? [`${value.length} in all`, ...value.slice(0, endsMax), '...', ...value.slice(-endsMax)]
      : value,
  );
  return `${text}`.slice(0, 2_000);
}
/** What is shown of either end of a list. */
const endsMax = 5;

export interface RowOfSale {
  slot: number;
  userId: string;
  offset: number;
}

export interface SaleOptions {
  couponId: string;
  stock: number;
  /** Where the crowd presses; asked before every press, since a process may come back elsewhere. */
  url: () => string;
  /** The stored rows in order of slot. */
  rows(couponId: string): Promise<RowOfSale[]>;
}

/** Bounds of the crowd; the streams of all who wait are open at once. */
const requestsMax = 64;
const streamsMax = 2_000;

interface Press {
  userId: string;
  claim: Claim;
  outcome: ClaimOutcome | undefined;
}

export class Sale {
  readonly couponId: string;
  readonly stock: number;
  /** Presses whose request is durable (202). */
  accepted = 0;
  /** Presses whose outcome is known. */
  answered = 0;
  private readonly options: SaleOptions;
  private readonly presses: Press[] = [];
  private readonly fetches = new Map<string, ReturnType<typeof createNodeFetch>>();
  private readonly errors: unknown[] = [];

  private constructor(options: SaleOptions) {
    this.options = options;
    this.couponId = options.couponId;
    this.stock = options.stock;
  }

  static async open(options: SaleOptions): Promise<Sale> {
    const sale = new Sale(options);
    await sale.client.coupons.create({ couponId: options.couponId, name: options.couponId, stock: options.stock });
    return sale;
  }

  get client(): Client {
    const baseUrl = this.options.url();
    let made = this.fetches.get(baseUrl);
    if (!made) {
      made = createNodeFetch(baseUrl, { requestsMax, streamsMax });
      this.fetches.set(baseUrl, made);
    }
    return createClient({ baseUrl, fetch: made.fetch, timing: testTiming });
  }

  get size(): number {
    return this.presses.length;
  }

  /** Presses that were told this outcome. */
  told(outcome: ClaimOutcome['outcome']): number {
    return this.presses.filter(p => p.outcome?.outcome === outcome).length;
  }

  /** Nobody waits any more. */
  close(): void {
    for (const { claim } of this.presses) claim.abort();
    for (const { close } of this.fetches.values()) close();
    this.fetches.clear();
  }

  /** New users press, all at once; their streams stay open until they are told. */
  press(users: number): void {
    const from = this.presses.length;
    for (let i = from; i < from + users; i++) this.pressAs(`${this.couponId}-u${i}`);
  }

  pressAs(userId: string, key?: string): Claim {
    const claim = this.client.claim(this.couponId, { userId, ...(key === undefined ? {} : { key }) });
    const press: Press = { userId, claim, outcome: undefined };
    this.presses.push(press);
    claim.taskId.then(
      taskId => {
        if (taskId !== undefined) this.accepted++;
      },
      () => {},
    );
    claim.outcome.then(
      outcome => {
        press.outcome = outcome;
        this.answered++;
      },
      error => this.errors.push(error),
    );
    return claim;
  }

  async acceptedAtLeast(n: number, msMax?: number): Promise<void> {
    await eventually(
      `${n} of ${this.size} accepted`,
      () => this.counts(),
      c => c.accepted >= n,
      msMax,
    );
  }

  async answeredAtLeast(n: number, msMax?: number): Promise<void> {
    await eventually(
      `${n} of ${this.size} answered`,
      () => this.counts(),
      c => c.answered >= n,
      msMax,
    );
  }

  /**
   * Everybody is told, by the push as by the status; the winners are the first of the log, with slots 1..N and a row
   * each, and nobody else has one.
   */
  async isRight({ msMax = 40_000, pushed = true }: { msMax?: number; pushed?: boolean } = {}): Promise<void> {
    await this.answeredAtLeast(this.size, msMax);
    assert.deepEqual(this.errors, []);
    const winners = this.checkOutcomes();
    const report = await eventually(
      `verify of ${this.couponId} has caught up and finds nothing`,
      () => this.client.verify(this.couponId),
      r => r.behind === 0 && r.ok && r.unanswered === 0,
      10_000,
    );
    const coupon = report.coupons.find(c => c.couponId === this.couponId);
    assert.equal(coupon?.winners, winners.size, 'winners that verify computes');
    assert.equal(coupon?.rows, winners.size, 'rows');
    await this.checkRows(winners);
    await this.checkTasks(pushed);
    this.close();
  }

  private counts() {
    const { size, accepted, answered } = this;
    return { size, accepted, answered, errors: this.errors.map(String).slice(0, 3) };
  }

  /** Answers the winners' users by slot. */
  private checkOutcomes(): Map<number, string> {
    const users = new Set(this.presses.map(p => p.userId));
    const bySlot = new Map<number, string>();
    for (const { userId, outcome } of this.presses) {
      assert.ok(outcome);
      switch (outcome.outcome) {
        case 'issued': {
          const other = bySlot.get(outcome.slot);
          assert.ok(other === undefined || other === userId, `slot ${outcome.slot}: ${other} and ${userId}`);
          bySlot.set(outcome.slot, userId);
          break;
        }
        case 'duplicated':
          break;
        case 'inactive':
          assert.equal(outcome.reason, 'sold_out', userId);
          break;
        case 'refused':
          assert.fail(`${userId} was refused: ${outcome.code} ${outcome.detail}`);
      }
    }
    const expected = Math.min(this.stock, users.size);
    assert.equal(new Set(bySlot.values()).size, bySlot.size, 'nobody wins twice');
    assert.deepEqual(
      [...bySlot.keys()].sort((a, b) => a - b),
      Array.from({ length: expected }, (_, i) => i + 1),
      'slots told are 1..N',
    );
    for (const { userId, outcome } of this.presses) {
      if (outcome?.outcome === 'duplicated') assert.equal(bySlot.get(outcome.slot), userId, 'duplicated names the win');
    }
    return bySlot;
  }

  private async checkRows(winners: ReadonlyMap<number, string>): Promise<void> {
    const rows = await this.options.rows(this.couponId);
    assert.deepEqual(
      rows.map(r => r.slot),
      Array.from({ length: winners.size }, (_, i) => i + 1),
      'rows have slots 1..N',
    );
    for (const { slot, userId } of rows) assert.equal(userId, winners.get(slot), `row of slot ${slot}`);
    for (let i = 1; i < rows.length; i++) {
      assert.ok((rows[i]?.offset ?? 0) > (rows[i - 1]?.offset ?? 0), `slot ${i + 1} came before slot ${i}`);
    }
  }

  /** The status of every accepted task is what was pushed. */
  private async checkTasks(pushed: boolean): Promise<void> {
    const { client } = this;
    await Promise.all(
      this.presses.map(async ({ userId, claim, outcome }) => {
        const taskId = await claim.taskId;
        if (taskId === undefined || outcome?.outcome === 'refused') return;
        const task = (await client.task(taskId)) as DoneTask;
        assert.equal(task.state, 'done', userId);
        const { outcome: shown, slot, reason } = task as { outcome: string; slot?: number; reason?: string };
        const told = outcome as { outcome: string; slot?: number; reason?: string };
        assert.deepEqual([shown, slot, reason], [told.outcome, told.slot, told.reason], userId);
        if (pushed) assert.equal(claim.via, 'stream', `${userId} was told by the push`);
      }),
    );
  }
}
