/** Columns of the tables, as arrays of cells (they cost less than objects), and what they are to the core. */
import type { CouponBody, CouponId, CouponRow, Millis, RequestKey, UserCouponRow, UserId } from '../coupon.ts';
import type { Checkpoint } from '../ports.ts';
import type { Counts, Holder, Phase, SaleChange } from '../sale.ts';

export const couponColumns =
  'coupon_id, partition, body, created_at, stock, closed, issued, first_issued_at, last_issued_at';
export type CouponCells = [
  couponId: CouponId,
  partition: number,
  body: string,
  createdAt: Millis,
  stock: number,
  closed: number,
  issued: number,
  firstIssuedAt: Millis | null,
  lastIssuedAt: Millis | null,
];

export function couponOf(cells: CouponCells): CouponRow {
  const [couponId, partition, body, createdAt, stock, closed, issued, firstIssuedAt, lastIssuedAt] = cells;
  return {
    couponId,
    partition,
    body: JSON.parse(body) as CouponBody,
    createdAt,
    stock,
    closed: closed === 1,
    issued,
    firstIssuedAt,
    lastIssuedAt,
  };
}

export const userCouponColumns = 'u.coupon_id, u.user_id, u.slot, u.offset, u.key, u.issued_at, u.redeemed_at';
export type UserCouponCells = [
  couponId: CouponId,
  userId: UserId,
  slot: number,
  offset: number,
  key: RequestKey,
  issuedAt: Millis,
  redeemedAt: Millis | null,
];

export function userCouponOf(cells: UserCouponCells): UserCouponRow {
  const [couponId, userId, slot, offset, key, issuedAt, redeemedAt] = cells;
  return { couponId, userId, slot, offset, key, issuedAt, redeemedAt };
}

export const saleChangeColumns = 'offset, at, stock, opens_at, closes_at, closed, phase, key';
export type SaleChangeCells = [
  offset: number,
  at: Millis,
  stock: number,
  opensAt: Millis | null,
  closesAt: Millis | null,
  closed: number,
  phase: Phase,
  key: RequestKey | null,
];

export function saleChangeOf(cells: SaleChangeCells): SaleChange {
  const [offset, at, stock, opensAt, closesAt, closed, phase, key] = cells;
  return { offset, at, stock, opensAt, closesAt, closed: closed === 1, phase, key };
}

export const checkpointColumns = 'change_next, change_hash, next, clock, hash, malformed, unknown_coupon';
export type CheckpointCells = [
  changeNext: number,
  changeHash: string,
  next: number,
  clock: Millis,
  hash: string,
  malformed: number,
  unknownCoupon: number,
];

/** No row: nothing was persisted yet. */
export function checkpointOf(cells: CheckpointCells | undefined): Checkpoint {
  const [changeNext, changeHash, next, clock, hash, malformed, unknown_coupon] = cells ?? [0, '', 0, 0, '', 0, 0];
  return { changeNext, changeHash, next, clock, hash, strays: { malformed, unknown_coupon } };
}

export type HolderCells = [slot: number, offset: number, key: RequestKey, at: Millis];
export const holderOf = ([slot, offset, key, at]: HolderCells): Holder => ({ slot, offset, key, at });

export const countsColumns = 'duplicated, closed, not_open, sold_out';
export type CountsCells = [duplicated: number, closed: number, notOpen: number, soldOut: number];
export const countsOf = ([duplicated, closed, not_open, sold_out]: CountsCells): Counts => ({
  duplicated,
  closed,
  not_open,
  sold_out,
});
