/** The reading half of the store: for any thread and any connection. Async by signature only: nothing here waits. */
import type { StatementSync } from 'node:sqlite';
import type { CouponId, CouponRow, Millis, UserCouponRow, UserId } from '../coupon.ts';
import { requestLog } from '../entry.ts';
import type { View } from '../outcome.ts';
import type {
  Checkpoint,
  CouponReader,
  LedgerQuery,
  PageEnd,
  SaleStats,
  SetAside,
  SetAsideFilter,
  Snapshot,
  UserCouponPage,
} from '../ports.ts';
import type { SaleChange } from '../sale.ts';
import { type Database, prepareAll } from './database.ts';
import {
  type CheckpointCells,
  type CountsCells,
  type CouponCells,
  checkpointColumns,
  checkpointOf,
  countsColumns,
  countsOf,
  couponColumns,
  couponOf,
  type HolderCells,
  holderOf,
  type SaleChangeCells,
  saleChangeColumns,
  saleChangeOf,
  type UserCouponCells,
  userCouponColumns,
  userCouponOf,
} from './rows.ts';
import { withSnapshot } from './snapshot.ts';

/** Rows that verify gets at once: about 10 ms of the reading thread. */
const rowsMax = 10_000;

export class SqliteReader implements CouponReader {
  protected readonly database: Database;
  private readonly sql: Record<keyof typeof reads, StatementSync>;

  constructor(database: Database) {
    this.database = database;
    this.sql = prepareAll(database.db, reads);
    for (const statement of Object.values(this.sql)) statement.setReturnArrays(true);
    // Its rows are given out as they are.
    this.sql.setAside.setReturnArrays(false);
  }

  async coupons(ids: readonly CouponId[]): Promise<CouponRow[]> {
    return this.database.read(() => ids.map(id => this.couponNow(id)).filter(row => row !== undefined));
  }

  async listCoupons(limit: number): Promise<CouponRow[]> {
    return this.database.read(() => (this.sql.coupons.all(limit) as unknown as CouponCells[]).map(couponOf));
  }

  async checkpoint(partition: number): Promise<Checkpoint> {
    return this.database.read(() => this.checkpointNow(partition));
  }

  async read(partition: number, queries: readonly LedgerQuery[]): Promise<View[]> {
    return this.database.read(() => {
      const { next } = this.checkpointNow(partition);
      const changes = new Map<CouponId, SaleChange[]>();
      return queries.map(query => {
        const known = changes.get(query.couponId) ?? this.changesNow(partition, query.couponId, next);
        changes.set(query.couponId, known);
        return { next, committedNext: next, changes: known, ...this.placeOf(partition, query, next) };
      });
    });
  }

  async userCoupons(userId: UserId, limit: number, after?: PageEnd): Promise<UserCouponPage> {
    const { issuedAt, couponId } = after ?? { issuedAt: Number.MAX_SAFE_INTEGER, couponId: '' };
    return this.database.read(() => {
      const rows = this.sql.ofUser.all(userId, issuedAt, couponId, limit + 1) as unknown as UserCouponCells[];
      const items = rows.slice(0, limit).map(userCouponOf);
      return { items, next: rows.length > limit ? items.at(-1) : undefined };
    });
  }

  async setAside(filter: SetAsideFilter): Promise<SetAside[]> {
    const { partition = null, couponId = null, winners = false, limit } = filter;
    return this.database.read(() => {
      const rows = this.sql.setAside.all(partition, partition, couponId, couponId, winners ? 1 : 0, limit);
      return rows.map(row => ({ ...row })) as unknown as SetAside[];
    });
  }

  async stats(couponId: CouponId, seconds: number, now: Millis): Promise<SaleStats> {
    return this.database.read(() => {
      const all = this.sql.stats.get(couponId) as unknown as StatsCells | undefined;
      const since = now - seconds * 1000;
      const before = this.sql.seriesBefore.get(couponId, since) as unknown as SeriesCells | undefined;
      const rows = this.sql.series.all(couponId, since, seconds) as unknown as SeriesCells[];
      // A second's row names only what moved in it; totals never fall, so the seconds before give the rest.
      let total: SeriesCells = before ?? [0, 0, 0, 0, 0, 0];
      const series = rows.reverse().map(row => {
        total = total.map((n, i) => Math.max(n, row[i] as number)) as SeriesCells;
        const [second, issued, ...counts] = total;
        return { second, issued, counts: countsOf(counts) };
      });
      const [firstWonAt, lastWonAt, issued, ...counts] = all ?? ([null, null, 0, 0, 0, 0, 0] as StatsCells);
      return { firstWonAt, lastWonAt, issued, counts: countsOf(counts), series };
    });
  }

  async *rows(couponId: CouponId): AsyncGenerator<UserCouponRow[]> {
    let slot = 0;
    for (;;) {
      const rows = this.database.read(() => this.sql.rows.all(couponId, slot, rowsMax) as unknown as UserCouponCells[]);
      if (rows.length > 0) yield rows.map(userCouponOf);
      const last = rows[rowsMax - 1];
      if (!last) return;
      slot = last[2];
    }
  }

  async withSnapshot<T>(partition: number, use: (snapshot: Snapshot) => Promise<T>): Promise<T> {
    return withSnapshot(this.database.path, partition, use);
  }

