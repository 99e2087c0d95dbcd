/**
 * `dibs/client`: every call of the wire contract, typed. No dependencies; browsers of 2024, Node 22, or later.
 *
 *     const dibs = createClient({ baseUrl: 'http://127.0.0.1:8080' });
 *     const claim = dibs.claim('welcome', { userId: 'ann' });
 *     for await (const { state, ahead } of claim) console.log(state, ahead);
 *     const end = await claim.outcome; // issued | duplicated | inactive | refused
 *
 * Every call but `claim` is sent once and throws a ProblemError (the server refused) or an UnreachableError.
 */
import { type Claim, type ClaimOptions, type Identity, startClaim } from './claim.ts';
import type { Known } from './follow.ts';
import { type Call, createHttp, type FetchLike } from './http.ts';
import { type Clock, defaultTiming, systemClock, type Timing } from './timing.ts';
import type {
  Coupon,
  DeadLetterPage,
  LagReport,
  NewCoupon,
  Redriven,
  SaleStats,
  TaskStatus,
  UserCoupon,
  UserCouponPage,
  Verification,
} from './wire.ts';

export type { Claim, ClaimOptions, ClaimOutcome, Identity, Via } from './claim.ts';
export { UnansweredError } from './follow.ts';
export { type FetchAnswer, type FetchInit, type FetchLike, ProblemError, UnreachableError } from './http.ts';
export type { Clock, Timing } from './timing.ts';
export type * from './wire.ts';

export interface ClientOptions {
  /** Where the server is, with or without a path, without user, password or query; '' is the page's own origin. */
  baseUrl: string;
  /** Who calls, unless a claim says otherwise. */
  token?: string | undefined;
  userId?: string | undefined;
  /** Another fetch than the global one. */
  fetch?: FetchLike;
  timing?: Partial<Timing>;
  clock?: Partial<Clock>;
  /** Streams open at once; other claims ask for their status. 2 in a browser, else without bound. */
  streamsMax?: number;
}

/** Over HTTP/1.1 a browser has six connections for one host, all tabs together: streams must leave some for presses. */
const streamsMaxOfBrowser = 2;

export interface CallOptions {
  signal?: AbortSignal;
  /** Milliseconds; `Timing.answerMsMax` when absent. */
  answerMsMax?: number;
}

export interface Client {
  /** Starts at once. See `Claim`. */
  claim(couponId: string, options?: ClaimOptions): Claim;
  /** The same client for another caller. */
  as(identity: Identity): Client;

  task(taskId: string, options?: CallOptions): Promise<TaskStatus>;
  /** The caller's coupons, newest first. */
  myCoupons(page?: { limit?: number; after?: string }, options?: CallOptions): Promise<UserCouponPage>;
  redeem(userCouponId: string, options?: CallOptions): Promise<UserCoupon>;

  coupons: {
    list(options?: CallOptions): Promise<Coupon[]>;
    get(couponId: string, options?: CallOptions): Promise<Coupon>;
    /** Ready to be claimed when it resolves. The same again is answered with what is there. */
    create(coupon: NewCoupon, options?: CallOptions): Promise<Coupon>;
    /** Give a `key` to be able to repeat it safely when no answer comes. */
    addStock(couponId: string, add: number, options?: CallOptions & { key?: string }): Promise<Coupon>;
    close(couponId: string, options?: CallOptions): Promise<Coupon>;
    stats(couponId: string, options?: CallOptions): Promise<SaleStats>;
  };

  lag(options?: CallOptions): Promise<LagReport>;
  /** Oldest first. */
  deadLetters(filter?: { couponId?: string; limit?: number }, options?: CallOptions): Promise<DeadLetterPage>;
  redrive(what?: { couponId?: string }, options?: CallOptions): Promise<Redriven>;
  /** All coupons, or one. May take long on a long log. */
  verify(couponId?: string, options?: CallOptions): Promise<Verification>;
}

