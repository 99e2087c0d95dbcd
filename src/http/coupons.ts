import type { FastifyInstance } from 'fastify';
import type { CouponBody, CouponId, Discount, Millis } from '../coupon.ts';
import type { Host } from '../host.ts';
import { couponsListedMax, stockMax } from '../limits.ts';
import type { CouponView, NotDone, Operator } from '../operator.ts';
import type { CouponReader, SaleStats, SeriesPoint } from '../ports.ts';
import type { Counts } from '../sale.ts';
import type { Access } from './access.ts';
import { couponsListedMsMin, statsBaselineSeconds, statsSeconds } from './limits.ts';
import {
  malformed,
  type NotOffered,
  notAccepted,
  notOffered,
  outcomeUnknown,
  type Problem,
  ProblemError,
  problem,
} from './problem.ts';
import {
  AddStock,
  CouponSchema,
  CouponsSchema,
  couponPath,
  keyHeader,
  NewCoupon,
  NoBody,
  noQuery,
  problemsOf,
  StatsSchema,
} from './schemas.ts';

export interface CouponTools {
  operator: Operator;
  store: Pick<CouponReader, 'stats'>;
  notOffered?: NotOffered;
  host: Host;
  access: Access;
}

interface CouponIn {
  couponId?: string;
  name: string;
  stock: number;
  opensAt?: string;
  closesAt?: string;
  validUntil?: string;
  discount?: Discount;
}

interface Path {
  couponId: CouponId;
}

const unknownCoupon = problem('UNKNOWN_COUPON', 'there is no coupon with this id');
const closedCoupon = problem('COUPON_CLOSED', 'the sale of this coupon is closed for good');
const tooMuch = malformed(`body.add: the stock may be at most ${stockMax} in all`);
const existsOtherwise = problem('COUPON_EXISTS', 'there is a coupon with this id, with another body');

export function couponRoutes(app: FastifyInstance, tools: CouponTools): void {
  readRoutes(app, tools);
  writeRoutes(app, tools);
}

/**
 * The newest coupons as JSON, read and written once for all who asked before: of a thousand it takes some 10 ms, and anybody
 * may ask as often as he likes.
 */
class CouponList {
  private readonly tools: Pick<CouponTools, 'operator' | 'host'>;
  private next: Promise<string> | undefined;
  private readAt = Number.NEGATIVE_INFINITY;

  constructor(tools: Pick<CouponTools, 'operator' | 'host'>) {
    this.tools = tools;
  }

  /** As of a moment after the call. @throws Unavailable */
  text(): Promise<string> {
    this.next ??= this.read();
    return this.next;
  }

  private async read(): Promise<string> {
    const { host, operator } = this.tools;
    const dueMs = this.readAt + couponsListedMsMin - host.elapsed();
    await host.delay(Math.min(couponsListedMsMin, Math.max(0, dueMs)));
    // Who asks from here on may know of a coupon that this reading does not see.
    this.next = undefined;
    this.readAt = host.elapsed();
    return JSON.stringify({ items: (await operator.views(couponsListedMax)).map(couponJson) });
  }
}

function readRoutes(app: FastifyInstance, { operator, store, host, access, notOffered: none }: CouponTools): void {
  const list = new CouponList({ operator, host });
  app.get(
    '/coupons',
    {
      schema: {
        tags: ['user'],
        summary: `The newest ${couponsListedMax.toLocaleString('en-US')} coupons, newest first; an older one by its id`,
        querystring: noQuery,
        response: { 200: CouponsSchema, ...problemsOf('UNAVAILABLE') },
      },
    },
    async (_request, reply) => {
      const text = await list.text();
      return reply.type('application/json; charset=utf-8').header('cache-control', 'no-store').send(text);
    },
  );
  app.get(
    '/coupons/:couponId',
    {
      schema: {
        tags: ['user'],
        summary: 'One coupon',
        params: couponPath,
        response: { 200: CouponSchema, ...problemsOf('UNKNOWN_COUPON', 'UNAVAILABLE') },
      },
    },
    async (request, reply) => {
      const view = known(await operator.view((request.params as Path).couponId));
      reply.header('cache-control', 'no-store');
      return couponJson(view);
    },
  );
  app.get(
    '/coupons/:couponId/stats',
    {
      preValidation: access.admin,
      schema: {
        tags: ['operator'],
        summary: 'What was issued and refused, in all and by second',
        params: couponPath,
        response: {
          200: StatsSchema,
          ...problemsOf('UNAUTHENTICATED', 'FORBIDDEN', 'UNKNOWN_COUPON', 'NOT_OFFERED', 'UNAVAILABLE'),
        },
      },
    },
    async request => {
      const { couponId } = request.params as Path;
      known(await operator.view(couponId));
      if (none?.stats !== undefined) throw new ProblemError(notOffered(none.stats));
      const now = host.now();
      const stats = await store.stats(couponId, statsSeconds + statsBaselineSeconds, now);
      return statsJson(couponId, stats, now);
    },
  );
}

