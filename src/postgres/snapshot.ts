/** The fold as of the checkpoint, for a rebuild of the ledger: one repeatable-read transaction, holders in chunks. */
import type { CouponId } from '../coupon.ts';
import { requestLog } from '../entry.ts';
import type { Snapshot } from '../ports.ts';
import { type Counts, noCounts, type SaleChange } from '../sale.ts';
import { type CheckpointRow, checkpointColumns, checkpointOf } from './commit.ts';
import type { Connections, Runner } from './connection.ts';
import { saleChangeJson } from './reads.ts';

/** Slots of one row of text, about 30 KB, and rows of one chunk: a sale of a few holders is a row too. */
const partSlots = 500;
const chunkParts = 20;

/** A coupon's rows count in its own partition, $1, only, and before request $2. */
const rowsText = `from user_coupon u join coupon c on c.coupon_id = u.coupon_id and c.partition = $1 where u."offset" < $2`;

/** Winners whose row was refused, unless the user has a row: that one was there first. */
const refusedText = `
  select distinct on (a.coupon_id, a.user_id) a.coupon_id, a.user_id, a.slot, a."offset", a.key, a.at
  from set_aside a
  where a.log = '${requestLog}' and a.partition = $1 and a.slot is not null and a."offset" < $2
    and not exists (select ${rowsText} and u.coupon_id = a.coupon_id and u.user_id = a.user_id)
  order by a.coupon_id, a.user_id, a."offset"`;

const words = (of: string, at: string) =>
  `string_agg(${of}.user_id || ' ' || ${of}.slot || ':' || ${of}."offset" || ':' || ${of}.key || ':' || ${at}, ' ')`;

/**
 * Holders as text, for each coupon of partition $1 in parts of $3 slots: as a row of cells a holder would cost this
 * process 2 to 3 us instead of 0.2.
 */
const holdersText = `
  select part.coupon_id, (
    select ${words('u', 'u.issued_at')} from user_coupon u
    where u.coupon_id = part.coupon_id and u.slot > part.low and u.slot <= part.low + $3 and u."offset" < $2
  ) as holders
  from (
    select c.coupon_id, generate_series(0, last.slot - 1, $3) as low
    from coupon c, lateral (select max(u.slot) as slot from user_coupon u where u.coupon_id = c.coupon_id) last
    where c.partition = $1
  ) part
  union all
  select r.coupon_id, ${words('r', 'r.at')} from (${refusedText}) r group by r.coupon_id, r.slot / $3`;

interface SaleRow extends Counts {
  couponId: CouponId;
  changes: SaleChange[];
}

/** Null where none of the part's slots is held. */
type PartCells = [couponId: CouponId, holders: string | null];

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
      with sale as (
        select s.coupon_id, json_agg(${saleChangeJson} order by s."offset") as changes from sale_change s
        where s.partition = $1 and s."offset" < $2 group by s.coupon_id
      )
      select s.coupon_id as "couponId", s.changes, t.duplicated, t.closed, t.not_open, t.sold_out
      from sale s left join total t using (coupon_id)
      order by s.coupon_id`,
    values: [partition, next],
  });
  return rows.map(({ couponId, changes, duplicated, closed, not_open, sold_out }) => ({
    couponId,
    changes,
    counts: duplicated === null ? noCounts() : { duplicated, closed, not_open, sold_out },
  }));
}

/** Each reading of it opens a cursor of its own. */
function holderChunks(runner: Runner, partition: number, next: number, sales: Set<CouponId>): Snapshot['holders'] {
  let cursors = 0;
  return {
    async *[Symbol.asyncIterator]() {
      const cursor = `holders_${++cursors}`;
      const text = `declare ${cursor} no scroll cursor for ${holdersText}`;
      await runner.rows({ text, values: [partition, next, partSlots] });
      const fetch = () => {
        const rows = runner.rows<PartCells>({ text: `fetch ${chunkParts} from ${cursor}`, rowMode: 'array' });
        // Of one that is read ahead nobody may be waiting when it fails.
        rows.catch(() => {});
        return rows;
      };
      // The next chunk is on its way while this one is used.
      for (let next: Promise<PartCells[]> | undefined = fetch(); next; ) {
        const rows: PartCells[] = await next;
        next = rows.length < chunkParts ? undefined : fetch();
        yield* byCoupon(rows.filter(([couponId]) => sales.has(couponId)));
      }
    },
  };
}

function byCoupon(rows: readonly PartCells[]): Iterable<{ couponId: CouponId; holders: string }> {
  const chunks = new Map<CouponId, string>();
  for (const [couponId, holders] of rows) {
    const before = chunks.get(couponId);
    if (holders !== null) chunks.set(couponId, before === undefined ? holders : `${before} ${holders}`);
  }
  return [...chunks].map(([couponId, holders]) => ({ couponId, holders }));
}
