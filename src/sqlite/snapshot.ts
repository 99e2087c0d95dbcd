import type { StatementSync } from 'node:sqlite';
import type { CouponId, Millis, RequestKey, UserId } from '../coupon.ts';
import { requestLog } from '../entry.ts';
import type { Snapshot } from '../ports.ts';
import { type Holder, noCounts } from '../sale.ts';
import { type Database, openDatabase } from './database.ts';
import {
  type CheckpointCells,
  type CountsCells,
  checkpointColumns,
  checkpointOf,
  countsColumns,
  countsOf,
  type SaleChangeCells,
  saleChangeColumns,
  saleChangeOf,
} from './rows.ts';

/** Holders given out at once: about 10 ms of the reading thread. */
const holdersMax = 10_000;

/**
 * The fold as of the partition's checkpoint. It is read through a connection of its own, so that `use` may wait for
 * whatever it likes while others read and write; what an open transaction has written is not in it.
 */
export async function withSnapshot<T>(
  path: string,
  partition: number,
  use: (snapshot: Snapshot) => Promise<T>,
): Promise<T> {
  const database = openDatabase(path, { readOnly: true });
  try {
    database.db.exec('BEGIN DEFERRED');
    return await use(database.read(() => takeSnapshot(database, partition)));
  } finally {
    database.close();
  }
}

/** A coupon's rows count in its own partition only. Parameters: coupon, partition, next. */
const rowsFrom = `user_coupon u JOIN coupon c ON c.coupon_id = u.coupon_id
  WHERE u.coupon_id = ? AND c.partition = ? AND u.offset < ?`;
/**
 * Winners that the store refused, by user, unless the user has a row: then a state with both would not add up.
 * Parameters: coupon, partition, next, next.
 */
const asideFrom = `set_aside a WHERE a.log = '${requestLog}' AND a.slot IS NOT NULL
  AND a.coupon_id = ? AND a.partition = ? AND a.offset < ?
  AND NOT EXISTS (SELECT 1 FROM user_coupon u JOIN coupon c ON c.coupon_id = u.coupon_id
    WHERE u.user_id = a.user_id AND u.coupon_id = a.coupon_id AND c.partition = a.partition
      AND u.offset < ?)`;

/** Its holders are read when they are iterated: in the same transaction, or they are of another moment. */
export function takeSnapshot(database: Database, partition: number): Snapshot {
  const prepare = preparer(database);
  const at = prepare(`SELECT ${checkpointColumns} FROM checkpoint WHERE partition = ?`);
  const { changeNext: _, changeHash: __, ...frontier } = checkpointOf(at.get(partition) as CheckpointCells | undefined);
  const { next } = frontier;
  const ids = prepare(
    'SELECT DISTINCT coupon_id FROM sale_change WHERE partition = ? AND offset < ? ORDER BY coupon_id',
  );
  const malformed = prepare(`SELECT offset FROM set_aside WHERE log = '${requestLog}' AND partition = ? AND offset < ?
    AND slot IS NULL AND reason LIKE 'malformed%' ORDER BY offset`);
  const sale = saleReader(database, partition, next);
  const sales = (ids.all(partition, next) as unknown as [CouponId][]).map(([couponId]) => sale(couponId));
  return {
    frontier,
    sales,
    malformed: (malformed.all(partition, next) as unknown as [number][]).map(([offset]) => offset),
    holders: {
      [Symbol.asyncIterator]: () =>
        holdersOf(
          database,
          partition,
          next,
          sales.map(({ couponId }) => couponId),
        ),
    },
  };
}

function saleReader(database: Database, partition: number, next: number) {
  const prepare = preparer(database);
  const changes = prepare(`SELECT ${saleChangeColumns} FROM sale_change
    WHERE partition = ? AND coupon_id = ? AND offset < ? ORDER BY offset`);
  const counts = prepare(`SELECT ${countsColumns} FROM totals WHERE partition = ? AND coupon_id = ?`);
  return (couponId: CouponId): Snapshot['sales'][number] => {
    const total = counts.get(partition, couponId) as CountsCells | undefined;
    return {
      couponId,
      changes: (changes.all(partition, couponId, next) as unknown as SaleChangeCells[]).map(saleChangeOf),
      counts: total ? countsOf(total) : noCounts(),
    };
  };
}

type Cells = [userId: UserId, slot: number, offset: number, key: RequestKey, at: Millis];
const pair = ([userId, slot, offset, key, at]: Cells): [UserId, Holder] => [userId, { slot, offset, key, at }];

/** Each sale's rows in order of slot, then its winners set aside. */
async function* holdersOf(database: Database, partition: number, next: number, coupons: readonly CouponId[]) {
  const prepare = preparer(database);
  const rows = prepare(`SELECT u.user_id, u.slot, u.offset, u.key, u.issued_at FROM ${rowsFrom}
    AND u.slot > ? ORDER BY u.slot LIMIT ?`);
  // The first of a user's: SQLite takes the other columns from the row of the minimum.
  const aside = prepare(`SELECT a.user_id, a.slot, min(a.offset), a.key, a.at FROM ${asideFrom} GROUP BY a.user_id`);
  const read = (statement: StatementSync, ...values: (string | number)[]): Cells[] =>
    database.read(() => statement.all(...values) as unknown as Cells[]);
  for (const couponId of coupons) {
    let slot = 0;
    for (;;) {
      const found = read(rows, couponId, partition, next, slot, holdersMax);
      if (found.length > 0) yield { couponId, holders: found.map(pair) };
      const last = found[holdersMax - 1];
      if (!last) break;
      slot = last[1];
    }
    const found = read(aside, couponId, partition, next, next);
    if (found.length > 0) yield { couponId, holders: found.map(pair) };
  }
}

const preparer =
  ({ db }: Database) =>
  (sql: string): StatementSync => {
    const statement = db.prepare(sql);
    statement.setReturnArrays(true);
    return statement;
  };