function writeRoutes(app: FastifyInstance, { operator, host, access }: CouponTools): void {
  const admin = ['UNAUTHENTICATED', 'FORBIDDEN', 'UNSUPPORTED_MEDIA_TYPE', 'BODY_TOO_LARGE'] as const;
  const notDoneCodes = ['NOT_ACCEPTED', 'OUTCOME_UNKNOWN', 'UNAVAILABLE'] as const;
  app.post(
    '/coupons',
    {
      preValidation: access.admin,
      schema: {
        tags: ['operator'],
        summary: 'Make a coupon, ready to be claimed when the answer arrives',
        description: 'The same couponId with the same body again is answered with what is there.',
        body: NewCoupon,
        response: {
          200: CouponSchema,
          201: CouponSchema,
          ...problemsOf('COUPON_EXISTS', ...admin, ...notDoneCodes),
        },
      },
    },
    async (request, reply) => {
      const wanted = request.body as CouponIn;
      const couponId = (wanted.couponId ?? newCouponId(host)) as CouponId;
      const created = await operator.create(couponId, bodyOf(wanted));
      switch (created.kind) {
        case 'exists_otherwise':
          throw new ProblemError(existsOtherwise);
        case 'created':
        case 'existed':
          reply.code(created.kind === 'created' ? 201 : 200).header('location', `/coupons/${couponId}`);
          return couponJson(created.view);
        default:
          throw new ProblemError(notDone(created));
      }
    },
  );
  app.post(
    '/coupons/:couponId/stock',
    {
      preValidation: access.admin,
      schema: {
        tags: ['operator'],
        summary: 'Raise the stock, in order with the requests',
        params: couponPath,
        headers: keyHeader,
        body: AddStock,
        response: { 200: CouponSchema, ...problemsOf('UNKNOWN_COUPON', 'COUPON_CLOSED', ...admin, ...notDoneCodes) },
      },
    },
    async request => {
      const key = request.headers['idempotency-key'] as string | undefined;
      const { add } = request.body as { add: number };
      const stocked = await operator.addStock((request.params as Path).couponId, add, key);
      switch (stocked.kind) {
        case 'stocked':
          return couponJson(stocked.view);
        case 'closed':
          throw new ProblemError(closedCoupon);
        case 'too_much':
          throw new ProblemError(tooMuch);
        case 'unknown':
          throw new ProblemError(unknownCoupon);
        default:
          throw new ProblemError(notDone(stocked));
      }
    },
  );
  app.post(
    '/coupons/:couponId/close',
    {
      preValidation: access.admin,
      schema: {
        tags: ['operator'],
        summary: 'Close the sale: no later request wins',
        params: couponPath,
        body: NoBody,
        response: { 200: CouponSchema, ...problemsOf('UNKNOWN_COUPON', ...admin, ...notDoneCodes) },
      },
    },
    async request => {
      const closed = await operator.close((request.params as Path).couponId);
      switch (closed.kind) {
        case 'closed':
          return couponJson(closed.view);
        case 'unknown':
          throw new ProblemError(unknownCoupon);
        default:
          throw new ProblemError(notDone(closed));
      }
    },
  );
}

