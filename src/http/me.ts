import type { FastifyInstance } from 'fastify';
import {
  type CouponId,
  type CouponRow,
  isCouponId,
  type Millis,
  parseUserCouponId,
  type UserCouponRow,
  userCouponIdOf,
} from '../coupon.ts';
import type { Host } from '../host.ts';
import type { CouponStore, PageEnd } from '../ports.ts';
import type { Access } from './access.ts';
import { malformed, ProblemError, problem } from './problem.ts';
import {
  NoBody,
  pathOf,
  problemsOf,
  text,
  UserCouponSchema,
  UserCouponsSchema,
  userCouponsQuery,
  userHeader,
} from './schemas.ts';

export interface MeTools {
  store: Pick<CouponStore, 'coupons' | 'userCoupons' | 'redeem'>;
  host: Host;
  access: Access;
}

const unknown = problem('UNKNOWN_USER_COUPON', 'you have no user coupon with this id');

export function meRoutes(app: FastifyInstance, { store, host, access }: MeTools): void {
  app.get(
    '/me/coupons',
    {
      schema: {
        tags: ['user'],
        summary: 'My coupons, newest first',
        headers: userHeader,
        querystring: userCouponsQuery,
        response: { 200: UserCouponsSchema, ...problemsOf('UNAUTHENTICATED', 'UNAVAILABLE') },
      },
    },
    async (request, reply) => {
      const userId = await access.user(request);
      const { limit, after } = request.query as { limit: number; after?: string };
      const { items, next } = await store.userCoupons(userId, limit, after ? parsePageEnd(after) : undefined);
      const rows = await store.coupons([...new Set(items.map(item => item.couponId))]);
      const coupons = new Map(rows.map(row => [row.couponId, row]));
      const now = host.now();
      reply.header('cache-control', 'no-store');
      return {
        items: items.map(item => userCouponJson(item, coupons.get(item.couponId), now)),
        ...(next === undefined ? {} : { next: pageEndText(next) }),
      };
    },
  );
  app.post(
    '/me/coupons/:userCouponId/redeem',
    {
      schema: {
        tags: ['user'],
        summary: 'Use my coupon, once',
        headers: userHeader,
        params: pathOf({ userCouponId: text('As the task shows it.') }),
        body: NoBody,
        response: {
          200: UserCouponSchema,
          ...problemsOf(
            ...(['UNAUTHENTICATED', 'FORBIDDEN', 'UNKNOWN_USER_COUPON', 'ALREADY_REDEEMED', 'EXPIRED_COUPON'] as const),
            ...(['UNSUPPORTED_MEDIA_TYPE', 'BODY_TOO_LARGE', 'UNAVAILABLE'] as const),
          ),
        },
      },
    },
    async request => {
      const userId = await access.user(request);
      const named = parseUserCouponId((request.params as { userCouponId: string }).userCouponId);
      if (!named) throw new ProblemError(unknown);
      const now = host.now();
      const redeemed = await store.redeem(userId, named.couponId as CouponId, named.slot, now);
      switch (redeemed.kind) {
        case 'redeemed':
          return userCouponJson(redeemed.row, undefined, now);
        case 'unknown':
          throw new ProblemError(unknown);
        case 'already':
          throw new ProblemError(problem('ALREADY_REDEEMED', 'it can be redeemed once'));
        case 'expired':
          throw new ProblemError(problem('EXPIRED_COUPON', 'it could be redeemed until its validUntil'));
      }
    },
  );
}

const pageEndText = ({ issuedAt, couponId }: PageEnd): string =>
  Buffer.from(`${issuedAt} ${couponId}`).toString('base64url');

/** A client that is given the first page again for what it mangled would go round for ever. */
function parsePageEnd(text: string): PageEnd {
  const [issuedAt = '', couponId, ...more] = Buffer.from(text, 'base64url').toString().split(' ');
  if (/^[0-9]{1,15}$/.test(issuedAt) && isCouponId(couponId) && more.length === 0) {
    return { issuedAt: Number(issuedAt), couponId };
  }
  throw new ProblemError(malformed("querystring.after must be a page's next"));
}

function userCouponJson(item: UserCouponRow, coupon: CouponRow | undefined, now: Millis): object {
  const { couponId, userId, slot, issuedAt, redeemedAt } = item;
  const validUntil = coupon?.body.validUntil ?? null;
  const open = validUntil !== null && now > validUntil ? 'expired' : 'issued';
  return {
    userCouponId: userCouponIdOf(couponId, slot),
    ...{ couponId, userId, slot, state: redeemedAt === null ? open : 'redeemed' },
    issuedAt: new Date(issuedAt).toISOString(),
    ...(redeemedAt === null ? {} : { redeemedAt: new Date(redeemedAt).toISOString() }),
  };
}
