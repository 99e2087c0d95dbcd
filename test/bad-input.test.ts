/** The table of attempts: each gets its documented code, nothing is stored, and the process stands. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { CouponId, RequestKey, UserId } from '../src/coupon.ts';
import { createSealer } from '../src/task.ts';
import { assertProblem, type CallOptions, call, raw } from './support/calls.ts';
import { assertKept, type MemoryApp, startMemoryApp } from './support/memory-app.ts';

type Attempt = [what: string, options: CallOptions, wanted: string];

const ann = { 'x-user-id': 'ann' };
const malformed = '400 MALFORMED_REQUEST';
const good = { name: 'Good', stock: 1 };
const long = (n: number) => 'a'.repeat(n);

const issue: Attempt[] = [
  ['POST /coupons/WELCOME/issue', { headers: ann }, malformed],
  ['POST /coupons/wel%63ome!/issue', { headers: ann }, malformed],
  ['POST /coupons/%00/issue', { headers: ann }, malformed],
  ['POST /coupons/%E0%A4%A/issue', { headers: ann }, malformed],
  ['POST /coupons/a%0d%0ab/issue', { headers: ann }, malformed],
  ['POST /coupons/__proto__/issue', { headers: ann }, malformed],
  ['POST /coupons//issue', { headers: ann }, malformed],
  [`POST /coupons/${long(65)}/issue`, { headers: ann }, malformed],
  [`POST /coupons/${long(9_000)}/issue`, { headers: ann }, malformed],
  ['POST /coupons/%2e%2e%2fadmin/issue', { headers: ann }, malformed],
  ['POST /coupons/nobody/issue', { headers: ann }, '404 UNKNOWN_COUPON'],
  ['POST /coupons/constructor/issue', { headers: ann }, '404 UNKNOWN_COUPON'],
  ['POST /coupons/welcome/issue', {}, '401 UNAUTHENTICATED'],
  ['POST /coupons/welcome/issue', { headers: { 'x-user-id': '' } }, malformed],
  ['POST /coupons/welcome/issue', { headers: { 'x-user-id': 'ann smith' } }, malformed],
  ['POST /coupons/welcome/issue', { headers: { 'x-user-id': '<ann>' } }, malformed],
  ['POST /coupons/welcome/issue', { headers: { 'x-user-id': 'é' } }, malformed],
  ['POST /coupons/welcome/issue', { headers: { 'x-user-id': long(65) } }, malformed],
  ['POST /coupons/welcome/issue', { headers: { ...ann, 'idempotency-key': '' } }, malformed],
  ['POST /coupons/welcome/issue', { headers: { ...ann, 'idempotency-key': 'a b' } }, malformed],
  ['POST /coupons/welcome/issue', { headers: { ...ann, 'idempotency-key': long(65) } }, malformed],
  ['POST /coupons/welcome/issue', { headers: ann, body: '{' }, malformed],
  ['POST /coupons/welcome/issue', { headers: ann, body: 'null' }, malformed],
  ['POST /coupons/welcome/issue', { headers: ann, body: '[]' }, malformed],
  ['POST /coupons/welcome/issue', { headers: ann, body: '"text"' }, malformed],
  ['POST /coupons/welcome/issue', { headers: ann, body: { userId: 'bob' } }, malformed],
  ['POST /coupons/welcome/issue', { headers: ann, body: '{"__proto__":{"admin":true}}' }, malformed],
  ['POST /coupons/welcome/issue', { headers: ann, body: '{"constructor":{"prototype":{}}}' }, malformed],
  ['POST /coupons/welcome/issue', { headers: ann, body: `{"a":"${long(1_024)}"}` }, '413 BODY_TOO_LARGE'],
  ['POST /coupons/welcome/issue', { headers: ann, body: long(3_000_000) }, '413 BODY_TOO_LARGE'],
  [
    'POST /coupons/welcome/issue',
    { headers: { ...ann, 'content-type': 'text/plain' }, body: '{}' },
    '415 UNSUPPORTED_MEDIA_TYPE',
  ],
  [
    'POST /coupons/welcome/issue',
    { headers: { ...ann, 'content-type': 'application/jsonp' }, body: '{}' },
    '415 UNSUPPORTED_MEDIA_TYPE',
  ],
  ['GET /coupons/welcome/issue', { headers: ann }, '405 METHOD_NOT_ALLOWED'],
  ['PUT /coupons/welcome/issue', { headers: ann, body: {} }, '405 METHOD_NOT_ALLOWED'],
  ['POST /coupons/welcome/issue/', { headers: ann }, '404 NOT_FOUND'],
];

const create: Attempt[] = [
  ['POST /coupons', {}, malformed],
  ['POST /coupons', { body: '' }, malformed],
  ['POST /coupons', { body: '{' }, malformed],
  ['POST /coupons', { body: 'null' }, malformed],
  ['POST /coupons', { body: [] }, malformed],
  ['POST /coupons', { body: {} }, malformed],
  ['POST /coupons', { body: { name: 'x' } }, malformed],
  ['POST /coupons', { body: { stock: 1 } }, malformed],
  ['POST /coupons', { body: { ...good, more: 1 } }, malformed],
  ['POST /coupons', { body: '{"name":"x","stock":1,"__proto__":{"stock":2}}' }, malformed],
  ['POST /coupons', { body: '{"name":"x","stock":1,"constructor":{"prototype":{}}}' }, malformed],
  ['POST /coupons', { body: { ...good, couponId: '' } }, malformed],
  ['POST /coupons', { body: { ...good, couponId: 'Upper' } }, malformed],
  ['POST /coupons', { body: { ...good, couponId: 'a b' } }, malformed],
  ['POST /coupons', { body: { ...good, couponId: 'a\n' } }, malformed],
  ['POST /coupons', { body: { ...good, couponId: '__proto__' } }, malformed],
  ['POST /coupons', { body: { ...good, couponId: long(65) } }, malformed],
  ['POST /coupons', { body: { ...good, couponId: 7 } }, malformed],
  ['POST /coupons', { body: { ...good, couponId: null } }, malformed],
  ['POST /coupons', { body: { ...good, name: '' } }, malformed],
  ['POST /coupons', { body: { ...good, name: long(201) } }, malformed],
  ['POST /coupons', { body: { ...good, name: 7 } }, malformed],
  ['POST /coupons', { body: { ...good, name: 'a\u0000b' } }, malformed],
  ['POST /coupons', { body: { ...good, name: 'a\u001bb' } }, malformed],
  ['POST /coupons', { body: { ...good, name: 'a\u0085b' } }, malformed],
  ['POST /coupons', { body: '{"name":"a\\ud800b","stock":1}' }, malformed],
  ['POST /coupons', { body: { ...good, stock: '5' } }, malformed],
  ['POST /coupons', { body: { ...good, stock: -1 } }, malformed],
  ['POST /coupons', { body: { ...good, stock: 1.5 } }, malformed],
  ['POST /coupons', { body: { ...good, stock: 10_000_001 } }, malformed],
  ['POST /coupons', { body: '{"name":"x","stock":1e999}' }, malformed],
  ['POST /coupons', { body: { ...good, stock: null } }, malformed],
  ['POST /coupons', { body: { ...good, stock: true } }, malformed],
  ['POST /coupons', { body: { ...good, opensAt: 'soon' } }, malformed],
  ['POST /coupons', { body: { ...good, opensAt: 1_900_000_000_000 } }, malformed],
  ['POST /coupons', { body: { ...good, opensAt: null } }, malformed],
  ['POST /coupons', { body: { ...good, opensAt: '2030-01-01T00:00:00' } }, malformed],
  ['POST /coupons', { body: { ...good, opensAt: '2030-01-01T00:00:00+09:00' } }, malformed],
  ['POST /coupons', { body: { ...good, opensAt: '2030-02-30T00:00:00Z' } }, malformed],
  ['POST /coupons', { body: { ...good, opensAt: '2030-01-01T24:30:00Z' } }, malformed],
  ['POST /coupons', { body: { ...good, validUntil: '0001-01-01T00:00:00Z' } }, malformed],
  [
    'POST /coupons',
    { body: { ...good, opensAt: '2030-01-01T00:00:00Z', closesAt: '2030-01-01T00:00:00Z' } },
    malformed,
  ],
  ['POST /coupons', { body: { ...good, discount: 10 } }, malformed],
  ['POST /coupons', { body: { ...good, discount: { type: 'percent', value: 101 } } }, malformed],
  ['POST /coupons', { body: { ...good, discount: { type: 'percent', value: 0 } } }, malformed],
  ['POST /coupons', { body: { ...good, discount: { type: 'fixed', value: -5 } } }, malformed],
  ['POST /coupons', { body: { ...good, discount: { type: 'fixed', value: '5' } } }, malformed],
  ['POST /coupons', { body: { ...good, discount: { type: 'free', value: 5 } } }, malformed],
  ['POST /coupons', { body: { ...good, discount: { type: 'fixed', value: 5, unit: 'won' } } }, malformed],
  ['POST /coupons', { body: { ...good, name: long(70_000) } }, '413 BODY_TOO_LARGE'],
  ['POST /coupons', { body: long(3_000_000) }, '413 BODY_TOO_LARGE'],
  [
    'POST /coupons',
    { body: 'name=x', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
    '415 UNSUPPORTED_MEDIA_TYPE',
  ],
  [
    'POST /coupons',
    { body: '{"name":"x","stock":1}', headers: { 'content-type': 'text/plain' } },
    '415 UNSUPPORTED_MEDIA_TYPE',
  ],
  ['POST /coupons', { body: { couponId: 'welcome', name: 'Other', stock: 1 } }, '409 COUPON_EXISTS'],
  ['PUT /coupons', { body: good }, '405 METHOD_NOT_ALLOWED'],
];

const operator: Attempt[] = [
  ['POST /coupons/welcome/stock', {}, malformed],
  ['POST /coupons/welcome/stock', { body: { add: 0 } }, malformed],
  ['POST /coupons/welcome/stock', { body: { add: -1 } }, malformed],
  ['POST /coupons/welcome/stock', { body: { add: 1.5 } }, malformed],
  ['POST /coupons/welcome/stock', { body: { add: '1' } }, malformed],
  ['POST /coupons/welcome/stock', { body: { add: 10_000_001 } }, malformed],
  ['POST /coupons/welcome/stock', { body: { add: 1, to: 5 } }, malformed],
  ['POST /coupons/welcome/stock', { body: '{"add":1,"__proto__":1}' }, malformed],
  ['POST /coupons/welcome/stock', { body: { add: 1 }, headers: { 'idempotency-key': 'a b' } }, malformed],
  ['POST /coupons/welcome/stock', { body: { add: 1 }, headers: { 'idempotency-key': long(65) } }, malformed],
  ['POST /coupons/nobody/stock', { body: { add: 1 } }, '404 UNKNOWN_COUPON'],
  ['POST /coupons/Nobody/stock', { body: { add: 1 } }, malformed],
  ['POST /coupons/nobody/close', {}, '404 UNKNOWN_COUPON'],
  ['POST /coupons/__proto__/close', {}, malformed],
  ['POST /coupons/welcome/close', { body: { now: true } }, malformed],
  ['POST /coupons/welcome/close', { body: '[]' }, malformed],
  ['GET /coupons/nobody', {}, '404 UNKNOWN_COUPON'],
  ['GET /coupons/NOBODY', {}, malformed],
  [`GET /coupons/${long(9_000)}`, {}, malformed],
  ['GET /coupons/%', {}, malformed],
  ['GET /coupons?limit=5', {}, malformed],
  ['GET /coupons/nobody/stats', {}, '404 UNKNOWN_COUPON'],
  ['GET /admin/lag?x=1', {}, malformed],
  ['GET /admin/dead-letters?limit=0', {}, malformed],
  ['GET /admin/dead-letters?limit=201', {}, malformed],
  ['GET /admin/dead-letters?couponId=A', {}, malformed],
  ['GET /admin/dead-letters?couponId=a&couponId=b', {}, malformed],
  ['POST /admin/dead-letters/redrive', { body: { couponId: 5 } }, malformed],
  ['POST /admin/dead-letters/redrive', { body: { all: true } }, malformed],
  ['GET /admin/verify?couponId=', {}, malformed],
  ['GET /admin/verify?couponId=nobody', {}, '404 UNKNOWN_COUPON'],
  ['GET /admin', {}, '404 NOT_FOUND'],
  ['DELETE /coupons/welcome', {}, '405 METHOD_NOT_ALLOWED'],
];

const me: Attempt[] = [
  ['GET /me/coupons', {}, '401 UNAUTHENTICATED'],
  ['GET /me/coupons', { headers: { 'x-user-id': 'a/b' } }, malformed],
  ['GET /me/coupons?limit=0', { headers: ann }, malformed],
  ['GET /me/coupons?limit=201', { headers: ann }, malformed],
  ['GET /me/coupons?limit=1.5', { headers: ann }, malformed],
  ['GET /me/coupons?limit=ten', { headers: ann }, malformed],
  ['GET /me/coupons?limit=1&limit=2', { headers: ann }, malformed],
  ['GET /me/coupons?__proto__=1', { headers: ann }, malformed],
  [`GET /me/coupons?after=${long(257)}`, { headers: ann }, malformed],
  ['GET /me/coupons?other=1', { headers: ann }, malformed],
  ['POST /me/coupons/welcome.1/redeem', {}, '401 UNAUTHENTICATED'],
  ['POST /me/coupons/welcome.1/redeem', { headers: ann }, '404 UNKNOWN_USER_COUPON'],
  ['POST /me/coupons/welcome.0/redeem', { headers: ann }, '404 UNKNOWN_USER_COUPON'],
  ['POST /me/coupons/welcome/redeem', { headers: ann }, '404 UNKNOWN_USER_COUPON'],
  ['POST /me/coupons/welcome.99999999999999999999/redeem', { headers: ann }, '404 UNKNOWN_USER_COUPON'],
  ['POST /me/coupons/..%2f..%2f.1/redeem', { headers: ann }, '404 UNKNOWN_USER_COUPON'],
  ['POST /me/coupons/welcome.1/redeem', { headers: ann, body: { twice: true } }, malformed],
  ['GET /me/coupons/welcome.1/redeem', { headers: ann }, '405 METHOD_NOT_ALLOWED'],
];

const secret = 'the secret of the tests';
const task = {
  ...{ couponId: 'welcome' as CouponId, userId: 'ann' as UserId, partition: 0, offset: 1 },
  key: '0123456789abcdef' as RequestKey,
};
const random = (n: number) => crypto.getRandomValues(new Uint8Array(n));

/** Task ids that were not given out by this server. */
function badTaskIds(app: MemoryApp): Record<string, string> {
  const mine = app.sealer.seal(task);
  const flipped = (at: number) => mine.slice(0, at) + (mine[at] === 'A' ? 'B' : 'A') + mine.slice(at + 1);
  return {
    ...{ text: 'task', empty: '%20', long: long(500), longer: long(8_000), prototype: '__proto__' },
    ...{ truncated: mine.slice(0, -1), shortened: mine.slice(0, 38), lengthened: `${mine}A`, padded: `${mine}=` },
    ...{ 'other nonce': flipped(0), 'other tag': flipped(20), 'other body': flipped(mine.length - 3) },
    'other alphabet': mine
      .replaceAll('-', '+')
      .replaceAll('_', '/')
      .replaceAll('/', '%2F')
      .padEnd(mine.length + 2, '='),
    'other secret': createSealer('another secret', app.log.identity, random).seal(task),
    'other log': createSealer(secret, 'another log', random).seal(task),
    'partition below 0': app.sealer.seal({ ...task, partition: -1 }),
    'offset below 0': app.sealer.seal({ ...task, offset: -1 }),
  };
}

