/**
 * Requests that nobody should send, by fast-check: for any route, with values made from the schemas of the server's own
 * /openapi.json, right and wrong; and bytes changed by chance. The same seed and the same number of known ids give the
 * same requests.
 */
import fc, { type Arbitrary } from 'fast-check';

export interface Shot {
  kind: 'bytes' | 'damaged' | 'request' | 'near';
  /** Latin-1. */
  bytes: string;
  /**
   * `answer`: it is one whole request that asks for the end of its connection, so it must be answered. `end`: we end
   * our side. `reset`: we are gone as soon as it is sent.
   */
  after: 'answer' | 'end' | 'reset';
}

/** What is there on the server. */
export interface Known {
  couponIds: readonly string[];
  /** Not there yet. */
  newCouponIds: readonly string[];
  taskIds: readonly string[];
  userCouponIds: readonly string[];
  /** Values of the header Authorization: of users, of nobody any more or ever, of the admin. */
  users: readonly string[];
  nobody: readonly string[];
  admin: string;
}

export interface Schema {
  type?: string;
  enum?: unknown[];
  const?: unknown;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
}

export interface Operation {
  parameters?: { name: string; in: 'path' | 'query' | 'header'; schema?: Schema }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}

export interface OpenApi {
  paths: Record<string, Record<string, Operation>>;
}

export const latin1 = fc.uint8Array({ maxLength: 400 }).map(bytes => Buffer.from(bytes).toString('latin1'));
/** As UTF-8, in Latin-1: each character is a byte on the wire. */
export const wire = (text: string): string => Buffer.from(text).toString('latin1');

const oddNumbers = fc.constantFrom<unknown>(
  -1,
  -0,
  0,
  1,
  0.5,
  1e21,
  1e308,
  -1e308,
  2 ** 31,
  2 ** 53,
  10_000_000,
  10_000_001,
);
const oddTexts = fc.constantFrom(
  ...[
    '',
    ' ',
    '.',
    '..',
    '__proto__',
    'constructor',
    'toString',
    'null',
    'NaN',
    '0',
    '-1',
    '%',
    '%zz',
    '%00',
    '%c3%28',
  ],
  ...['\u0000', '\u202e', '\ud800', '\ufeff', '💥', "' or 1=1 --", '*', '{{7*7}}', '../../etc/passwd', 'a'.repeat(64)],
  ...[
    'a'.repeat(65),
    'a'.repeat(9_000),
    '1'.repeat(400),
    '9'.repeat(30),
    'x.99999999',
    'x.00',
    '.1',
    '2026-02-30T00:00:00Z',
  ],
  ...['9999-12-31T23:59:59.999Z', '0000-01-01T00:00:00Z', '1969-12-31T23:59:59Z', '+275760-09-13T00:00:00.000Z'],
);
export const text = fc.oneof(oddTexts, fc.string({ unit: 'binary', maxLength: 80 }), fc.string({ maxLength: 300 }));

/** What the schema allows. */
export function rightFor(schema: Schema): Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  switch (schema.type) {
    case 'integer':
    case 'number': {
      const { minimum = -1_000_000, maximum = 1_000_000 } = schema;
      return fc.oneof(fc.constantFrom(minimum, maximum), fc.integer({ min: minimum, max: maximum }));
    }
    case 'boolean':
      return fc.boolean();
    case 'array':
      return fc.array(rightFor(schema.items ?? {}), { maxLength: 4 });
    case 'object': {
      const { properties = {}, required = [] } = schema;
      const model = Object.fromEntries(Object.entries(properties).map(([name, of]) => [name, rightFor(of)]));
      return fc.record(model, { requiredKeys: required.filter(name => name in model) });
    }
    default:
      return rightText(schema);
  }
}

function rightText({ pattern, maxLength = 300 }: Schema): Arbitrary<string> {
  // fast-check knows no classes of Unicode.
  if (pattern === undefined || pattern.includes('\\p')) return fc.string({ minLength: 1, maxLength });
  const matching = fc.stringMatching(new RegExp(pattern));
  return /\\d\{4\}-/.test(pattern) ? fc.oneof(matching, fc.date({ noInvalidDate: true }).map(iso)) : matching;
}

const iso = (date: Date): string => date.toISOString();

/** Right more often than not, so that what is wrong gets beyond the first look. */
export function valueFor(schema: Schema): Arbitrary<unknown> {
  const right = rightFor(schema);
  const wrong = fc.oneof(text, oddNumbers, fc.jsonValue({ maxDepth: 4 }), fc.constantFrom(null, true, [], {}));
  if (schema.type !== 'object') return fc.oneof({ arbitrary: right, weight: 4 }, { arbitrary: wrong, weight: 1 });
  const names = [...Object.keys(schema.properties ?? {}), 'extra', '__proto__', 'constructor', 'toJSON'];
  const damaged = fc
    .tuple(right, fc.constantFrom(...names), fc.option(wrong, { nil: undefined }))
    // Assigning `__proto__` would make no field of it.
    .map(([value, name, put]) => Object.fromEntries([...Object.entries(value as object), [name, put]]));
  return fc.oneof({ arbitrary: right, weight: 4 }, { arbitrary: damaged, weight: 4 }, { arbitrary: wrong, weight: 1 });
}

