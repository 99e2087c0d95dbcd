/**
 * Winners' rows. The tables are the last wall: a winner they refuse for good is set aside with the reason, the others
 * go on. One statement a row: a refused one undoes only itself, so nothing has to be halved or tried again.
 */
import type { StatementSync } from 'node:sqlite';
import type { CouponId, Millis } from '../coupon.ts';
import { encodeWon, requestLog, type Won } from '../entry.ts';
import { messageOf, Unavailable } from '../errors.ts';
import type { SetAside } from '../ports.ts';
import { type Database, isRefusal, prepareAll } from './database.ts';

export interface Inserted {
  inserted: number;
  refused: SetAside[];
  restored: number[];
}

/** One coupon's part of a batch. */
interface Part {
  /** Rows that it may still get; nothing when the coupon is not this partition's. */
  room: number;
  /** Why no row is taken at all. */
  barred: string | undefined;
  inserted: number;
  first: Millis;
  last: Millis;
}

export class Winners {
  private readonly database: Database;
  private readonly sql: Record<keyof typeof statements, StatementSync>;

  constructor(database: Database) {
    this.database = database;
    this.sql = prepareAll(database.db, statements);
  }

  /** Inside a transaction. Rows that are there with the same slot, user and offset are repeats. */
  insert(partition: number, won: readonly Won[]): Inserted {
    const parts = new Map<CouponId, Part>();
    const refused = new Map<number, SetAside>();
    const restored: number[] = [];
    let anyAside = this.sql.anyAside.get() !== undefined;
    let inserted = 0;
    for (const w of won) {
      const part = parts.get(w.couponId) ?? this.part(parts, partition, w.couponId);
      const why = this.insertOne(part, w);
      if (why === undefined) inserted++;
      else if (why !== repeat) {
        const aside = { ...asideOf(partition, w), reason: `refused_by_store: ${why}` };
        this.sql.refuse.run(...asideCells(aside));
        refused.set(w.offset, aside);
        anyAside = true;
        continue;
      }
      if (anyAside && this.sql.restore.run(partition, w.offset, w.couponId, w.userId).changes === 1) {
        if (!refused.delete(w.offset)) restored.push(w.offset);
      }
    }
    for (const [couponId, part] of parts) {
      if (part.inserted > 0) this.sql.count.run(part.inserted, part.first, part.first, part.last, part.last, couponId);
    }
    return { inserted, refused: [...refused.values()], restored };
  }

  /** Noted once: a repeat changes nothing. */
  setAside(a: SetAside): void {
    this.sql.aside.run(...asideCells(a));
  }

  /** Undefined when the row is new, `repeat` when it was there, else why the store refuses it. */
  private insertOne(part: Part, w: Won): string | undefined {
    if (part.room <= 0) return this.isRepeat(w) ? repeat : (part.barred ?? 'issued would exceed stock');
    try {
      if (this.sql.insert.run(w.couponId, w.slot, w.userId, w.offset, w.key, w.at).changes === 0) {
        return this.isRepeat(w) ? repeat : this.conflict(w);
      }
    } catch (error) {
      if (!isRefusal(error)) throw error;
      // A trigger that rolls the whole transaction back is not a refusal of one row.
      if (!this.database.db.isTransaction) throw new Unavailable(messageOf(error), { cause: error });
      // A trigger is asked before the keys are: one that came later refuses what is there.
      return this.isRepeat(w) ? repeat : messageOf(error);
    }
    part.room--;
    part.inserted++;
    if (w.at < part.first) part.first = w.at;
    if (w.at > part.last) part.last = w.at;
    return undefined;
  }

  private part(parts: Map<CouponId, Part>, partition: number, couponId: CouponId): Part {
    const row = this.sql.room.get(couponId) as { partition: number; room: number } | undefined;
    const barred = !row
      ? `coupon ${couponId} has no row`
      : row.partition !== partition
        ? `coupon ${couponId} belongs to partition ${row.partition}`
        : undefined;
    const part: Part = {
      room: row && !barred ? row.room : 0,
      barred,
      inserted: 0,
      first: Number.MAX_SAFE_INTEGER,
      last: 0,
    };
    parts.set(couponId, part);
    return part;
  }

  private isRepeat({ couponId, userId, slot, offset }: Won): boolean {
    return this.sql.repeat.get(couponId, slot, userId, offset) !== undefined;
  }

  private conflict({ couponId, userId, slot }: Won): string {
    const held = this.sql.ofUser.get(userId, couponId) as { slot: number; offset: number } | undefined;
    if (held) return `user ${userId} holds slot ${held.slot} since offset ${held.offset}`;
    const other = this.sql.ofSlot.get(couponId, slot) as { user_id: string; offset: number } | undefined;
    return `slot ${slot} is held by user ${other?.user_id} since offset ${other?.offset}`;
  }
}

const repeat = 'repeat';

const asideOf = (partition: number, w: Won): Omit<SetAside, 'reason'> => ({
  log: requestLog,
  partition,
  offset: w.offset,
  couponId: w.couponId,
  userId: w.userId,
  slot: w.slot,
  key: w.key,
  at: w.at,
  bytes: encodeWon(w),
});

const asideCells = (a: SetAside) =>
  [a.log, a.partition, a.offset, a.couponId, a.userId, a.slot, a.key, a.at, a.reason, a.bytes] as const;
const insertAside = `INSERT INTO set_aside
  (log, partition, offset, coupon_id, user_id, slot, key, at, reason, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

const statements = {
  /** Only what the unique keys forbid counts as a conflict; every other rule that is broken is an error. */
  insert: `INSERT INTO user_coupon (coupon_id, slot, user_id, offset, key, issued_at) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING`,
  repeat: 'SELECT 1 FROM user_coupon WHERE coupon_id = ? AND slot = ? AND user_id = ? AND offset = ?',
  ofUser: 'SELECT slot, offset FROM user_coupon WHERE user_id = ? AND coupon_id = ?',
  ofSlot: 'SELECT user_id, offset FROM user_coupon WHERE coupon_id = ? AND slot = ?',
  room: 'SELECT partition, stock - issued AS room FROM coupon WHERE coupon_id = ?',
  count: `UPDATE coupon SET issued = issued + ?, first_issued_at = min(coalesce(first_issued_at, ?), ?),
    last_issued_at = max(coalesce(last_issued_at, ?), ?) WHERE coupon_id = ?`,
  anyAside: 'SELECT 1 FROM set_aside WHERE slot IS NOT NULL LIMIT 1',
  restore: `DELETE FROM set_aside WHERE log = '${requestLog}' AND partition = ? AND offset = ? AND slot IS NOT NULL
    AND coupon_id = ? AND user_id = ?`,
  aside: `${insertAside} ON CONFLICT DO NOTHING`,
  /** The newest reason stands. */
  refuse: `${insertAside} ON CONFLICT DO UPDATE SET coupon_id = excluded.coupon_id, user_id = excluded.user_id,
    slot = excluded.slot, key = excluded.key, at = excluded.at, reason = excluded.reason, bytes = excluded.bytes`,
} as const;