function known(view: CouponView | undefined): CouponView {
  if (!view) throw new ProblemError(unknownCoupon);
  return view;
}

const notDone = ({ kind }: NotDone): Problem => (kind === 'not_accepted' ? notAccepted : outcomeUnknown);

/** About 62 bits: two of them do not meet. */
function newCouponId(host: Host): string {
  const letters = 'abcdefghijklmnopqrstuvwxyz0123456789';
  return Array.from(host.randomBytes(12), byte => letters[byte % letters.length]).join('');
}

function bodyOf({ name, stock, opensAt, closesAt, validUntil, discount }: CouponIn): CouponBody {
  const body: CouponBody = {
    name,
    // JSON knows -0, which is kept as 0: it would be another body than the one that is there.
    stock: stock + 0,
    opensAt: timeOf(opensAt, 'opensAt'),
    closesAt: timeOf(closesAt, 'closesAt'),
    validUntil: timeOf(validUntil, 'validUntil'),
    discount: discount ? { type: discount.type, value: discount.value } : null,
  };
  if (body.opensAt !== null && body.closesAt !== null && body.closesAt <= body.opensAt) {
    throw new ProblemError(malformed('body.closesAt must be after body.opensAt'));
  }
  return body;
}

/** The schema knows the form; a day that no calendar has is found by writing it back. */
function timeOf(text: string | undefined, field: string): Millis | null {
  if (text === undefined) return null;
  const ms = Date.parse(text);
  const isDate = ms >= 0 && new Date(ms).toISOString().slice(0, 19) === text.slice(0, 19);
  if (!isDate) throw new ProblemError(malformed(`body.${field} must be a time since 1970, like 2030-01-31T09:00:00Z`));
  return ms;
}

const iso = (ms: Millis): string => new Date(ms).toISOString();

export function couponJson({ row, stock, reserved, issued, remaining, state }: CouponView): object {
  const { couponId, body, createdAt, firstIssuedAt, lastIssuedAt } = row;
  const { name, opensAt, closesAt, validUntil, discount } = body;
  return {
    ...{ couponId, name, stock, reserved, issued, remaining, state },
    ...(opensAt === null ? {} : { opensAt: iso(opensAt) }),
    ...(closesAt === null ? {} : { closesAt: iso(closesAt) }),
    ...(validUntil === null ? {} : { validUntil: iso(validUntil) }),
    ...(discount === null ? {} : { discount }),
    createdAt: iso(createdAt),
    ...(firstIssuedAt === null ? {} : { firstIssuedAt: iso(firstIssuedAt) }),
    ...(lastIssuedAt === null ? {} : { lastIssuedAt: iso(lastIssuedAt) }),
  };
}

const sumOf = ({ duplicated, closed, not_open, sold_out }: Counts): number => duplicated + closed + not_open + sold_out;

/** The series holds totals; a second's own is what they grew by. */
export function statsJson(couponId: CouponId, stats: SaleStats, now: Millis): object {
  const { issued, counts, firstWonAt, lastWonAt, series } = stats;
  const since = now - statsSeconds * 1000;
  const perSecond: { at: string; issued: number; refused: number }[] = [];
  // Without an earlier point the first one begins at nothing, if the sale began with it; else it is only a beginning.
  let before: SeriesPoint | undefined;
  for (const point of series) {
    const begins = before === undefined && (firstWonAt === null || firstWonAt >= point.second);
    if (point.second > since && (before || begins)) {
      const grown = point.issued - (before?.issued ?? 0);
      const refused = sumOf(point.counts) - (before ? sumOf(before.counts) : 0);
      if (grown > 0 || refused > 0) {
        perSecond.push({ at: iso(point.second), issued: Math.max(0, grown), refused: Math.max(0, refused) });
      }
    }
    before = point;
  }
  const { duplicated, closed, not_open, sold_out } = counts;
  return {
    couponId,
    issued,
    refused: { duplicated, closed, not_open, sold_out },
    ...(firstWonAt === null ? {} : { firstIssuedAt: iso(firstWonAt) }),
    ...(lastWonAt === null ? {} : { lastIssuedAt: iso(lastWonAt) }),
    perSecond,
  };
}
