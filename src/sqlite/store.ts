/**
 * The writing half of the store; there is one in the one writing thread. Every method belongs to the open transaction
 * of its Database if there is one, else it makes one of its own. Nothing here waits.
 */
import type { StatementSync } from 'node:sqlite';
import type { CouponBody, CouponId, CouponRow, Millis, UserId } from '../coupon.ts';
import type { SaleChanged } from '../entry.ts';
import { Alarm, Refused } from '../errors.ts';
import type { Checkpoint, Committed, CouponStore, Identity, Redeemed, StatsUpdate, StoreBatch } from '../ports.ts';
import { type Database, prepareAll } from './database.ts';
import { SqliteReader } from './store-read.ts';
import { Winners } from './winners.ts';

/** Points of a coupon that are older than its newest by more than this are dropped. */
const seriesMsMax = 3_600_000;

export class SqliteStore extends SqliteReader implements CouponStore {
  private readonly put: Record<keyof typeof writes, StatementSync>;
  private readonly winners: Winners;

  constructor(database: Database) {
    super(database);
    this.put = prepareAll(database.db, writes);
    this.winners = new Winners(database);
  }

  async claim(identity: Identity): Promise<void> {
    this.database.write(() => {
      for (const name of ['log', 'secret'] as const) {
        const known = this.database.meta(`claim.${name}`);
        if (known === undefined) this.database.setMeta(`claim.${name}`, identity[name]);
        else if (known !== identity[name]) throw new Refused(differs[name](this.database.path));
      }
    });
  }

  async createCoupon(row: {
    couponId: CouponId;
    partition: number;
    body: CouponBody;
    createdAt: Millis;
  }): Promise<{ row: CouponRow; created: boolean }> {
    const { couponId, partition, body, createdAt } = row;
    return this.database.write(() => {
      const { changes } = this.put.coupon.run(couponId, partition, JSON.stringify(body), createdAt, body.stock);
      return { row: this.couponNow(couponId) as CouponRow, created: changes === 1 };
    });
  }

  async commit(partition: number, batch: StoreBatch): Promise<Committed> {
    return this.database.write(() => {
      const stored = this.checkpointNow(partition);
      if (stored.changeNext !== batch.expectChangeNext) return { kind: 'moved', checkpoint: stored };
      if (batch.checkpoint.next < stored.next || batch.checkpoint.changeNext < stored.changeNext) {
        throw new Alarm(
          `the checkpoint of partition ${partition} would go back from ${stored.next} to ${batch.checkpoint.next}`,
        );
      }
      for (const change of batch.sales) this.putSaleChange(partition, change);
      for (const item of batch.setAside) this.winners.setAside(item);
      const result = this.winners.insert(partition, batch.won);
      for (const [couponId, c] of Object.entries(batch.counts)) {
        this.put.totals.run(partition, couponId, c.duplicated, c.closed, c.not_open, c.sold_out);
      }
      this.putCheckpoint(partition, batch.checkpoint);
      return { kind: 'committed', ...result };
    });
  }

  async redeem(userId: UserId, couponId: CouponId, slot: number, now: Millis): Promise<Redeemed> {
    return this.database.write(() => {
      const row = this.userCouponNow(couponId, slot);
      if (!row || row.userId !== userId) return { kind: 'unknown' };
      if (row.redeemedAt !== null) return { kind: 'already', row };
      const validUntil = this.couponNow(couponId)?.body.validUntil ?? null;
      if (validUntil !== null && now > validUntil) return { kind: 'expired', row };
      this.put.redeemed.run(now, couponId, slot, userId);
      return { kind: 'redeemed', row: { ...row, redeemedAt: now } };
    });
  }

  async saveStats(updates: readonly StatsUpdate[]): Promise<void> {
    this.database.write(() => {
      for (const { couponId, second, issued, counts, firstWonAt, lastWonAt } of updates) {
        const { duplicated, closed, not_open, sold_out } = counts ?? {
          duplicated: 0,
          closed: 0,
          not_open: 0,
          sold_out: 0,
        };
        this.put.stats.run(couponId, firstWonAt, lastWonAt, issued, duplicated, closed, not_open, sold_out);
        this.put.series.run(couponId, second, issued, duplicated, closed, not_open, sold_out);
        this.put.forget.run(couponId, couponId);
      }
    });
  }