/** A body's text, which need not be JSON. */
function bodyFor(schema: Schema): Arbitrary<string> {
  const json = valueFor(schema).map(value => wire(JSON.stringify(value) ?? ''));
  const cut = fc.tuple(json, fc.nat(200)).map(([whole, n]) => whole.slice(0, n));
  const deep = fc.nat(30_000).map(n => '['.repeat(n) + ']'.repeat(n));
  const doubled = json.map(whole => whole.replace(/^\{(.+)\}$/s, '{$1,$1}'));
  const large = fc
    .constantFrom('{"name":"', ' ')
    .chain(head => fc.integer({ min: 500, max: 140_000 }).map(n => head.padEnd(n)));
  return fc.oneof(
    { arbitrary: json, weight: 20 },
    { arbitrary: fc.oneof(cut, latin1, doubled, deep), weight: 4 },
    { arbitrary: large, weight: 1 },
  );
}

/** No byte that would end the head. */
const headerText = latin1.map(bytes => bytes.replace(/[\r\n\0]/g, '').slice(0, 200));
const visible = fc.string({ maxLength: 80 });

export function headersFor(known: Known): Arbitrary<string[]> {
  const { users, nobody, admin } = known;
  const tokens = fc.oneof(
    { arbitrary: fc.constantFrom(...users), weight: 4 },
    { arbitrary: fc.constantFrom(...nobody), weight: 1 },
    { arbitrary: fc.constant(admin), weight: 4 },
    { arbitrary: fc.oneof(headerText, fc.constantFrom('Bearer', 'Bearer ', 'Basic YTpi', 'bearer a.b.c')), weight: 1 },
  );
  const types = [
    'application/json',
    'application/json; charset=utf-16',
    'text/plain',
    'APPLICATION/JSON ;x',
    'a/b/c',
    ';',
  ];
  const odd: Record<string, Arbitrary<string>> = {
    'x-user-id': fc.oneof(headerText, visible),
    'idempotency-key': fc.oneof(visible, headerText, fc.constantFrom('k1', 'k2', 'k'.repeat(64))),
    'last-event-id': fc.oneof(headerText, fc.constantFrom('0', '-1', '9'.repeat(40), '1')),
    accept: fc.constantFrom('text/event-stream', 'text/html', '*/*', 'application/json;q=0', 'nonsense', ''),
    'accept-encoding': fc.constantFrom('gzip', 'br;q=1.0, *;q=0', 'identity;q=0'),
    'content-encoding': fc.constantFrom('gzip', 'deflate', 'nonsense'),
    range: fc.constantFrom(
      'bytes=0-0',
      'bytes=-1',
      'bytes=5-1',
      `bytes=${'0-1,'.repeat(200)}2-3`,
      'lines=1-2',
      'bytes=9999999999-',
    ),
    'if-modified-since': fc.oneof(headerText, fc.constantFrom('Thu, 01 Jan 1970 00:00:00 GMT')),
    'if-none-match': fc.oneof(headerText, fc.constantFrom('*', 'W/""')),
    origin: fc.constantFrom('null', 'http://evil.example', 'http://127.0.0.1', '://'),
    expect: fc.constantFrom('100-continue', '200-ok'),
    upgrade: fc.constantFrom('websocket', 'h2c'),
    'x-forwarded-for': headerText,
    'x-http-method-override': fc.constantFrom('DELETE', 'PUT'),
    [`x-${'long'.repeat(20)}`]: fc.nat(20_000).map(n => 'v'.repeat(n)),
  };
  const some = fc
    .subarray(Object.keys(odd), { maxLength: 3 })
    .chain(names => fc.tuple(...names.map(name => (odd[name] as Arbitrary<string>).map(value => `${name}: ${value}`))));
  const authorization = fc.option(tokens, { freq: 8, nil: undefined });
  const contentType = fc.oneof(
    { arbitrary: fc.constant('application/json'), weight: 8 },
    { arbitrary: fc.constantFrom(...types), weight: 1 },
    { arbitrary: fc.constant(undefined), weight: 1 },
  );
  return fc
    .tuple(
      fc.oneof({ arbitrary: fc.constant([]), weight: 1 }, { arbitrary: some, weight: 2 }),
      authorization,
      contentType,
    )
    .map(([others, token, type]) => [
      ...others,
      ...(token === undefined ? [] : [`authorization: ${token}`]),
      ...(type === undefined ? [] : [`content-type: ${type}`]),
    ]);
}

/** One segment of a path, escaped more often than not. */
const segmentOf = (value: Arbitrary<unknown>): Arbitrary<string> =>
  fc.tuple(value, fc.nat(9)).map(([v, n]) => {
    const shown = String(v);
    if (n > 0) return escaped(shown);
    return wire(shown).replace(/[\0-\x20\x7f]/g, '');
  });

/** Half of a surrogate pair has no escape. */
export const escaped = (shown: string): string => encodeURIComponent(shown.toWellFormed());