describe('bad input', () => {
  let app: MemoryApp;
  let kept: unknown;
  before(async () => {
    app = await startMemoryApp({ secret });
    await call(app.url, 'POST /coupons', { body: { couponId: 'welcome', name: 'Welcome', stock: 5 } });
    kept = await app.kept();
  });
  /** The process stands, nothing was stored, nothing broke. */
  const assertUntouched = async () => {
    assert.equal((await call(app.url, 'GET /healthz')).status, 200);
    await assertKept(app, kept);
  };
  after(() => app.stop());

  for (const [name, attempts] of Object.entries({ issue, create, operator, me })) {
    test(`table: ${name}`, async t => {
      for (const [what, options, wanted] of attempts) {
        const title = `${what} ${JSON.stringify(options)}`.slice(0, 140);
        await t.test(title, async () => assertProblem(await call(app.url, what, options), wanted));
      }
      await assertUntouched();
    });
  }

  test('task ids that were not given out here', async t => {
    for (const [name, taskId] of Object.entries(badTaskIds(app))) {
      for (const tail of ['', '/events']) {
        await t.test(`${name}${tail}`, async () =>
          assertProblem(await call(app.url, `GET /tasks/${taskId}${tail}`), '404 UNKNOWN_TASK'),
        );
      }
    }
    await assertUntouched();
  });

  test('the detail names the field', async () => {
    const details: [object, RegExp][] = [
      [{ ...good, stock: 'x' }, /body\.stock must be integer/],
      [{ ...good, more: 1 }, /unknown field "more"/],
      [{ name: 'x' }, /stock/],
      [{ ...good, opensAt: '2030-02-30T00:00:00Z' }, /body\.opensAt/],
      [{ ...good, discount: { type: 'percent', value: 101 } }, /body\.discount\.value must be <= 100$/],
      [{ ...good, discount: { type: 'percent', value: 15.5 } }, /body\.discount\.value must be integer/],
      [{ ...good, discount: { type: 'percent', value: 0 } }, /body\.discount\.value must be >= 1/],
      [{ ...good, discount: { type: 'percent' } }, /body\.discount must have required property 'value'/],
      [{ ...good, discount: { type: 'fixed', value: 1e9 + 1 } }, /body\.discount\.value must be <= 1000000000/],
      [{ ...good, discount: { type: 'free', value: 5 } }, /body\.discount\.type /],
      [{ ...good, discount: { value: 500 } }, /body\.discount must have required property 'type'/],
      [{ ...good, discount: { type: 'percent', value: 5, of: 1 } }, /body\.discount has the unknown field "of"/],
    ];
    for (const [body, detail] of details) {
      assert.match((await call(app.url, 'POST /coupons', { body })).body.detail, detail);
    }
  });

  test('bytes that no client would send', async t => {
    const post = 'POST /coupons/welcome/issue HTTP/1.1\r\nhost: x\r\n';
    const attempts: [name: string, bytes: string | Buffer, status: number][] = [
      ['a control character in the path', 'POST /coupons/wel\u0001come/issue HTTP/1.1\r\nhost: x\r\n\r\n', 400],
      ['a zero in the user id', `${post}x-user-id: a\u0000b\r\n\r\n`, 400],
      ['a line feed in the user id', `${post}x-user-id: a\nx-admin: b\r\nconnection: close\r\n\r\n`, 400],
      ['a tab in the user id', `${post}x-user-id: a\tb\r\nconnection: close\r\n\r\n`, 400],
      ['two users', `${post}x-user-id: ann\r\nX-User-Id: bob\r\nconnection: close\r\n\r\n`, 400],
      [
        'two keys',
        `${post}x-user-id: ann\r\nidempotency-key: a\r\nidempotency-key: b\r\nconnection: close\r\n\r\n`,
        400,
      ],
      [
        'bytes above ASCII in the user id',
        Buffer.from(`${post}x-user-id: \xff\xfe\r\nconnection: close\r\n\r\n`, 'latin1'),
        400,
      ],
      ['two lengths', `${post}x-user-id: ann\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}`, 400],
      [
        'a length and chunks',
        `${post}x-user-id: ann\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
        400,
      ],
      ['a length that is none', `${post}x-user-id: ann\r\ncontent-length: -1\r\n\r\n`, 400],
      ['no HTTP', '\u0016\u0003\u0001\u0002\u0000', 400],
      ['headers too large', `${post}x-user-id: ann\r\nx-large: ${long(20_000)}\r\n\r\n`, 431],
      ['no host', 'POST /coupons/welcome/issue HTTP/1.1\r\n\r\n', 400],
    ];
    for (const [name, bytes, status] of attempts) {
      await t.test(name, async () => {
        const text = await raw(app.port, bytes);
        assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} `), text.slice(0, 200));
      });
    }
    await assertUntouched();
  });

  test('a refused request whose small body nobody read leaves the connection usable', async () => {
    const text = await raw(
      app.port,
      'POST /coupons/BAD/issue HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n{"a":"b\\"c"}'.slice(0, -1) +
        'GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
    );
    assert.match(text, /^HTTP\/1\.1 400 [\s\S]*HTTP\/1\.1 200 OK[\s\S]*\{"ok":true\}$/);
  });

  test('a body without an end is cut, and its answer arrives', async () => {
    const head =
      'POST /coupons/welcome/issue HTTP/1.1\r\nhost: x\r\nx-user-id: ann\r\ncontent-type: application/json\r\n';
    const chunk = `10000\r\n${long(65_536)}\r\n`;
    // The button's bound is 1 KiB, whether or not the length is said before.
    for (const chunks of [chunk.repeat(200), `800\r\n${long(2_048)}\r\n0\r\n\r\n`]) {
      const text = await raw(app.port, `${head}connection: close\r\ntransfer-encoding: chunked\r\n\r\n${chunks}`);
      assert.match(text, /^HTTP\/1\.1 413 [\s\S]*connection: close[\s\S]*BODY_TOO_LARGE/i);
    }
    await assertUntouched();
  });

  test('a client that leaves in the middle of its body harms nobody', async () => {
    const head =
      'POST /coupons/welcome/issue HTTP/1.1\r\nhost: x\r\nx-user-id: ann\r\ncontent-type: application/json\r\n';
    const { connect } = await import('node:net');
    await new Promise<void>(resolve => {
      const socket = connect(app.port, '127.0.0.1', () => {
        socket.write(`${head}content-length: 100\r\n\r\n{"a":`, () => socket.destroy());
      });
      socket.on('close', () => resolve());
    });
    await assertUntouched();
  });
});
