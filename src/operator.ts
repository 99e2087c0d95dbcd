/**
 * What an operator does to a sale. Each change is an entry of the request log, in order with the requests; the
 * coupon's row only carries what was asked for at its creation.
 */
import { isDeepStrictEqual } from 'node:util';
import type { CouponBody, CouponId, CouponRow, CouponState, Millis, RequestKey } from './coupon.ts';
import { changeLog, encodeEntry, encodeWon, requestLog } from './entry.ts';
import type { Host } from './host.ts';
import { randomKey } from './host.ts';
import type { FrontDoor, NotAppended } from './issue.ts';
import { adminWaitMsMax, latchMsMax } from './limits.ts';
import { appendInParts } from './log.ts';
import type { CouponStore, EventLog, LedgerReader, SaleView, SetAside } from './ports.ts';
import { currentTerms } from './sale.ts';
import { keyHash } from './task.ts';

/** A coupon as it is shown. `reserved`: slots held whose rows are not committed yet. */
export interface CouponView {
  row: CouponRow;
  stock: number;
  reserved: number;
  issued: number;
  remaining: number;
  state: CouponState;
}

export type Created = { kind: 'created' | 'existed'; view: CouponView } | { kind: 'exists_otherwise' } | NotDone;
export type Stocked =
  | { kind: 'stocked'; view: CouponView }
  | { kind: 'closed' }
  | { kind: 'too_much' }
  | { kind: 'unknown' }
  | NotDone;
export type Closed = { kind: 'closed'; view: CouponView } | { kind: 'unknown' } | NotDone;
/** The log did not take the entry, or did not say, or it was not decided in time: asking again is safe. */
export type NotDone = { kind: 'not_accepted' } | { kind: 'outcome_unknown' };

export interface OperatorTools {
  door: FrontDoor;
  log: EventLog;
  ledger: LedgerReader;
  store: CouponStore;
  host: Host;
}

/** How often an undecided entry is asked about. */
const askMs = 25;

export class Operator {
  private readonly tools: OperatorTools;

  constructor(tools: OperatorTools) {
    this.tools = tools;
  }

  /** Answers once the opening is in the log: whatever is requested after the answer comes after it. */
  async create(couponId: CouponId, body: CouponBody): Promise<Created> {
    const { store, log, host, door } = this.tools;
    const partition = partitionOf(couponId, log.partitions);
    const { row, created } = await store.createCoupon({ couponId, partition, body, createdAt: host.now() });
    if (!isDeepStrictEqual(row.body, body)) return { kind: 'exists_otherwise' };
    const sale = (await this.sales([row])).get(couponId);
    if (!sale) {
      // Made from the row, never from the request; a second opening changes nothing.
      const { stock, opensAt, closesAt } = row.body;
      const appended = await door.append(row, encodeEntry({ type: 'opened', couponId, stock, opensAt, closesAt }));
      if (typeof appended !== 'number') return notDone(appended);
    }
    door.know(row);
    return { kind: created ? 'created' : 'existed', view: viewOf(row, sale, door.clock.shown(row.partition)) };
  }

  /** Answers once it is decided and every instance's memory of a sold-out coupon has ended. */
  async addStock(couponId: CouponId, add: number, idempotencyKey: string | undefined): Promise<Stocked> {
    const { door, host } = this.tools;
    const row = await door.coupon(couponId);
    if (!row) return { kind: 'unknown' };
    const key: RequestKey = idempotencyKey === undefined ? randomKey(host) : keyHash(couponId, idempotencyKey);
    const offset = await door.append(row, encodeEntry({ type: 'stock_added', couponId, add, key }));
    if (typeof offset !== 'number') return notDone(offset);
    const sale = await this.decided(row, offset);
    if (!sale) return { kind: 'outcome_unknown' };
    const stocked = sale.changes.find(change => change.key === key);
    if (!stocked && isBeforeOpening(offset, sale)) return { kind: 'outcome_unknown' };
    if (!stocked) return sale.phase === 'closed' ? { kind: 'closed' } : { kind: 'too_much' };
    await host.delay(latchMsMax);
    const view = await this.view(couponId);
    return view
      ? { kind: 'stocked', view: { ...view, stock: Math.max(view.stock, stocked.stock) } }
      : { kind: 'unknown' };
  }

