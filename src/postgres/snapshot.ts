/** The fold as of the checkpoint, for a rebuild of the ledger: one repeatable-read transaction, holders in chunks. */
import type { CouponId, Millis, RequestKey, UserId } from '../coupon.ts';
import { requestLog } from '../entry.ts';
import type { Snapshot } from '../ports.ts';
import { type Counts, type Holder, noCounts, type SaleChange } from '../sale.ts';
import { type CheckpointRow, checkpointColumns, checkpointOf } from './commit.ts';
import type { Connections, Runner } from './connection.ts';
import { chunkRows, saleChangeJson } from './reads.ts';

/** Rows of partition $1 before request $2. */
const rowsText = `from user_coupon u join coupon c on c.coupon_id = u.coupon_id and c.partition = $1 where u."offset" < $2`;

/** Winners whose row was refused, unless the user has a row: that one was there first. */
const refusedText = `
  select distinct on (a.coupon_id, a.user_id) a.coupon_id, a.user_id, a.slot, a."offset", a.key, a.at
  from set_aside a
  where a.log = '${requestLog}' and a.partition = $1 and a.slot is not null and a."offset" < $2
    and not exists (select ${rowsText} and u.coupon_id = a.coupon_id and u.user_id = a.user_id)
  order by a.coupon_id, a.user_id, a."offset"`;

const holdersText = `
  select u.coupon_id, u.user_id, u.slot, u."offset", u.key, u.issued_at as at ${rowsText}
  union all
  select * from (${refusedText}) refused`;

interface SaleRow extends Counts {
  couponId: CouponId;
  changes: SaleChange[];
  taken: number;
}

type HolderCells = [couponId: CouponId, userId: UserId, slot: number, offset: number, key: RequestKey, at: Millis];

export const withSnapshot = <T>(
  connections: Connections,
  partition: number,
  use: (snapshot: Snapshot) => Promise<T>,
): Promise<T> =>
  connections.transaction('begin isolation level repeatable read, read only', async runner => {
    const [row] = await runner.rows<CheckpointRow>({
      text: `select ${checkpointColumns} from checkpoint where partition = $1`,
      values: [partition],
    });
    const { next, clock, hash, strays } = checkpointOf(row);
    const sales = await readSales(runner, partition, next);
    const malformed = await runner.rows<{ offset: number }>({
      text: `select "offset" from set_aside
        where log = '${requestLog}' and partition = $1 and "offset" < $2 and slot is null
          and starts_with(reason, 'malformed')
        order by "offset"`,
      values: [partition, next],
    });
    return use({
      frontier: { next, clock, hash, strays },
      sales,
      malformed: malformed.map(m => m.offset),
      holders: holderChunks(runner, partition, next, new Set(sales.map(s => s.couponId))),
    });
  });

async function readSales(runner: Runner, partition: number, next: number): Promise<Snapshot['sales']> {
  const rows = await runner.rows<SaleRow>({
    text: `
      with taken as (
        select coupon_id, sum(n)::bigint as n from (
          select u.coupon_id, count(*) as n ${rowsText} group by 1
          union all
          select coupon_id, count(*) from (${refusedText}) refused group by 1
        ) both_kinds group by 1
      ), sale as (
        select s.coupon_id, json_agg(${saleChangeJson} order by s."offset") as changes from sale_change s
        where s.partition = $1 and s."offset" < $2 group by s.coupon_id
      )
      select s.coupon_id as "couponId", s.changes, coalesce(taken.n, 0) as taken,
        t.duplicated, t.closed, t.not_open, t.sold_out
      from sale s left join taken using (coupon_id) left join total t using (coupon_id)
      order by s.coupon_id`,
    values: [partition, next],
  });
  return rows.map(({ couponId, changes, taken, duplicated, closed, not_open, sold_out }) => ({
    couponId,
    changes,
    taken,
    counts: duplicated === null ? noCounts() : { duplicated, closed, not_open, sold_out },
  }));
}

/** Each reading of it opens a cursor of its own. */
function holderChunks(runner: Runner, partition: number, next: number, sales: Set<CouponId>): Snapshot['holders'] {
  let cursors = 0;
  return {
    async *[Symbol.asyncIterator]() {
      const cursor = `holders_${++cursors}`;
      await runner.rows({ text: `declare ${cursor} no scroll cursor for ${holdersText}`, values: [partition, next] });
      const fetch = () => {
        const rows = runner.rows<HolderCells>({ text: `fetch ${chunkRows} from ${cursor}`, rowMode: 'array' });
        // Of one that is read ahead nobody may be waiting when it fails.
        rows.catch(() => {});
        return rows;
      };
      // The next chunk is on its way while this one is used.
      for (let next: Promise<HolderCells[]> | undefined = fetch(); next; ) {
        const rows: HolderCells[] = await next;
        next = rows.length < chunkRows ? undefined : fetch();
        yield* byCoupon(rows.filter(([couponId]) => sales.has(couponId)));
      }
    },
  };
}

function byCoupon(rows: readonly HolderCells[]): Iterable<{ couponId: CouponId; holders: [UserId, Holder][] }> {
  const chunks = new Map<CouponId, [UserId, Holder][]>();
  for (const [couponId, userId, slot, offset, key, at] of rows) {
    const holders = chunks.get(couponId) ?? [];
    if (holders.length === 0) chunks.set(couponId, holders);
    holders.push([userId, { slot, offset, key, at }]);
  }
  return [...chunks].map(([couponId, holders]) => ({ couponId, holders }));
}