  async savePlace(stage: string, partition: number, from: number, next: number): Promise<number> {
    return this.database.write(() => {
      const there = this.placeNow(stage, partition);
      if (there !== from) return there;
      this.put.place.run(stage, partition, next);
      return next;
    });
  }

  /** The connection is the caller's to close. */
  async close(): Promise<void> {}

  /** A change that is there already is a repeat. The coupon's row follows the greatest. */
  private putSaleChange(partition: number, c: SaleChanged): void {
    const closed = c.closed ? 1 : 0;
    const { put } = this;
    const { changes } = put.sale.run(
      partition,
      c.couponId,
      c.offset,
      c.at,
      c.stock,
      c.opensAt,
      c.closesAt,
      closed,
      c.phase,
      c.key,
    );
    if (changes === 1) put.terms.run(c.stock, closed, c.offset, c.couponId, partition, c.offset);
  }

  private putCheckpoint(partition: number, c: Checkpoint): void {
    const { malformed, unknown_coupon } = c.strays;
    this.put.checkpoint.run(partition, c.changeNext, c.changeHash, c.next, c.clock, c.hash, malformed, unknown_coupon);
  }
}

const differs = {
  log: (path: string) => `${path}: its rows were made from another log: give the file that belongs to this log`,
  secret: (path: string) => `${path}: was made with another DIBS_SECRET: set the one that it was made with`,
};

const greatest = (table: string, ...columns: string[]): string =>
  columns.map(c => `${c} = max(${table}.${c}, excluded.${c})`).join(', ');
/** Of two times that may both be missing. */
const extreme = (kind: 'min' | 'max', c: string): string =>
  `${c} = coalesce(${kind}(stats.${c}, excluded.${c}), stats.${c}, excluded.${c})`;
const lost = ['duplicated', 'closed', 'not_open', 'sold_out'];
const totals = ['issued', ...lost];

const writes = {
  coupon: `INSERT INTO coupon (coupon_id, partition, body, created_at, stock) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING`,
  sale: `INSERT INTO sale_change (partition, coupon_id, offset, at, stock, opens_at, closes_at, closed, phase, key)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
  terms: `UPDATE coupon SET stock = ?, closed = ?, sale_offset = ?
    WHERE coupon_id = ? AND partition = ? AND sale_offset < ?`,
  totals: `INSERT INTO totals (partition, coupon_id, duplicated, closed, not_open, sold_out) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET ${greatest('totals', ...lost)}`,
  checkpoint: `INSERT INTO checkpoint (partition, change_next, change_hash, next, clock, hash, malformed, unknown_coupon)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET change_next = excluded.change_next, change_hash = excluded.change_hash,
      next = excluded.next, clock = excluded.clock, hash = excluded.hash, malformed = excluded.malformed,
      unknown_coupon = excluded.unknown_coupon`,
  redeemed: `UPDATE user_coupon SET redeemed_at = ?
    WHERE coupon_id = ? AND slot = ? AND user_id = ? AND redeemed_at IS NULL`,
  stats: `INSERT INTO stats (coupon_id, first_won_at, last_won_at, ${totals.join(', ')}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET ${extreme('min', 'first_won_at')}, ${extreme('max', 'last_won_at')},
      ${greatest('stats', ...totals)}`,
  series: `INSERT INTO series (coupon_id, second, ${totals.join(', ')}) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET ${greatest('series', ...totals)}`,
  forget: `DELETE FROM series WHERE coupon_id = ?
    AND second < (SELECT max(second) FROM series WHERE coupon_id = ?) - ${seriesMsMax}`,
  place: `INSERT INTO place (stage, partition, next) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET next = excluded.next`,
} as const;