  async close(couponId: CouponId): Promise<Closed> {
    const { door } = this.tools;
    const row = await door.coupon(couponId);
    if (!row) return { kind: 'unknown' };
    const offset = await door.append(row, encodeEntry({ type: 'closed', couponId }));
    if (typeof offset !== 'number') return notDone(offset);
    const sale = await this.decided(row, offset);
    if (!sale || isBeforeOpening(offset, sale)) return { kind: 'outcome_unknown' };
    const view = await this.view(couponId);
    return view ? { kind: 'closed', view } : { kind: 'unknown' };
  }

  async view(couponId: CouponId): Promise<CouponView | undefined> {
    const [row] = await this.tools.store.coupons([couponId]);
    return row && (await this.viewsOf([row]))[0];
  }

  async views(limit: number): Promise<CouponView[]> {
    return this.viewsOf(await this.tools.store.listCoupons(limit));
  }

  /** Appends again what the store refused, and what was set aside only for that reason. Answers how many. */
  async redrive(couponId: CouponId | undefined): Promise<number> {
    const { store, log } = this.tools;
    // Those that cannot be redriven must not hide those that can.
    const all = await store.setAside({
      ...(couponId ? { couponId } : {}),
      winners: true,
      limit: Number.MAX_SAFE_INTEGER,
    });
    const letters = all.filter(isRedrivable);
    for (const [partition, batch] of Map.groupBy(letters, letter => letter.partition)) {
      const values = batch.map(({ couponId, userId, slot, offset, key, at }) =>
        encodeWon({ type: 'won', couponId, userId, slot, offset, key, at }),
      );
      const keys = batch.map(letter => letter.couponId);
      await appendInParts(log, changeLog, partition, values, keys);
    }
    return letters.length;
  }

  private async viewsOf(rows: CouponRow[]): Promise<CouponView[]> {
    const { door } = this.tools;
    for (const row of rows) door.know(row);
    const sales = await this.sales(rows);
    for (const { couponId, partition } of rows) {
      const sale = sales.get(couponId);
      if (sale) door.clock.seen(partition, sale.next, sale.clock);
    }
    return rows.map(row => viewOf(row, sales.get(row.couponId), door.clock.shown(row.partition)));
  }

  /** While the ledger is away coupons are shown from their rows. */
  private async sales(rows: CouponRow[]): Promise<Map<CouponId, SaleView>> {
    return this.tools.ledger.sales(rows).catch(() => new Map());
  }

  private async decided(row: CouponRow, offset: number): Promise<SaleView | undefined> {
    const { host } = this.tools;
    const until = host.elapsed() + adminWaitMsMax;
    while (host.elapsed() < until) {
      const sale = (await this.sales([row])).get(row.couponId);
      if (sale && sale.next > offset) return sale;
      await host.delay(askMs);
    }
    return undefined;
  }
}

/** The coupon's row was there before its opening was in the log: the entry changed nothing, a later one will. */
const isBeforeOpening = (offset: number, sale: SaleView): boolean => offset < (sale.changes[0]?.offset ?? 0);

type Redrivable = SetAside & Required<{ [K in 'couponId' | 'userId' | 'slot' | 'key']: NonNullable<SetAside[K]> }>;

/** A winner that the store refused. What was decided `refused` stays so. */
export const isRedrivable = (letter: SetAside): letter is Redrivable =>
  letter.log === requestLog &&
  letter.couponId !== null &&
  letter.userId !== null &&
  letter.slot !== null &&
  letter.key !== null;

const notDone = (refusal: NotAppended): NotDone => ({
  kind: refusal.code === 'NOT_ACCEPTED' ? 'not_accepted' : 'outcome_unknown',
});

/** FNV-1a of the id. Asked once, at the coupon's creation; the row keeps the answer. */
export function partitionOf(couponId: string, partitions: number): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < couponId.length; i++) h = Math.imul(h ^ couponId.charCodeAt(i), 0x01000193);
  return (h >>> 0) % partitions;
}

/** `now` is a host's clock: the log's is surely past `sale.clock`. */
export function viewOf(row: CouponRow, sale: SaleView | undefined, now: Millis): CouponView {
  const { body, issued } = row;
  const stock = sale ? currentTerms(sale).stock : row.stock;
  const taken = Math.max(sale?.taken ?? 0, issued);
  const remaining = Math.max(0, stock - taken);
  const time = Math.max(now, sale?.clock ?? 0);
  return { row, stock, reserved: taken - issued, issued, remaining, state: stateOf() };

  function stateOf(): CouponState {
    const closed = row.closed || sale?.phase === 'closed' || (body.closesAt !== null && time >= body.closesAt);
    if (closed) return 'closed';
    if (body.opensAt !== null && time < body.opensAt) return 'scheduled';
    return remaining === 0 ? 'sold_out' : 'open';
  }
}