/** @throws TypeError when the address has what no `fetch` takes, or what would end up in the middle of the others'. */
export function createClient(options: ClientOptions): Client {
  // Not repeated: it may be a secret.
  if (/^\w+:\/\/[^/?#]*@|[?#]/.test(options.baseUrl))
    throw new TypeError('baseUrl must have no user, password, query or #');
  const streamsMax = options.streamsMax ?? ('location' in globalThis ? streamsMaxOfBrowser : Number.POSITIVE_INFINITY);
  return clientOf(options, { neverPushes: false, streamsOpen: 0, streamsMax });
}

function clientOf(options: ClientOptions, server: Known): Client {
  const timing: Timing = { ...defaultTiming, ...options.timing };
  const clock: Clock = { ...systemClock, ...options.clock };
  // Called as a plain function: browsers refuse a fetch that was taken off its window.
  const fetch: FetchLike = options.fetch ?? ((url, init) => globalThis.fetch(url, init));
  const http = createHttp(options.baseUrl, fetch, timing.answerMsMax);
  const base = { http, timing, clock, server };
  const own = headersOf(options);

  const send = <T>(call: Call, { signal, answerMsMax }: CallOptions = {}): Promise<T> =>
    http.call<T>({
      ...call,
      headers: { ...own, ...call.headers },
      signal,
      ...(answerMsMax === undefined ? {} : { answerMsMax }),
    });
  const get = <T>(path: string, callOptions?: CallOptions) => send<T>({ method: 'GET', path }, callOptions);
  const post = <T>(path: string, body: unknown, callOptions?: CallOptions, headers: Record<string, string> = {}) =>
    send<T>({ method: 'POST', path, body, headers }, callOptions);
  const couponPath = (couponId: string) => `/coupons/${encodeURIComponent(couponId)}`;

  return {
    claim(couponId, claimOptions = {}) {
      const { token, userId } = claimOptions;
      const identity = token === undefined && userId === undefined ? own : headersOf({ token, userId });
      return startClaim(base, couponId, identity, claimOptions);
    },
    as: identity => clientOf({ ...options, token: undefined, userId: undefined, ...identity }, server),

    task: (taskId, o) => get(`/tasks/${encodeURIComponent(taskId)}`, o),
    myCoupons: (page = {}, o) => get(`/me/coupons${query({ limit: page.limit, after: page.after })}`, o),
    redeem: (userCouponId, o) => post(`/me/coupons/${encodeURIComponent(userCouponId)}/redeem`, undefined, o),

    coupons: {
      async list(o) {
        const answer = await get<Coupon[] | { items: Coupon[] }>('/coupons', o);
        return Array.isArray(answer) ? answer : answer.items;
      },
      get: (couponId, o) => get(couponPath(couponId), o),
      create: (coupon, o) => post('/coupons', coupon, o),
      addStock: (couponId, add, o) =>
        post(`${couponPath(couponId)}/stock`, { add }, o, o?.key === undefined ? {} : { 'idempotency-key': o.key }),
      close: (couponId, o) => post(`${couponPath(couponId)}/close`, undefined, o),
      stats: (couponId, o) => get(`${couponPath(couponId)}/stats`, o),
    },

    lag: o => get('/admin/lag', o),
    deadLetters: (filter = {}, o) =>
      get(`/admin/dead-letters${query({ couponId: filter.couponId, limit: filter.limit })}`, o),
    redrive: (what = {}, o) => post('/admin/dead-letters/redrive', what, o),
    verify: (couponId, o) => get(`/admin/verify${query({ couponId })}`, o),
  };
}

function headersOf({ token, userId }: { token?: string | undefined; userId?: string | undefined }) {
  const headers: Record<string, string> = {};
  if (token !== undefined) headers.authorization = `Bearer ${token}`;
  else if (userId !== undefined) headers['x-user-id'] = userId;
  return headers;
}

function query(parts: Record<string, string | number | undefined>): string {
  const pairs = Object.entries(parts).filter(([, value]) => value !== undefined);
  return pairs.length === 0 ? '' : `?${pairs.map(([k, v]) => `${k}=${encodeURIComponent(String(v))}`).join('&')}`;
}
