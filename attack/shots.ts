/** What the fuzz sends: requests for every route of attack/routes.ts, nearly sound, wrong, and damaged, and bytes by chance. */
import fc, { type Arbitrary } from 'fast-check';
import {
  damagedFrom,
  escaped,
  headersFor,
  type Known,
  latin1,
  type OpenApi,
  operationOf,
  otherMethods,
  pieces,
  requestFor,
  requestText,
  rightFor,
  type Schema,
  type Shot,
  text,
  valueFor,
  wire,
} from './requests.ts';
import { routes } from './routes.ts';

interface Request {
  method: string;
  target: string;
  headers: string[];
  body: string;
}

/** How often which route is asked soundly. Closing and reading much are rare, or there would be nothing else. */
const weights: Record<string, number> = {
  'POST /coupons/:couponId/issue': 40,
  'POST /coupons': 12,
  'POST /coupons/:couponId/stock': 4,
  'POST /me/coupons/:userCouponId/redeem': 4,
  'GET /tasks/:taskId': 4,
  'GET /tasks/:taskId/events': 4,
  'GET /me/coupons': 4,
};

function nearlySound(openApi: OpenApi, known: Known): Arbitrary<string> {
  const sound = fc.oneof(
    ...Object.keys(routes).map(name => ({ arbitrary: soundFor(name, openApi, known), weight: weights[name] ?? 1 })),
  );
  const headers = headersFor(known);
  const changes: Arbitrary<(r: Request) => Request>[] = [
    headers.map(more => r => ({ ...r, headers: [...r.headers, ...more] })),
    fc.nat(3).map(n => r => ({ ...r, headers: r.headers.toSpliced(n, 1) })),
    fc.constantFrom(...otherMethods).map(method => r => ({ ...r, method })),
    text.map(t => r => ({ ...r, target: `${r.target}?${escaped(t)}` })),
    text.map(t => r => ({ ...r, target: r.target.replace(/[^/]+$/, escaped(t)) })),
    fc.tuple(fc.nat(200), latin1).map(([at, piece]) => r => ({ ...r, body: r.body.slice(0, at) + piece })),
    fc.tuple(fc.nat(9), valueFor({})).map(([n, value]) => r => ({ ...r, body: withField(r.body, n, value) })),
  ];
  const change = fc.oneof({ arbitrary: fc.constant((r: Request) => r), weight: 7 }, ...changes);
  return fc.tuple(sound, change).map(([request, changed]) => {
    const { method, target, headers: sent, body } = changed(request);
    return requestText(method, target, sent, body);
  });
}

/** One field of a body with another value. */
function withField(body: string, n: number, value: unknown): string {
  if (!body.startsWith('{')) return body;
  const fields = Object.entries(JSON.parse(Buffer.from(body, 'latin1').toString()) as object);
  const [name] = fields[n % Math.max(1, fields.length)] ?? ['extra'];
  return wire(JSON.stringify(Object.fromEntries([...fields, [name, value]])));
}

/** As whoever may asks for what is there. */
function soundFor(name: string, openApi: OpenApi, known: Known): Arbitrary<Request> {
  const [method, path] = name.split(' ') as [string, string];
  const { content } = operationOf(name, openApi);
  const ids: Record<string, readonly string[]> = {
    couponId: [...known.couponIds, ...known.newCouponIds],
    taskId: known.taskIds,
    userCouponId: known.userCouponIds,
    '*': ['swagger-ui.css'],
  };
  const parts = path
    .split('/')
    .slice(1)
    .map(part => {
      const of = ids[part.replace(/^:/, '')];
      return of ? fc.constantFrom(...of) : fc.constant(part);
    });
  const isOperators = routes[name]?.answers.jwt[1] === 403;
  const token = isOperators ? fc.constant(known.admin) : fc.constantFrom(...known.users);
  const key = fc.option(fc.nat(50), { nil: undefined, freq: 2 });
  const body = content?.required ? bodyFor(name, content, known) : fc.constant('');
  return fc.tuple(fc.tuple(...parts), token, key, body).map(([segments, bearer, k, sent]) => ({
    ...{ method, target: `/${segments.join('/')}`, body: sent },
    headers: [
      `authorization: ${bearer}`,
      ...(sent === '' ? [] : ['content-type: application/json']),
      ...(k === undefined ? [] : [`idempotency-key: k${k}`]),
    ],
  }));
}

const stocks = [0, 1, 3, 1_000, 10_000_000];
const times = ['opensAt', 'closesAt', 'validUntil'];

function bodyFor(name: string, content: Schema, known: Known): Arbitrary<string> {
  const right = rightFor(content);
  if (name !== 'POST /coupons') return right.map(value => wire(JSON.stringify(value)));
  // With times by chance hardly one would be open.
  return fc
    .tuple(right, fc.constantFrom(...known.newCouponIds), fc.constantFrom(...stocks), fc.nat(9))
    .map(([value, couponId, stock, n]) => {
      const fields = Object.entries(value as object).filter(([field]) => n === 0 || !times.includes(field));
      return wire(JSON.stringify({ ...Object.fromEntries(fields), couponId, stock }));
    });
}

/** Half of them are requests that are sound but for one thing at most. */
export function shots(openApi: OpenApi, known: Known): Arbitrary<Shot> {
  const names = Object.keys(routes);
  const near = nearlySound(openApi, known).map((bytes): Shot => ({ kind: 'near', bytes, after: 'answer' }));
  // The pages of the documentation are many, and do little.
  const request = fc.oneof(
    ...names.map(name => ({ arbitrary: requestFor(name, openApi, known), weight: name.includes('/docs') ? 1 : 3 })),
  );
  const after = fc.constantFrom<Shot['after']>('end', 'end', 'end', 'reset');
  const whole = request.map((bytes): Shot => ({ kind: 'request', bytes, after: 'answer' }));
  const damaged = fc
    .tuple(damagedFrom(request), after)
    .map(([bytes, a]): Shot => ({ kind: 'damaged', bytes, after: a }));
  const chance = fc.oneof(
    latin1,
    fc.tuple(latin1, fc.constantFrom(...pieces), latin1).map(all => all.join('')),
  );
  const bytes = fc.tuple(chance, after).map(([b, a]): Shot => ({ kind: 'bytes', bytes: b, after: a }));
  return fc.oneof(
    { arbitrary: near, weight: 10 },
    { arbitrary: whole, weight: 6 },
    { arbitrary: damaged, weight: 3 },
    { arbitrary: bytes, weight: 1 },
  );
}

/** `count` of them. */
export const sampleOf = (arbitrary: Arbitrary<Shot>, seed: number, count: number): Shot[] =>
  fc.sample(arbitrary, { seed, numRuns: count });