function targetFor(path: string, { parameters = [] }: Operation, known: Known): Arbitrary<string> {
  const ids: Record<string, readonly string[]> = {
    couponId: known.couponIds,
    taskId: known.taskIds,
    userCouponId: known.userCouponIds,
  };
  const parts = path
    .split('/')
    .slice(1)
    .map((part): Arbitrary<string> => {
      if (part === '*')
        return fc.oneof(fc.constantFrom('swagger-ui.css', '..%2f..%2fpackage.json', '.', '%00'), segmentOf(text));
      if (!part.startsWith(':')) return fc.constant(part);
      const there = fc.constantFrom(...(ids[part.slice(1)] ?? ['x']));
      const schema = parameters.find(({ name }) => name === part.slice(1))?.schema ?? {};
      return fc.oneof(
        { arbitrary: there, weight: 5 },
        { arbitrary: segmentOf(fc.oneof(rightFor(schema), text)), weight: 2 },
      );
    });
  const asked = parameters.filter(parameter => parameter.in === 'query');
  const pairs = asked.map(({ name, schema = {} }) =>
    valueFor(schema).map(value => `${name}=${escaped(typeof value === 'string' ? value : JSON.stringify(value))}`),
  );
  const odd = fc.oneof(
    text.map(t => escaped(t)),
    fc.constantFrom('limit=1&limit=2', 'after', '&&==', 'a[b]=c', 'limit=%'),
  );
  const query = fc.oneof(
    { arbitrary: fc.constant(''), weight: 3 },
    { arbitrary: fc.tuple(...pairs).map(all => (all.length > 0 ? `?${all.join('&')}` : '')), weight: 3 },
    { arbitrary: odd.map(o => `?${o}`), weight: 1 },
  );
  return fc.tuple(fc.tuple(...parts), query).map(([all, asks]) => `/${all.join('/')}${asks}`);
}

export const otherMethods = ['GET', 'POST', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'PATCH', 'TRACE', 'PROPFIND', 'QUERY'];

/** What the document says of a route by its name, `GET /tasks/:taskId`. */
export function operationOf(name: string, { paths }: OpenApi): { operation: Operation; content: Schema | undefined } {
  const [method, path] = name.split(' ') as [string, string];
  const operation = paths[path.replace(/:(\w+)/g, '{$1}')]?.[method.toLowerCase()] ?? {};
  return { operation, content: Object.values(operation.requestBody?.content ?? {})[0]?.schema };
}

/** A whole request of one route. */
export function requestFor(name: string, openApi: OpenApi, known: Known): Arbitrary<string> {
  const [method, path] = name.split(' ') as [string, string];
  const { operation, content } = operationOf(name, openApi);
  const body = fc.oneof(
    { arbitrary: bodyFor(content ?? { type: 'object' }), weight: content?.required ? 9 : 1 },
    { arbitrary: fc.constant(''), weight: content?.required ? 1 : 3 },
  );
  const methods = fc.oneof(
    { arbitrary: fc.constant(method), weight: 12 },
    { arbitrary: fc.constantFrom(...otherMethods), weight: 1 },
  );
  return fc
    .tuple(methods, targetFor(path, operation, known), headersFor(known), body)
    .map(([verb, target, headers, sent]) => requestText(verb, target, headers, sent));
}

/** It asks for the end of its connection. */
export function requestText(method: string, target: string, headers: readonly string[], body = ''): string {
  const length = body === '' && ['GET', 'HEAD', 'OPTIONS'].includes(method) ? [] : [`content-length: ${body.length}`];
  const lines = [`${method} ${target} HTTP/1.1`, 'host: 127.0.0.1', 'connection: close', ...headers, ...length];
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

export const pieces = [
  ...[
    '\r\n',
    '\n',
    '\r',
    '\0',
    ' ',
    ':',
    '\r\n\r\n',
    'HTTP/1.1',
    'HTTP/9.9',
    'GET ',
    'content-length: 5\r\n',
    '0\r\n\r\n',
  ],
  ...[
    'transfer-encoding: chunked\r\n',
    'ffffffff\r\n',
    'expect: 100-continue\r\n',
    '\u00ff\u00fe',
    'connection: upgrade\r\n',
  ],
  ...['host: b\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'x: '.repeat(3_000), 'http://h/', '%', '#'],
];

/** A request with bytes changed, cut, put in, or said again. */
export function damagedFrom(request: Arbitrary<string>): Arbitrary<string> {
  const change = fc.tuple(
    fc.nat(4),
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.oneof(fc.constantFrom(...pieces), latin1),
  );
  return fc.tuple(request, fc.array(change, { minLength: 1, maxLength: 4 })).map(([whole, changes]) => {
    let out = whole;
    for (const [how, where, piece] of changes) {
      const at = Math.floor(where * Math.min(out.length, 400));
      if (how === 0) out = out.slice(0, at) + piece + out.slice(at);
      else if (how === 1) out = out.slice(0, at) + piece + out.slice(at + piece.length);
      else if (how === 2) out = out.slice(0, at) + out.slice(at + 1 + (piece.length % 16));
      else if (how === 3) out = out.slice(0, at);
      else out += out.slice(at);
    }
    return out;
  });
}
