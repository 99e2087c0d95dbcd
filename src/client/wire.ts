/**
 * What goes over the wire, as types: API.md for the calls of users, and the operator's JSON that it leaves open.
 * Times are ISO 8601 UTC strings, counts are integers, ids are strings.
 */

export type CouponState = 'scheduled' | 'open' | 'sold_out' | 'closed';

export interface Discount {
  type: 'fixed' | 'percent';
  value: number;
}

export interface Coupon {
  couponId: string;
  name: string;
  stock: number;
  /** Slots that are held and whose rows are not committed yet. */
  reserved: number;
  /** Rows that are committed. */
  issued: number;
  remaining: number;
  state: CouponState;
  opensAt?: string;
  closesAt?: string;
  validUntil?: string;
  discount?: Discount;
  createdAt: string;
  firstIssuedAt?: string;
  lastIssuedAt?: string;
}

export interface NewCoupon {
  /** Made by the server when absent. */
  couponId?: string;
  name: string;
  /** 0 to 10,000,000. */
  stock: number;
  opensAt?: string;
  closesAt?: string;
  validUntil?: string;
  discount?: Discount;
}

export interface UserCoupon {
  userCouponId: string;
  couponId: string;
  userId: string;
  slot: number;
  state: 'issued' | 'redeemed' | 'expired';
  issuedAt: string;
  redeemedAt?: string;
}

export interface UserCouponPage {
  items: UserCoupon[];
  /** Give it back as `after`; absent on the last page. */
  next?: string;
}

export type InactiveReason = 'sold_out' | 'not_open' | 'closed';

export interface PendingTask {
  taskId: string;
  couponId: string;
  /** `accepted`: in the log. `reserved`: a slot is held. `set_aside`: a dead letter, waits for an operator. */
  state: 'accepted' | 'reserved' | 'set_aside';
  /** At most how many requests are in front of this one. Absent while it is not known. */
  ahead?: number;
}

export type DoneTask = { taskId: string; couponId: string; state: 'done' } & (
  | { outcome: 'issued' | 'duplicated'; slot: number; userCouponId: string; issuedAt?: string }
  | { outcome: 'inactive'; reason: InactiveReason }
  | { outcome: 'refused'; reason: 'malformed' | 'unknown_coupon' }
);

export type TaskStatus = PendingTask | DoneTask;

/** Whether an answer says where a request is; what does not is not from dibs. */
export function isTask(body: unknown): body is TaskStatus {
  const task = (body ?? {}) as Record<string, unknown>;
  if (typeof task.taskId !== 'string' || typeof task.couponId !== 'string') return false;
  // A state of a later server, too, is one that is waited in.
  return task.state === 'done' ? isOutcome(task) : typeof task.state === 'string';
}

/** What a stream says while a request waits. */
export const isProgress = (said: unknown): said is Progress =>
  typeof (said as Partial<Progress> | null)?.state === 'string';

export const isInactiveReason = (reason: unknown): reason is InactiveReason =>
  reason === 'sold_out' || reason === 'not_open' || reason === 'closed';

function isOutcome({ outcome, reason, slot, userCouponId }: Record<string, unknown>): boolean {
  switch (outcome) {
    case 'issued':
    case 'duplicated':
      return typeof slot === 'number' && typeof userCouponId === 'string';
    case 'inactive':
      return isInactiveReason(reason);
    case 'refused':
      return reason === 'malformed' || reason === 'unknown_coupon';
    default:
      return false;
  }
}

/** Where a claim is while it waits. */
export type Progress = Pick<PendingTask, 'state' | 'ahead'>;

/** An RFC 9457 body. Refusals carry more members: `reason`, `opensAt`, `slot`, `userCouponId`. */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  code?: string;
  [member: string]: unknown;
}

// --- the operator's ---------------------------------------------------------------------------------------------

/** `GET /coupons/{couponId}/stats` */
export interface SaleStats {
  couponId: string;
  issued: number;
  refused: { duplicated: number; closed: number; not_open: number; sold_out: number };
  firstIssuedAt?: string;
  lastIssuedAt?: string;
  /** The seconds of the last minutes in which something happened, oldest first, and what happened in each. */
  perSecond: { at: string; issued: number; refused: number }[];
}

/** `GET /admin/lag` */
export interface LagReport {
  stages: StageLag[];
}

export interface StageLag {
  stage: string;
  log: string;
  partition: number;
  /** The offset that the stage reads next, and the one that the log gives next. */
  next: number;
  end: number;
  lagEntries: number;
  /** Age of the oldest entry that is not handled. */
  lagMs: number;
  state: 'running' | 'retrying' | 'stopped';
  /** Why it is not running. */
  error?: string;
}

/** `GET /admin/dead-letters` */
export interface DeadLetterPage {
  items: DeadLetter[];
}

export interface DeadLetter {
  log: string;
  partition: number;
  offset: number;
  couponId?: string;
  userId?: string;
  slot?: number;
  at: string;
  reason: string;
  redrivable: boolean;
  /** The entry as text; base64 when it is not UTF-8. */
  bytes: string;
}

/** `POST /admin/dead-letters/redrive`, whose body is `{couponId?}` */
export interface Redriven {
  redriven: number;
}

/** `GET /admin/verify` */
export interface Verification {
  ok: boolean;
  coupons: CouponVerification[];
  /** Entries of the request log that were folded again. */
  checkedEntries: number;
  /** Requests that would never get a final answer. */
  unanswered: number;
  /** When it was asked for, in ms since 1970. */
  at?: number;
  /** Entries that are not in the store yet and were not judged. */
  behind?: number;
  partitions?: { partition: number; next: number; end: number; problems: number }[];
  /** Those of no single coupon. */
  problems?: VerifyProblem[];
}

export interface CouponVerification {
  couponId: string;
  stock: number;
  /** Winners that the log gives, and rows that the store holds. */
  winners: number;
  rows: number;
  /** Winners that the store refused and that wait for a redrive. */
  setAside?: number;
  /** The first of each kind; empty when all is as it must be. */
  problems: VerifyProblem[];
  /** All of them. */
  problemsTotal?: number;
}

export interface VerifyProblem {
  /** `over_issue`, `duplicate_user`, `slot_gap`, `ghost`, `order_inversion`, ... */
  kind: string;
  detail: string;
  slot?: number;
  userId?: string;
  offset?: number;
}
