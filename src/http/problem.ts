/**
 * The one table from code to status and title, and its RFC 9457 form. Every error of every route goes through here.
 */
import { Alarm, NotAccepted, OutcomeUnknown, Unavailable } from '../errors.ts';
import { retryAfterS } from './limits.ts';

const table = {
  MALFORMED_REQUEST: [400, 'The request is malformed'],
  UNAUTHENTICATED: [401, 'Who is asking is not known'],
  FORBIDDEN: [403, 'Not allowed'],
  NOT_FOUND: [404, 'There is nothing here'],
  UNKNOWN_COUPON: [404, 'No such coupon'],
  UNKNOWN_TASK: [404, 'No such task'],
  UNKNOWN_USER_COUPON: [404, 'No such user coupon'],
  METHOD_NOT_ALLOWED: [405, 'Not with this method'],
  NOT_ACCEPTABLE: [406, 'Not in this form'],
  DUPLICATED_COUPON: [409, 'The user holds this coupon already'],
  COUPON_EXISTS: [409, 'The coupon exists with another body'],
  COUPON_CLOSED: [409, 'The coupon is closed'],
  ALREADY_REDEEMED: [409, 'The user coupon is redeemed already'],
  EXPIRED_COUPON: [410, 'The user coupon has expired'],
  /** 403 while it is not open: it may be later. */
  INACTIVE_COUPON: [410, 'The coupon cannot be claimed'],
  BODY_TOO_LARGE: [413, 'The body is too large'],
  UNSUPPORTED_MEDIA_TYPE: [415, 'The body must be application/json'],
  TOO_MANY_REQUESTS: [429, 'Too many requests'],
  HEADERS_TOO_LARGE: [431, 'The headers are too large'],
  INTERNAL: [500, 'Something is broken here'],
  NOT_OFFERED: [501, 'Not in this profile'],
  NOT_ACCEPTED: [503, 'Not accepted: surely not queued'],
  OUTCOME_UNKNOWN: [503, 'It is not known whether the request was queued'],
  UNAVAILABLE: [503, 'Not available at present'],
  NOT_READY: [503, 'Not ready'],
} as const satisfies Record<string, readonly [status: number, title: string]>;

export type Code = keyof typeof table;
export const codes = Object.keys(table) as Code[];

export interface Problem {
  code: Code;
  detail: string;
  /** Further members of the body: reason, opensAt, slot, userCouponId. */
  more?: Record<string, string | number>;
  /** s, for Retry-After. */
  retryAfterS?: number;
  /** Further headers, name and value in turn. */
  headers?: readonly string[];
}

/** For handlers behind fastify, which may throw it. */
export class ProblemError extends Error {
  override name = 'ProblemError';
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

export const problem = (code: Code, detail: string, more: Omit<Problem, 'code' | 'detail'> = {}): Problem => ({
  code,
  detail,
  ...more,
});

export const malformed = (detail: string): Problem => ({ code: 'MALFORMED_REQUEST', detail });

/** A whole answer: what is written to the socket, whoever writes it. Headers are name and value in turn. */
export interface Reply {
  status: number;
  headers: string[];
  body: string | Buffer;
  /** For the count of refusals. */
  code?: Code;
  /** The connection ends after it. */
  ends?: true;
}

export const statusOf = ({ code, more }: Problem): number => (more?.reason === 'not_open' ? 403 : table[code][0]);

export function replyOf(p: Problem): Reply {
  const { code, detail, more, headers = [] } = p;
  const status = statusOf(p);
  const type = `urn:dibs:problem:${code.toLowerCase().replaceAll('_', '-')}`;
  const body = Buffer.from(JSON.stringify({ type, title: table[code][1], status, detail, code, ...more }));
  const all = ['content-type', 'application/problem+json', 'content-length', String(body.length)];
  if (p.retryAfterS !== undefined) all.push('retry-after', String(Math.max(1, Math.ceil(p.retryAfterS))));
  if (status === 401) all.push('www-authenticate', 'Bearer');
  all.push(...headers);
  return { status, headers: all, body, code };
}

export const unavailable: Problem = problem('UNAVAILABLE', 'a server that is needed does not answer, try again', {
  retryAfterS: retryAfterS.unavailable,
});
/** What a profile may leave out; the value is why. */
export type NotOffered = Readonly<Partial<Record<'events' | 'stats' | 'verify', string>>>;
export const notOffered = (why: string): Problem => problem('NOT_OFFERED', why);

export const notAccepted: Problem = problem('NOT_ACCEPTED', 'surely not queued, try again', {
  retryAfterS: retryAfterS.notAccepted,
});
export const outcomeUnknown: Problem = problem(
  'OUTCOME_UNKNOWN',
  'the log did not say whether it took the request: ask again with the same Idempotency-Key, it is safe',
  { retryAfterS: retryAfterS.outcomeUnknown },
);

/** What was thrown, as a problem; undefined for a defect of ours. */
export function problemOf(error: unknown): Problem | undefined {
  if (error instanceof ProblemError) return error.problem;
  if (error instanceof NotAccepted) return notAccepted;
  if (error instanceof OutcomeUnknown) return outcomeUnknown;
  if (error instanceof Unavailable || error instanceof Alarm) return unavailable;
  const { code, statusCode, validation } = error as FrameworkError;
  if (validation) return malformed(faultOf(error as FrameworkError));
  const framework = code === undefined ? undefined : ofFramework[code];
  if (framework) return framework;
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) return malformed((error as Error).message);
  return undefined;
}

const ofFramework: Record<string, Problem> = {
  FST_ERR_CTP_BODY_TOO_LARGE: problem('BODY_TOO_LARGE', 'a body may have at most 64 KiB here'),
  FST_ERR_CTP_INVALID_MEDIA_TYPE: problem('UNSUPPORTED_MEDIA_TYPE', 'send a body with content-type: application/json'),
  FST_ERR_CTP_INVALID_JSON_BODY: malformed('the body is not JSON'),
  FST_ERR_MAX_PARAM_LENGTH: malformed('a part of the path is too long'),
};

/** What fastify throws. */
interface FrameworkError extends Partial<Error> {
  code?: string;
  statusCode?: number;
  validation?: { instancePath?: string; message?: string; params?: Record<string, unknown> }[];
  validationContext?: string;
}

/** Names the field: `body.stock must be integer`. */
function faultOf({ validation, validationContext = 'request' }: FrameworkError): string {
  const fault = validation?.[0];
  const field = `${validationContext}${(fault?.instancePath ?? '').replaceAll('/', '.')}`;
  const unknown = fault?.params?.additionalProperty;
  if (typeof unknown === 'string') return `${field} has the unknown field ${JSON.stringify(unknown.slice(0, 64))}`;
  return `${field} ${fault?.message ?? 'is malformed'}`;
}
