import { couponIdLengthMax, idempotencyKeyLengthMax, stockMax, userIdLengthMax } from './limits.ts';

export type CouponId = string & { readonly brand: 'CouponId' };
export type UserId = string & { readonly brand: 'UserId' };
/** 64 bits as 16 hex digits: the hash of a client's Idempotency-Key, or random. Its scope is (coupon, user). */
export type RequestKey = string & { readonly brand: 'RequestKey' };
/** Milliseconds since 1970, UTC. */
export type Millis = number;

const couponIdPattern = new RegExp(`^[a-z0-9-]{1,${couponIdLengthMax}}$`);
const userIdPattern = new RegExp(`^[A-Za-z0-9._:@-]{1,${userIdLengthMax}}$`);
const requestKeyPattern = /^[0-9a-f]{16}$/;
/** Of an Idempotency-Key as clients send it: visible ASCII. */
export const idempotencyKeyPattern = `^[\\x21-\\x7e]{1,${idempotencyKeyLengthMax}}$`;
const idempotencyKey = new RegExp(idempotencyKeyPattern);

export const isCouponId = (text: unknown): text is CouponId => typeof text === 'string' && couponIdPattern.test(text);
export const isUserId = (text: unknown): text is UserId => typeof text === 'string' && userIdPattern.test(text);
export const isRequestKey = (text: unknown): text is RequestKey =>
  typeof text === 'string' && requestKeyPattern.test(text);
export const isIdempotencyKey = (text: string): boolean => idempotencyKey.test(text);
export const isStock = (n: unknown): n is number => Number.isInteger(n) && Number(n) >= 0 && Number(n) <= stockMax;

export interface Discount {
  type: 'fixed' | 'percent';
  value: number;
}

/** What the operator asked for when creating a coupon: kept whole and never changed. */
export interface CouponBody {
  name: string;
  stock: number;
  opensAt: Millis | null;
  closesAt: Millis | null;
  validUntil: Millis | null;
  discount: Discount | null;
}

/** The store's row of a coupon. `body` and `partition` are the API's and final; the rest follows the sale. */
export interface CouponRow {
  couponId: CouponId;
  partition: number;
  body: CouponBody;
  createdAt: Millis;
  stock: number;
  closed: boolean;
  /** Rows of users that are committed. */
  issued: number;
  firstIssuedAt: Millis | null;
  lastIssuedAt: Millis | null;
}

export type CouponState = 'scheduled' | 'open' | 'sold_out' | 'closed';

/** The store's row of one user's coupon. */
export interface UserCouponRow {
  couponId: CouponId;
  userId: UserId;
  slot: number;
  /** Place of the winning request in its partition of the request log. */
  offset: number;
  key: RequestKey;
  issuedAt: Millis;
  redeemedAt: Millis | null;
}

/** A function of coupon and slot, so that it needs no place to be kept: `welcome.17`. */
export const userCouponIdOf = (couponId: string, slot: number): string => `${couponId}.${slot}`;

export function parseUserCouponId(text: string): { couponId: CouponId; slot: number } | undefined {
  const dot = text.lastIndexOf('.');
  const couponId = text.slice(0, dot);
  const digits = text.slice(dot + 1);
  if (dot < 1 || !isCouponId(couponId) || !/^[1-9][0-9]{0,7}$/.test(digits)) return undefined;
  return { couponId, slot: Number(digits) };
}
