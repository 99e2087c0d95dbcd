/**
 * Who may call which route, as data: every route that the server has stands here once, by what it asks for. A route
 * that is not here fails test/attack/routes.test.ts.
 */

/** `owner` holds the coupon in question, `stranger` is another user, `admin` has the role (and is a user as well). */
export const askers = ['nobody', 'owner', 'stranger', 'admin'] as const;
export type Asker = (typeof askers)[number];
export type Auth = 'jwt' | 'none';

/** What each asker is answered, in the order of `askers`. */
type Answers = readonly [nobody: number, owner: number, stranger: number, admin: number];

export interface Route {
  answers: Record<Auth, Answers>;
  body?: object;
  /** For `*`. */
  file?: string;
  query?: string;
}

/** Anybody, without a name; a task's id is its own capability. */
const open = (more: Partial<Route> = {}): Route => {
  const all: Answers = [200, 200, 200, 200];
  return { answers: { jwt: all, none: all }, ...more };
};
/** By name: what it answers differs by whose it is. */
const named = (owner: number, stranger: number, more: Partial<Route> = {}): Route => {
  const answers: Answers = [401, owner, stranger, stranger];
  return { answers: { jwt: answers, none: answers }, ...more };
};
/** The operator. Without tokens that is everyone. */
const operator = (ok: number, more: Partial<Route> = {}): Route => ({
  answers: { jwt: [401, 403, 403, ok], none: [ok, ok, ok, ok] },
  ...more,
});

/** Where a process has all roles. HEAD is as GET, where it is there. */
export const routes: Record<string, Route> = {
  'GET /': open(),
  'GET /healthz': open(),
  'GET /readyz': open(),
  'GET /metrics': open(),
  'GET /openapi.json': open(),
  'GET /docs': open(),
  'GET /docs/': open(),
  'GET /docs/json': open(),
  'GET /docs/yaml': open(),
  'GET /docs/static/index.html': open(),
  'GET /docs/static/swagger-initializer.js': open(),
  'GET /docs/static/theme/dibs.css': open(),
  'GET /docs/static/*': open({ file: 'swagger-ui.css' }),

  'GET /coupons': open(),
  'GET /coupons/:couponId': open(),
  'GET /tasks/:taskId': open(),
  'GET /tasks/:taskId/events': open(),

  'POST /coupons/:couponId/issue': named(409, 202),
  'GET /me/coupons': named(200, 200, { query: '?limit=200' }),
  'POST /me/coupons/:userCouponId/redeem': named(200, 404),

  'POST /coupons': operator(201, { body: { name: 'Another', stock: 1 } }),
  'POST /coupons/:couponId/stock': operator(200, { body: { add: 5 } }),
  'POST /coupons/:couponId/close': operator(200),
  'GET /coupons/:couponId/stats': operator(200),
  'GET /admin/lag': operator(200),
  'GET /admin/verify': operator(200),
  'GET /admin/dead-letters': operator(200),
  'POST /admin/dead-letters/redrive': operator(200),
};

/** What a process without the api role has besides the pages of the documentation. */
export const withoutApi = ['GET /healthz', 'GET /readyz', 'GET /metrics', 'GET /admin/lag'];
