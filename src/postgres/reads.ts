/** What is read from the store: coupons, rows of users, what is set aside, and views for tasks. */
import type { CouponId, CouponRow, RequestKey, UserCouponRow, UserId } from '../coupon.ts';
import { encodeWon, type LogName, requestLog, type Won } from '../entry.ts';
import type { View } from '../outcome.ts';
import type { LedgerQuery, PageEnd, SetAside, SetAsideFilter, UserCouponPage } from '../ports.ts';
import type { SaleChange } from '../sale.ts';
import type { Row, Runner } from './connection.ts';

/** Rows of one chunk for verify and for a snapshot. */
export const chunkRows = 10_000;

export const couponColumns = `coupon_id as "couponId", partition, body, created_at as "createdAt", stock, closed, issued,
  first_issued_at as "firstIssuedAt", last_issued_at as "lastIssuedAt"`;

export const userCouponColumns = `u.coupon_id as "couponId", u.user_id as "userId", u.slot, u."offset", u.key,
  u.issued_at as "issuedAt", u.redeemed_at as "redeemedAt"`;

/** A row that no mark covers yet is nobody's: it is left out wherever users are answered. */
export const covered = `join coupon c on c.coupon_id = u.coupon_id
  join checkpoint k on k.partition = c.partition and u."offset" < k.next`;

export const saleChangeJson = `json_build_object('offset', s."offset", 'at', s.at, 'stock', s.stock,
  'opensAt', s.opens_at, 'closesAt', s.closes_at, 'closed', s.closed, 'phase', s.phase, 'key', s.key)`;

export const coupons = (runner: Runner, ids: readonly CouponId[]): Promise<CouponRow[]> =>
  runner.rows<CouponRow>({
    name: 'coupons',
    text: `select ${couponColumns} from coupon where coupon_id = any ($1)`,
    values: [ids],
  });

export const listCoupons = (runner: Runner, limit: number): Promise<CouponRow[]> =>
  runner.rows<CouponRow>({
    name: 'list_coupons',
    text: `select ${couponColumns} from coupon order by created_at desc, coupon_id limit $1`,
    values: [limit],
  });

export async function userCoupons(
  runner: Runner,
  userId: UserId,
  limit: number,
  after: PageEnd | undefined,
): Promise<UserCouponPage> {
  const rows = await runner.rows<UserCouponRow>({
    name: 'user_coupons',
    text: `select ${userCouponColumns} from user_coupon u ${covered}
      where u.user_id = $1 and ($2::bigint is null or (u.issued_at, u.coupon_id) < ($2, $3::text))
      order by u.issued_at desc, u.coupon_id desc limit $4`,
    values: [userId, after?.issuedAt ?? null, after?.couponId ?? '', limit + 1],
  });
  const items = rows.slice(0, limit);
  return { items, next: rows.length > limit ? items.at(-1) : undefined };
}

/** Chunks by slot, each its own statement: verify may take its time. */
export async function* rowsOf(runner: Runner, couponId: CouponId): AsyncGenerator<UserCouponRow[]> {
  let after = 0;
  for (;;) {
    const rows = await runner.rows<UserCouponRow>({
      name: 'rows_of',
      text: `select ${userCouponColumns} from user_coupon u
        where u.coupon_id = $1 and u.slot > $2 order by u.slot limit ${chunkRows}`,
      values: [couponId, after],
    });
    const last = rows[rows.length - 1];
    if (!last) return;
    yield rows;
    if (rows.length < chunkRows) return;
    after = last.slot;
  }
}

interface SetAsideRow extends Omit<SetAside, 'bytes'> {
  bytes: Buffer | null;
}

export async function setAside(
  runner: Runner,
  { partition, couponId, winners = false, limit }: SetAsideFilter,
): Promise<SetAside[]> {
  const rows = await runner.rows<SetAsideRow>({
    name: 'set_aside',
    text: `select log, partition, "offset", coupon_id as "couponId", user_id as "userId", slot, key, at, reason, bytes
      from set_aside
      where ($1::integer is null or partition = $1) and ($2::text is null or coupon_id = $2)
        and (not $3::boolean or slot is not null)
      order by at, log, partition, "offset" limit $4`,
    values: [partition ?? null, couponId ?? null, winners, limit],
  });
  return rows.map(row => ({ ...row, log: row.log as LogName, bytes: bytesOf(row) }));
}

/** A refused winner's bytes are its change, made again. */
function bytesOf(row: SetAsideRow): string {
  if (row.bytes !== null) return row.bytes.toString();
  const { couponId, userId, slot, offset, key, at } = row;
  return encodeWon({ type: 'won', couponId, userId, slot, offset, key, at } as Won);
}

interface ViewRow extends Row {
  next: number;
  changes: SaleChange[] | null;
  malformed: boolean;
  slot: number | null;
  offset: number;
  key: RequestKey;
  at: number;
  aside: boolean;
}

/**
 * One statement, so one snapshot. The changes of a coupon stand in the first of its queries only. Where a user has
 * both a row and a set-aside winner, the row was there first.
 */
const viewsText = `
  with place as (
    select coalesce(max(next), 0) as next from checkpoint where partition = $1
  ), query as (
    select q.*, p.next, row_number() over (partition by q.coupon_id order by q.n) = 1 as first
    from unnest($2::text[], $3::text[], $4::bigint[]) with ordinality as q (coupon_id, user_id, "offset", n), place p
  )
  select q.next, coalesce(u.slot, a.slot) as slot, coalesce(u."offset", a."offset") as "offset",
    coalesce(u.key, a.key) as key, coalesce(u.issued_at, a.at) as at, u.slot is null as aside,
    exists (
      select from set_aside m where m.log = '${requestLog}' and m.partition = $1 and m."offset" = q."offset"
        and m.slot is null and starts_with(m.reason, 'malformed')
    ) as malformed,
    case when q.first then (
      select json_agg(${saleChangeJson} order by s."offset") from sale_change s
      where s.partition = $1 and s.coupon_id = q.coupon_id and s."offset" < q.next
    ) end as changes
  from query q
  left join lateral (
    select u.* from user_coupon u join coupon c on c.coupon_id = u.coupon_id and c.partition = $1
    where u.user_id = q.user_id and u.coupon_id = q.coupon_id and u."offset" < q.next
  ) u on true
  left join lateral (
    select a.* from set_aside a
    where a.log = '${requestLog}' and a.partition = $1 and a.coupon_id = q.coupon_id and a.user_id = q.user_id
      and a.slot is not null and a."offset" < q.next
    order by a."offset" limit 1
  ) a on true
  order by q.n`;

export async function views(runner: Runner, partition: number, queries: readonly LedgerQuery[]): Promise<View[]> {
  if (queries.length === 0) return [];
  const rows = await runner.rows<ViewRow>({
    name: 'views',
    text: viewsText,
    values: [partition, queries.map(q => q.couponId), queries.map(q => q.userId), queries.map(q => q.offset)],
  });
  const changes = new Map<string, SaleChange[]>();
  return rows.map((row, i) => {
    const couponId = (queries[i] as LedgerQuery).couponId;
    if (!changes.has(couponId)) changes.set(couponId, row.changes ?? []);
    const { slot, offset, key, at } = row;
    return {
      next: row.next,
      committedNext: row.next,
      holder: slot === null ? undefined : { slot, offset, key, at },
      changes: changes.get(couponId) ?? [],
      malformed: row.malformed,
      holderSetAside: slot !== null && row.aside,
    };
  });
}
