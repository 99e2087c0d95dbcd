/** What comes in and goes out, once: these schemas validate, serialise, and make /openapi.json. */
import Type, { type TProperties, type TSchema } from 'typebox';
import { idempotencyKeyPattern } from '../coupon.ts';
import { couponNameLengthMax, couponsListedMax, pageMax, stockMax } from '../limits.ts';
import { deadLettersMax, discountFixedMax } from './limits.ts';
import { type Code, codes, statusOf } from './problem.ts';

const closed = { additionalProperties: false } as const;
export const text = (description: string) => Type.String({ description });
const time = (description: string) =>
  Type.String({
    description: `${description} ISO 8601, UTC.`,
    format: 'date-time',
    pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{1,3})?Z$',
  });
const timeOut = (description: string) => Type.String({ description: `${description} ISO 8601, UTC.` });
const count = (description: string) => Type.Integer({ minimum: 0, description });

export const pathOf = (properties: TProperties) => Type.Object(properties);
export const couponIdPattern = '^[a-z0-9-]{1,64}$';
export const CouponIdText = Type.String({ pattern: couponIdPattern, description: '1 to 64 of a-z 0-9 -' });
export const couponPath = pathOf({ couponId: CouponIdText });
export const keyHeader = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({ pattern: idempotencyKeyPattern, description: 'The same key means the same request.' }),
  ),
});
export const userHeader = Type.Object({
  'x-user-id': Type.Optional(Type.String({ description: 'Who is asking, where DIBS_AUTH is none.' })),
});
export const NoBody = Type.Object({}, closed);
export const noQuery = Type.Object({}, closed);

// --- coupons --------------------------------------------------------------------------------------------------
/** No union of two kinds: of that only the first one's complaint would be told, about the other one's `type`. */
const Discount = Type.Object(
  { type: Type.Enum(['fixed', 'percent']), value: Type.Integer({ minimum: 1, maximum: discountFixedMax }) },
  {
    ...closed,
    if: Type.Object({ type: Type.Literal('percent') }),
    // biome-ignore lint/suspicious/noThenProperty: JSON Schema has it.
    then: Type.Object({ value: Type.Integer({ maximum: 100 }) }),
  },
);

export const NewCoupon = Type.Object(
  {
    couponId: Type.Optional(CouponIdText),
    name: Type.String({
      minLength: 1,
      maxLength: couponNameLengthMax,
      // No control characters, no halves of a surrogate pair.
      pattern: '^[^\\p{Cc}\\p{Cs}\\u2028\\u2029]*$',
      description: 'For people.',
    }),
    stock: Type.Integer({ minimum: 0, maximum: stockMax }),
    opensAt: Type.Optional(time('Nobody wins before.')),
    closesAt: Type.Optional(time('Nobody wins from then on.')),
    validUntil: Type.Optional(time('It can be redeemed until then.')),
    discount: Type.Optional(Discount),
  },
  closed,
);

export const CouponSchema = Type.Object({
  couponId: Type.String(),
  name: Type.String(),
  stock: count('Units in all.'),
  reserved: count('Slots that are held, whose rows are not committed yet.'),
  issued: count('Rows that are committed.'),
  remaining: count('Units that nobody holds.'),
  state: Type.Enum(['scheduled', 'open', 'sold_out', 'closed']),
  opensAt: Type.Optional(timeOut('Nobody wins before.')),
  closesAt: Type.Optional(timeOut('Nobody wins from then on.')),
  validUntil: Type.Optional(timeOut('It can be redeemed until then.')),
  discount: Type.Optional(Type.Object({ type: Type.String(), value: Type.Number() })),
  createdAt: timeOut('Made.'),
  firstIssuedAt: Type.Optional(timeOut('Append of the first request that won.')),
  lastIssuedAt: Type.Optional(timeOut('Append of the last request that won.')),
});
export const CouponsSchema = Type.Object({ items: Type.Array(CouponSchema, { maxItems: couponsListedMax }) });

export const AddStock = Type.Object(
  { add: Type.Integer({ minimum: 1, maximum: stockMax, description: 'Units more.' }) },
  closed,
);

export const StatsSchema = Type.Object({
  couponId: Type.String(),
  issued: count('Coupons won.'),
  refused: Type.Object({
    duplicated: count('By those who held it; tries again with the key that won among them.'),
    closed: count('Too late.'),
    not_open: count('Too early.'),
    sold_out: count('None was left.'),
  }),
  firstIssuedAt: Type.Optional(timeOut('Append of the first request that won.')),
  lastIssuedAt: Type.Optional(timeOut('Append of the last request that won.')),
  perSecond: Type.Array(
    Type.Object({ at: timeOut('Beginning of the second.'), issued: count('In it.'), refused: count('In it.') }),
    { description: 'The seconds of the last 5 minutes in which something happened, oldest first.' },
  ),
});

