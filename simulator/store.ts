/** The real SQLite store, in memory. What a run needs besides: users that it refuses, and a state to go back to. */
import type { StatementSync } from 'node:sqlite';
import type { CouponId, UserCouponRow } from '../src/coupon.ts';
import type { Checkpoint, SetAside, SetAsideFilter, Snapshot } from '../src/ports.ts';
import { type Database, openDatabase, prepareAll } from '../src/sqlite/database.ts';
import { takeSnapshot } from '../src/sqlite/snapshot.ts';
import { SqliteStore } from '../src/sqlite/store.ts';

/** Everything but the coupons as they were created: an operator's answered call is not what a run takes back. */
const tables = ['user_coupon', 'sale_change', 'totals', 'set_aside', 'checkpoint', 'place', 'stats', 'series'] as const;
const ofCoupon = ['stock', 'closed', 'sale_offset', 'issued', 'first_issued_at', 'last_issued_at'] as const;

type Cells = Record<string, string | number | null>;
export interface KeptStore {
  tables: Map<string, Cells[]>;
  coupons: Cells[];
}

/** What the checks look at after every commit: the tables as they are, without an order, which costs most of a read. */
const looks = {
  anyAside: 'SELECT 1 FROM set_aside LIMIT 1',
  letters: 'SELECT log, partition, offset, slot FROM set_aside WHERE ? IS NULL OR partition = ?',
  issued: 'SELECT coupon_id AS couponId, issued FROM coupon WHERE partition = ?',
  rows: `SELECT coupon_id AS couponId, user_id AS userId, slot, offset, key, issued_at AS issuedAt FROM user_coupon
    WHERE coupon_id = ?`,
  counted: 'SELECT issued, duplicated, closed, not_open, sold_out FROM stats WHERE coupon_id = ?',
} as const;

export type Letter = Pick<SetAside, 'log' | 'partition' | 'offset' | 'slot'>;

export class MemoryStore extends SqliteStore {
  private readonly look: Record<keyof typeof looks, StatementSync>;
  private readonly emptied: StatementSync[];
  /** Users of this run that were ever barred. */
  readonly barredEver = new Set<string>();

  constructor(database: Database) {
    super(database);
    const { db } = database;
    db.exec(`CREATE TEMP TABLE barred (user_id TEXT PRIMARY KEY);
      CREATE TEMP TRIGGER barred_users BEFORE INSERT ON main.user_coupon
      WHEN EXISTS (SELECT 1 FROM barred WHERE user_id = new.user_id)
      BEGIN SELECT RAISE(ABORT, 'this user is barred'); END`);
    this.look = prepareAll(db, looks);
    this.emptied = [...tables, 'coupon', 'barred', "meta WHERE name LIKE 'claim.%'"].map(what =>
      db.prepare(`DELETE FROM ${what}`),
    );
  }

  static open(): MemoryStore {
    const database = openDatabase(':memory:');
    const { db } = database;
    // A snapshot prepares its statements on a connection of its own; here it has this one, run after run.
    const prepare = db.prepare.bind(db);
    const known = new Map<string, StatementSync>();
    db.prepare = sql => {
      const statement = known.get(sql) ?? prepare(sql);
      known.set(sql, statement);
      return statement;
    };
    return new MemoryStore(database);
  }

  /** As it was when it was opened: a run after another takes over the open database. */
  empty(): void {
    this.barredEver.clear();
    this.database.write(() => {
      for (const statement of this.emptied) statement.run();
    });
  }

  /** All that is set aside; mostly nothing, which is known sooner. */
  letters(partition: number | null = null): Letter[] {
    if (this.look.anyAside.get() === undefined) return [];
    return this.look.letters.all(partition, partition) as unknown as Letter[];
  }

  /** Ordered it takes longer, and mostly there is nothing. */
  override async setAside(filter: SetAsideFilter): Promise<SetAside[]> {
    return this.look.anyAside.get() === undefined ? [] : super.setAside(filter);
  }

  checkpointOf(partition: number): Checkpoint {
    return this.checkpointNow(partition);
  }

  /** Each coupon of a partition, and how many rows it counts. */
  issuedOf(partition: number): { couponId: CouponId; issued: number }[] {
    return this.look.issued.all(partition) as { couponId: CouponId; issued: number }[];
  }

  rowsOf(couponId: CouponId): Omit<UserCouponRow, 'redeemedAt'>[] {
    return this.look.rows.all(couponId) as unknown as Omit<UserCouponRow, 'redeemedAt'>[];
  }

  /** The totals of the statistics; none before the first is stored. */
  countedOf(couponId: string): Record<string, number> {
    return (this.look.counted.get(couponId) ?? {}) as Record<string, number>;
  }

  /** Refuses rows of this user for good, until it is allowed again. */
  bar(userId: string): void {
    this.barredEver.add(userId);
    this.database.db.prepare('INSERT OR IGNORE INTO barred VALUES (?)').run(userId);
  }

  allow(userId: string): void {
    this.database.db.prepare('DELETE FROM barred WHERE user_id = ?').run(userId);
  }

  /** All of it at this moment; another connection could not see into memory. */
  async snapshotNow(partition: number): Promise<Snapshot> {
    const snapshot = this.database.read(() => takeSnapshot(this.database, partition));
    const chunks: { couponId: Snapshot['sales'][number]['couponId']; holders: never[] }[] = [];
    for await (const chunk of snapshot.holders) chunks.push(chunk as (typeof chunks)[number]);
    return {
      ...snapshot,
      holders: {
        async *[Symbol.asyncIterator]() {
          yield* chunks;
        },
      },
    };
  }

  override async withSnapshot<T>(partition: number, use: (snapshot: Snapshot) => Promise<T>): Promise<T> {
    return use(await this.snapshotNow(partition));
  }

  keep(): KeptStore {
    const { db } = this.database;
    const all = (sql: string) =>
      db
        .prepare(sql)
        .all()
        .map(row => ({ ...row })) as Cells[];
    return {
      tables: new Map(tables.map(table => [table, all(`SELECT * FROM ${table}`)])),
      coupons: all(`SELECT coupon_id, ${ofCoupon.join(', ')} FROM coupon`),
    };
  }

  /** A backup was restored, or a replica took over that lacked the last commits. */
  goBackTo(kept: KeptStore): void {
    this.database.write(() => {
      const { db } = this.database;
      // What was taken before a user was barred is there again.
      const barred = db.prepare('SELECT user_id FROM barred').all() as { user_id: string }[];
      db.exec('DELETE FROM barred');
      for (const table of tables) db.exec(`DELETE FROM ${table}`);
      db.exec(`UPDATE coupon SET stock = json_extract(body, '$.stock'), closed = 0, sale_offset = -1, issued = 0,
        first_issued_at = NULL, last_issued_at = NULL`);
      for (const { coupon_id, ...cells } of kept.coupons) {
        db.prepare(`UPDATE coupon SET ${ofCoupon.map(name => `${name} = ?`).join(', ')} WHERE coupon_id = ?`).run(
          ...ofCoupon.map(name => cells[name] as string | number | null),
          coupon_id as string,
        );
      }
      for (const [table, rows] of kept.tables) {
        for (const row of rows) {
          const names = Object.keys(row);
          const places = names.map(() => '?').join(', ');
          db.prepare(`INSERT INTO ${table} (${names.join(', ')}) VALUES (${places})`).run(...Object.values(row));
        }
      }
      for (const { user_id } of barred) this.bar(user_id);
    });
  }
}
