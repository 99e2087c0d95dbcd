/** Issuing statistics: maxima and minima only, so that a repeat changes nothing. */
import type { CouponId, Millis } from '../coupon.ts';
import type { SaleStats, SeriesPoint, StatsUpdate } from '../ports.ts';
import { type Counts, noCounts } from '../sale.ts';
import type { Runner } from './connection.ts';

/** Points older than the coupon's newest by more than this are dropped. */
const seriesMsMax = 3_600_000;

const saveText = `
  with given as (
    select * from json_to_recordset($1) as g ("couponId" text, second bigint, issued bigint, duplicated bigint,
      closed bigint, not_open bigint, sold_out bigint, "firstWonAt" bigint, "lastWonAt" bigint)
  ), points as (
    insert into series as s (coupon_id, second, issued, duplicated, closed, not_open, sold_out)
    select "couponId", second, max(issued), max(duplicated), max(closed), max(not_open), max(sold_out)
    from given group by 1, 2 order by 1, 2
    on conflict (coupon_id, second) do update set
      issued = greatest(s.issued, excluded.issued),
      duplicated = greatest(s.duplicated, excluded.duplicated),
      closed = greatest(s.closed, excluded.closed),
      not_open = greatest(s.not_open, excluded.not_open),
      sold_out = greatest(s.sold_out, excluded.sold_out)
  ), newest as (
    select "couponId", max(second) as second from given group by 1
  ), dropped as (
    delete from series s using newest n where s.coupon_id = n."couponId" and s.second < n.second - ${seriesMsMax}
  )
  insert into sale_stats as t (coupon_id, first_won_at, last_won_at, issued, duplicated, closed, not_open, sold_out)
  select "couponId", min("firstWonAt"), max("lastWonAt"), max(issued), max(duplicated), max(closed), max(not_open),
    max(sold_out)
  from given group by 1 order by 1
  on conflict (coupon_id) do update set
    first_won_at = least(t.first_won_at, excluded.first_won_at),
    last_won_at = greatest(t.last_won_at, excluded.last_won_at),
    issued = greatest(t.issued, excluded.issued),
    duplicated = greatest(t.duplicated, excluded.duplicated),
    closed = greatest(t.closed, excluded.closed),
    not_open = greatest(t.not_open, excluded.not_open),
    sold_out = greatest(t.sold_out, excluded.sold_out)`;

export async function saveStats(runner: Runner, updates: readonly StatsUpdate[]): Promise<void> {
  if (updates.length === 0) return;
  const given = updates.map(({ counts, ...update }) => ({ ...update, ...(counts ?? noCounts()) }));
  await runner.rows({ name: 'save_stats', text: saveText, values: [JSON.stringify(given)] });
}

interface StatsRow extends Counts {
  firstWonAt: Millis | null;
  lastWonAt: Millis | null;
  issued: number;
}

/** A second without news of a total has that of the second before. */
const seriesText = `
  select * from (
    select second, max(issued) over w as issued, max(duplicated) over w as duplicated, max(closed) over w as closed,
      max(not_open) over w as not_open, max(sold_out) over w as sold_out
    from series where coupon_id = $1
    window w as (order by second)
  ) all_points
  where second > $2 order by second desc limit $3`;

export async function stats(runner: Runner, couponId: CouponId, seconds: number, now: Millis): Promise<SaleStats> {
  const [total] = await runner.rows<StatsRow>({
    name: 'stats',
    text: `select first_won_at as "firstWonAt", last_won_at as "lastWonAt", issued, duplicated, closed, not_open, sold_out
      from sale_stats where coupon_id = $1`,
    values: [couponId],
  });
  const points = await runner.rows<Counts & { second: Millis; issued: number }>({
    name: 'series',
    text: seriesText,
    values: [couponId, now - seconds * 1000, seconds],
  });
  return {
    firstWonAt: total?.firstWonAt ?? null,
    lastWonAt: total?.lastWonAt ?? null,
    issued: total?.issued ?? 0,
    counts: total ? countsOf(total) : noCounts(),
    series: points.reverse().map((p): SeriesPoint => ({ second: p.second, issued: p.issued, counts: countsOf(p) })),
  };
}

const countsOf = ({ duplicated, closed, not_open, sold_out }: Counts): Counts => ({
  duplicated,
  closed,
  not_open,
  sold_out,
});