  async place(stage: string, partition: number): Promise<number> {
    return this.database.read(() => this.placeNow(stage, partition));
  }

  protected couponNow(couponId: CouponId): CouponRow | undefined {
    const cells = this.sql.coupon.get(couponId) as unknown as CouponCells | undefined;
    return cells && couponOf(cells);
  }

  protected checkpointNow(partition: number): Checkpoint {
    return checkpointOf(this.sql.checkpoint.get(partition) as unknown as CheckpointCells | undefined);
  }

  protected placeNow(stage: string, partition: number): number {
    return (this.sql.place.get(stage, partition) as [number] | undefined)?.[0] ?? 0;
  }

  protected userCouponNow(couponId: CouponId, slot: number): UserCouponRow | undefined {
    const cells = this.sql.userCoupon.get(couponId, slot) as unknown as UserCouponCells | undefined;
    return cells && userCouponOf(cells);
  }

  private changesNow(partition: number, couponId: CouponId, next: number): SaleChange[] {
    const rows = this.sql.changes.all(partition, couponId, next) as unknown as SaleChangeCells[];
    return rows.map(saleChangeOf);
  }

  /** Who holds this user's place and whether the request can be read, as of `next`. */
  private placeOf(
    partition: number,
    { couponId, userId, offset }: LedgerQuery,
    next: number,
  ): Pick<View, 'holder' | 'malformed' | 'holderSetAside'> {
    const row = this.sql.holder.get(userId, couponId, partition, next) as unknown as HolderCells | undefined;
    const aside = row
      ? undefined
      : (this.sql.holderAside.get(couponId, userId, partition, next) as unknown as HolderCells | undefined);
    const malformed = this.sql.malformed.get(partition, offset, next) !== undefined;
    const held = row ?? aside;
    return { holder: held && holderOf(held), holderSetAside: aside !== undefined, malformed };
  }
}

const setAsideColumns =
  'log, partition, offset, coupon_id AS couponId, user_id AS userId, slot, key, at, reason, bytes';
/** A row that the checkpoint has not reached may not be shown: a rebuild would leave it out. */
const shown = 'u.offset < coalesce((SELECT p.next FROM checkpoint p WHERE p.partition = c.partition), 0)';
const reads = {
  coupon: `SELECT ${couponColumns} FROM coupon WHERE coupon_id = ?`,
  coupons: `SELECT ${couponColumns} FROM coupon ORDER BY created_at DESC, coupon_id LIMIT ?`,
  checkpoint: `SELECT ${checkpointColumns} FROM checkpoint WHERE partition = ?`,
  changes: `SELECT ${saleChangeColumns} FROM sale_change WHERE partition = ? AND coupon_id = ? AND offset < ? ORDER BY offset`,
  holder: `SELECT u.slot, u.offset, u.key, u.issued_at FROM user_coupon u JOIN coupon c ON c.coupon_id = u.coupon_id
    WHERE u.user_id = ? AND u.coupon_id = ? AND c.partition = ? AND u.offset < ?`,
  holderAside: `SELECT slot, offset, key, at FROM set_aside WHERE coupon_id = ? AND user_id = ? AND slot IS NOT NULL
    AND log = '${requestLog}' AND partition = ? AND offset < ? ORDER BY offset LIMIT 1`,
  malformed: `SELECT 1 FROM set_aside WHERE log = '${requestLog}' AND partition = ? AND offset = ? AND offset < ?
    AND slot IS NULL AND reason LIKE 'malformed%'`,
  ofUser: `SELECT ${userCouponColumns} FROM user_coupon u JOIN coupon c ON c.coupon_id = u.coupon_id
    WHERE u.user_id = ? AND (u.issued_at, u.coupon_id) < (?, ?) AND ${shown}
    ORDER BY u.issued_at DESC, u.coupon_id DESC LIMIT ?`,
  userCoupon: `SELECT ${userCouponColumns} FROM user_coupon u JOIN coupon c ON c.coupon_id = u.coupon_id
    WHERE u.coupon_id = ? AND u.slot = ? AND ${shown}`,
  setAside: `SELECT ${setAsideColumns} FROM set_aside
    WHERE (? IS NULL OR partition = ?) AND (? IS NULL OR coupon_id = ?)
    AND (NOT ? OR slot IS NOT NULL) ORDER BY at, log, partition, offset LIMIT ?`,
  stats: `SELECT first_won_at, last_won_at, issued, ${countsColumns} FROM stats WHERE coupon_id = ?`,
  series: `SELECT second, issued, ${countsColumns} FROM series
    WHERE coupon_id = ? AND second > ? ORDER BY second DESC LIMIT ?`,
  seriesBefore: `SELECT 0, max(issued), max(duplicated), max(closed), max(not_open), max(sold_out) FROM series
    WHERE coupon_id = ? AND second <= ? HAVING count(*) > 0`,
  rows: `SELECT ${userCouponColumns} FROM user_coupon u WHERE u.coupon_id = ? AND u.slot > ? ORDER BY u.slot LIMIT ?`,
  place: 'SELECT next FROM place WHERE stage = ? AND partition = ?',
} as const;

/** Of one sale: first and last won, issued, then the counts. */
type StatsCells = [firstWonAt: Millis | null, lastWonAt: Millis | null, issued: number, ...counts: CountsCells];
type SeriesCells = [second: Millis, issued: number, ...counts: CountsCells];
