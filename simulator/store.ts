/** The real SQLite store, in memory. What a run needs besides: users that it refuses, and a state to go back to. */
import type { StatementSync } from 'node:sqlite';
import type { SetAside, Snapshot } from '../src/ports.ts';
import { type Database, openDatabase } from '../src/sqlite/database.ts';
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

export class MemoryStore extends SqliteStore {
  private readonly anyAside: StatementSync;

  constructor(database: Database) {
    super(database);
    this.anyAside = database.db.prepare('SELECT 1 FROM set_aside LIMIT 1');
    database.db.exec(`CREATE TEMP TABLE barred (user_id TEXT PRIMARY KEY);
      CREATE TEMP TRIGGER barred_users BEFORE INSERT ON main.user_coupon
      WHEN EXISTS (SELECT 1 FROM barred WHERE user_id = new.user_id)
      BEGIN SELECT RAISE(ABORT, 'this user is barred'); END`);
  }

  static open(): MemoryStore {
    return new MemoryStore(openDatabase(':memory:'));
  }

  /** As it was when it was opened: a run after another takes over the open database. */
  empty(): void {
    const { db } = this.database;
    db.exec(`${tables.map(table => `DELETE FROM ${table};`).join('')} DELETE FROM coupon; DELETE FROM barred;
      DELETE FROM meta WHERE name LIKE 'claim.%'`);
  }

  /** All that is set aside; mostly nothing, which is known sooner. */
  async letters(partition?: number): Promise<SetAside[]> {
    if (this.anyAside.get() === undefined) return [];
    return this.setAside({ ...(partition === undefined ? {} : { partition }), limit: Number.MAX_SAFE_INTEGER });
  }

  /** Refuses rows of this user for good, until it is allowed again. */
  bar(userId: string): void {
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
