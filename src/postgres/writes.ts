/** What the API writes: coupons, redemptions, whose rows these are. Every write states the state that it expects. */
import type { CouponId, CouponRow, Millis, UserCouponRow, UserId } from '../coupon.ts';
import { Refused } from '../errors.ts';
import type { CouponStore, Identity, Redeemed } from '../ports.ts';
import type { Runner } from './connection.ts';
import { couponColumns, coupons, covered, userCouponColumns } from './reads.ts';

/** Where each part of the identity comes from, and what to do when it differs. Values are not printed. */
const differs: Record<keyof Identity, string> = {
  log: 'these rows were folded from another log: point DIBS_KAFKA_BROKERS at the log that they belong to, or DIBS_DATABASE_URL at an empty database',
  secret:
    'these rows were written under another secret, whose task ids are in the hands of users: set DIBS_SECRET to it',
};

export async function claim(runner: Runner, identity: Identity): Promise<void> {
  const { log, secret } = identity;
  await runner.rows({
    text: `insert into meta (name, value) values ('log', $1), ('secret', $2) on conflict (name) do nothing`,
    values: [log, secret],
  });
  const noted = await runner.rows<{ name: keyof Identity; value: string }>({
    text: `select name, value from meta where name in ('log', 'secret') order by name`,
  });
  const other = noted.find(({ name, value }) => identity[name] !== value);
  if (other) throw new Refused(`${other.name} differs: ${differs[other.name]}`);
}

/** A coupon whose row was lost takes up the sale where its changes left it. */
const createText = `
  insert into coupon (coupon_id, partition, body, valid_until, created_at, stock, closed, sale_offset)
  select $1, $2, $3, $4, $5, coalesce(s.stock, $6), coalesce(s.closed, false), coalesce(s."offset", -1)
  from (values (1)) one left join lateral (
    select stock, closed, "offset" from sale_change
    where coupon_id = $1 and partition = $2 order by "offset" desc limit 1
  ) s on true
  on conflict (coupon_id) do nothing
  returning ${couponColumns}`;

export async function createCoupon(
  runner: Runner,
  { couponId, partition, body, createdAt }: Parameters<CouponStore['createCoupon']>[0],
): Promise<{ row: CouponRow; created: boolean }> {
  const [ours] = await runner.rows<CouponRow>({
    text: createText,
    values: [couponId, partition, JSON.stringify(body), body.validUntil, createdAt, body.stock],
  });
  if (ours) return { row: ours, created: true };
  // A statement of its own: the other's row may be younger than the snapshot of the first.
  const [theirs] = await coupons(runner, [couponId]);
  return { row: theirs as CouponRow, created: false };
}

export async function redeem(
  runner: Runner,
  userId: UserId,
  couponId: CouponId,
  slot: number,
  now: Millis,
): Promise<Redeemed> {
  const [redeemed] = await runner.rows<UserCouponRow>({
    name: 'redeem',
    text: `update user_coupon u set redeemed_at = $4
      from coupon c, checkpoint k
      where u.coupon_id = $2 and u.slot = $3 and u.user_id = $1 and u.redeemed_at is null
        and c.coupon_id = u.coupon_id and (c.valid_until is null or $4 <= c.valid_until)
        and k.partition = c.partition and u."offset" < k.next
      returning ${userCouponColumns}`,
    values: [userId, couponId, slot, now],
  });
  if (redeemed) return { kind: 'redeemed', row: redeemed };
  const [found] = await runner.rows<UserCouponRow & { expired: boolean }>({
    name: 'redeemable',
    text: `select ${userCouponColumns}, coalesce($4 > c.valid_until, false) as expired from user_coupon u ${covered}
      where u.coupon_id = $2 and u.slot = $3 and u.user_id = $1`,
    values: [userId, couponId, slot, now],
  });
  if (!found) return { kind: 'unknown' };
  const { expired, ...row } = found;
  if (row.redeemedAt !== null) return { kind: 'already', row };
  // It became the user's between the two: it was nobody's when it was asked for.
  return expired ? { kind: 'expired', row } : { kind: 'unknown' };
}