// --- tasks ----------------------------------------------------------------------------------------------------
const links = Type.Object({ task: Type.String(), events: Type.String() });
const ahead = Type.Optional(count('At most so many entries are in front of this one.'));

export const AcceptedSchema = Type.Object({
  taskId: Type.String(),
  couponId: Type.String(),
  state: Type.Literal('accepted'),
  ahead,
  links,
});

export const TaskSchema = Type.Object({
  taskId: Type.String(),
  couponId: Type.String(),
  state: Type.Enum(['accepted', 'reserved', 'done', 'set_aside']),
  ahead,
  outcome: Type.Optional(Type.Enum(['issued', 'duplicated', 'inactive', 'refused'])),
  reason: Type.Optional(Type.Enum(['sold_out', 'not_open', 'closed', 'malformed', 'unknown_coupon'])),
  slot: Type.Optional(Type.Integer({ minimum: 1, description: 'The place, in order of arrival.' })),
  userCouponId: Type.Optional(Type.String()),
  issuedAt: Type.Optional(timeOut('Append of the request that won.')),
});

// --- users' coupons -------------------------------------------------------------------------------------------
export const UserCouponSchema = Type.Object({
  userCouponId: Type.String(),
  couponId: Type.String(),
  userId: Type.String(),
  slot: Type.Integer({ minimum: 1 }),
  state: Type.Enum(['issued', 'redeemed', 'expired']),
  issuedAt: timeOut('Append of the request that won.'),
  redeemedAt: Type.Optional(timeOut('Redeemed.')),
});
export const UserCouponsSchema = Type.Object({
  items: Type.Array(UserCouponSchema),
  next: Type.Optional(text('Give it back as `after`.')),
});
export const userCouponsQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: pageMax, default: 50 })),
    after: Type.Optional(Type.String({ maxLength: 256, description: "A page's `next`." })),
  },
  closed,
);

// --- the operator's -------------------------------------------------------------------------------------------
export const LagSchema = Type.Object({
  stages: Type.Array(
    Type.Object({
      stage: Type.String(),
      log: Type.String(),
      partition: Type.Integer(),
      next: Type.Integer(),
      end: Type.Integer(),
      lagEntries: count('Entries that it has not handled.'),
      lagMs: Type.Number({ minimum: 0, description: 'Age of the oldest of them, ms.' }),
      state: Type.Enum(['running', 'retrying', 'stopped']),
      error: Type.Optional(Type.String()),
    }),
  ),
});

export const couponQuery = Type.Object({ couponId: Type.Optional(CouponIdText) }, closed);
export const deadLettersQuery = Type.Object(
  {
    couponId: Type.Optional(CouponIdText),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: deadLettersMax, default: deadLettersMax })),
  },
  closed,
);
export const DeadLettersSchema = Type.Object({
  items: Type.Array(
    Type.Object({
      log: Type.String(),
      partition: Type.Integer(),
      offset: Type.Integer(),
      couponId: Type.Optional(Type.String()),
      userId: Type.Optional(Type.String()),
      slot: Type.Optional(Type.Integer()),
      at: timeOut('Append of the entry.'),
      reason: Type.String(),
      redrivable: Type.Boolean(),
      bytes: Type.String(),
    }),
  ),
});
export const RedriveBody = Type.Object({ couponId: Type.Optional(CouponIdText) }, closed);
export const RedrivenSchema = Type.Object({ redriven: count('Appended again.') });
export const VerificationSchema = Type.Unknown({ description: 'What was compared, and what is wrong.' });
export const ReadySchema = Type.Object({ ok: Type.Boolean() });

// --- problems -------------------------------------------------------------------------------------------------
export const ProblemSchema = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: Type.Enum(codes),
    reason: Type.Optional(Type.String()),
    opensAt: Type.Optional(Type.String()),
    slot: Type.Optional(Type.Integer()),
    userCouponId: Type.Optional(Type.String()),
  },
  { description: 'RFC 9457' },
);

/** The answers that stand for these codes, for a route's `response`. */
export function problemsOf(...wanted: Code[]): Record<number, TSchema | object> {
  const codes: { code: Code; more?: { reason: string } }[] = ['MALFORMED_REQUEST' as Code, ...wanted].map(code => ({
    code,
  }));
  // The one code whose status depends on its reason.
  if (wanted.includes('INACTIVE_COUPON')) codes.push({ code: 'INACTIVE_COUPON', more: { reason: 'not_open' } });
  const byStatus = Map.groupBy(codes, problem => statusOf({ ...problem, detail: '' }));
  const answers: Record<number, object> = {};
  for (const [status, of] of byStatus) answers[status] = problemAnswer(of.map(({ code }) => code));
  return answers;
}

export const problemAnswer = (of: readonly Code[]): object => ({
  description: of.join(', '),
  content: { 'application/problem+json': { schema: ProblemSchema } },
});
