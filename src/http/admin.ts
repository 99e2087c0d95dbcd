import type { FastifyInstance } from 'fastify';
import type { CouponId } from '../coupon.ts';
import { isRedrivable, type Operator } from '../operator.ts';
import type { CouponReader, SetAside } from '../ports.ts';
import type { StageLag } from '../stage.ts';
import type { Access } from './access.ts';
import { deadLettersMax } from './limits.ts';
import { type NotOffered, notOffered, ProblemError, problem } from './problem.ts';
import {
  couponQuery,
  DeadLettersSchema,
  deadLettersQuery,
  LagSchema,
  noQuery,
  problemsOf,
  RedriveBody,
  RedrivenSchema,
  VerificationSchema,
} from './schemas.ts';
import { Verifications, type Verify } from './verifications.ts';

export interface AdminTools {
  operator: Operator;
  store: Pick<CouponReader, 'coupons' | 'setAside'>;
  access: Access;
  notOffered?: NotOffered;
  lags(): StageLag[];
  verify: Verify;
}

const refusals = problemsOf('UNAUTHENTICATED', 'FORBIDDEN', 'UNAVAILABLE');

const tags = ['operator'];

export function lagRoute(app: FastifyInstance, { access, lags }: Pick<AdminTools, 'access' | 'lags'>): void {
  app.get(
    '/admin/lag',
    {
      preValidation: access.admin,
      schema: {
        tags,
        summary: 'How far each stage of this process is behind',
        querystring: noQuery,
        response: { 200: LagSchema, ...refusals },
      },
    },
    async () => ({ stages: lags() }),
  );
}

export function adminRoutes(app: FastifyInstance, tools: AdminTools): void {
  const { operator, store, access } = tools;
  app.get(
    '/admin/dead-letters',
    {
      preValidation: access.admin,
      schema: {
        tags,
        summary: 'What was set aside, why, from where; oldest first',
        querystring: deadLettersQuery,
        response: { 200: DeadLettersSchema, ...refusals },
      },
    },
    async request => {
      const { couponId, limit = deadLettersMax } = request.query as { couponId?: CouponId; limit?: number };
      const letters = await store.setAside({ ...(couponId === undefined ? {} : { couponId }), limit });
      return { items: letters.map(letterJson) };
    },
  );
  app.post(
    '/admin/dead-letters/redrive',
    {
      preValidation: access.admin,
      schema: {
        tags,
        summary: 'Put back what the store had refused',
        body: RedriveBody,
        response: {
          200: RedrivenSchema,
          ...problemsOf(
            ...(['UNAUTHENTICATED', 'FORBIDDEN', 'UNSUPPORTED_MEDIA_TYPE', 'BODY_TOO_LARGE'] as const),
            ...(['NOT_ACCEPTED', 'OUTCOME_UNKNOWN', 'UNAVAILABLE'] as const),
          ),
        },
      },
    },
    async request => ({ redriven: await operator.redrive((request.body as { couponId?: CouponId }).couponId) }),
  );
  const verifications = new Verifications(tools.verify);
  app.get(
    '/admin/verify',
    {
      preValidation: access.admin,
      schema: {
        tags,
        summary: 'The winners again from the log, held against the rows',
        querystring: couponQuery,
        response: { 200: VerificationSchema, ...refusals, ...problemsOf('UNKNOWN_COUPON', 'NOT_OFFERED') },
      },
    },
    async (request, reply) => {
      if (tools.notOffered?.verify !== undefined) throw new ProblemError(notOffered(tools.notOffered.verify));
      const { couponId } = request.query as { couponId?: CouponId };
      if (couponId !== undefined && (await store.coupons([couponId])).length === 0) {
        throw new ProblemError(problem('UNKNOWN_COUPON', 'there is no coupon with this id'));
      }
      return verifications.ask(couponId, reply.raw);
    },
  );
}

function letterJson(letter: SetAside): object {
  const { log, partition, offset, couponId, userId, slot, at, reason, bytes } = letter;
  return {
    ...{ log, partition, offset },
    ...(couponId === null ? {} : { couponId }),
    ...(userId === null ? {} : { userId }),
    ...(slot === null ? {} : { slot }),
    ...{ at: new Date(at).toISOString(), reason, redrivable: isRedrivable(letter), bytes },
  };
}
