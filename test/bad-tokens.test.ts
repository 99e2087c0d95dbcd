/** Tokens that must not let anybody in: each gets its documented code on every route, and nothing is stored. */
import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, type KeyObject, sign as signBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { assertProblem, call, raw } from './support/calls.ts';
import { type KeySet, startKeySet } from './support/key-set.ts';
import { assertKept, type MemoryApp, startMemoryApp } from './support/memory-app.ts';

const base64url = (text: string | Buffer) => Buffer.from(text).toString('base64url');
const inS = (s: number) => Math.floor(Date.now() / 1000) + s;
const claims = { sub: 'ann', role: 'admin', iss: 'us', aud: 'dibs', exp: inS(600) };

/** A token made by hand, so that it may be wrong in any way. */
function token(header: object, payload: object, sign: (input: string) => Buffer): string {
  const input = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(payload))}`;
  return `${input}.${base64url(sign(input))}`;
}

const hmac = (algorithm: string, key: string | Buffer) => (input: string) =>
  createHmac(algorithm, key).update(input).digest();
const rs256 = (key: KeyObject) => (input: string) => signBytes('sha256', Buffer.from(input), key);

describe('bad tokens', () => {
  const key = 'a secret of the tests, long enough';
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const publicPem = rsa.publicKey.export({ type: 'spki', format: 'pem' }) as string;
  const hs256 = (payload: object) => token({ alg: 'HS256' }, payload, hmac('sha256', key));
  const signed = (payload: object) => token({ alg: 'RS256', kid: 'one' }, payload, rs256(rsa.privateKey));
  let keySet: KeySet;
  const apps: MemoryApp[] = [];
  before(async () => {
    keySet = await startKeySet({ ...rsa.publicKey.export({ format: 'jwk' }), kid: 'one' });
    const checks = { issuer: 'us', audience: 'dibs' };
    apps.push(await startMemoryApp({ settings: { auth: { kind: 'jwt', secret: key, ...checks } } }));
    apps.push(await startMemoryApp({ settings: { auth: { kind: 'jwt', jwksUrl: keySet.url, ...checks } } }));
  });
  after(async () => {
    for (const app of apps) await app.stop();
    await keySet.close();
  });

  const nothing = () => Buffer.alloc(0);
  const { exp: _, ...endless } = claims;
  const ofSecret: Record<string, string> = {
    'no algorithm': token({ alg: 'none' }, claims, nothing),
    'no algorithm, oddly written': token({ alg: 'nOnE' }, claims, nothing),
    HS512: token({ alg: 'HS512' }, claims, hmac('sha512', key)),
    HS384: token({ alg: 'HS384' }, claims, hmac('sha384', key)),
    RS256: signed(claims),
    'another secret': token({ alg: 'HS256' }, claims, hmac('sha256', 'another secret')),
    'no signature': hs256(claims).replace(/[^.]*$/, ''),
    'changed after it was signed': hs256(claims).replace(
      /\.[^.]+\./,
      `.${base64url(JSON.stringify({ ...claims, sub: 'boss' }))}.`,
    ),
    expired: hs256({ ...claims, exp: inS(-60) }),
    'not yet valid': hs256({ ...claims, nbf: inS(60) }),
    'an end that is no number': hs256({ ...claims, exp: 'never' }),
    'another issuer': hs256({ ...claims, iss: 'them' }),
    'no issuer': hs256({ ...claims, iss: undefined }),
    'another audience': hs256({ ...claims, aud: 'shop' }),
    'no audience': hs256({ ...claims, aud: undefined }),
    'an unknown critical header': token({ alg: 'HS256', crit: ['x'], x: 1 }, claims, hmac('sha256', key)),
    'no token': 'x',
    'two points': '..',
    'payload that is no JSON': `${base64url('{"alg":"HS256"}')}.${base64url('x')}.${base64url('x')}`,
  };
  const ofKeySet: Record<string, string> = {
    'no algorithm': token({ alg: 'none' }, claims, nothing),
    'the public key as a secret': token({ alg: 'HS256', kid: 'one' }, claims, hmac('sha256', publicPem)),
    "the public key's bytes as a secret": token(
      { alg: 'HS256', kid: 'one' },
      claims,
      hmac('sha256', rsa.publicKey.export({ type: 'spki', format: 'der' })),
    ),
    "a stranger's key": token({ alg: 'RS256', kid: 'one' }, claims, rs256(stranger.privateKey)),
    "a stranger's key in the header": token(
      { alg: 'RS256', jwk: stranger.publicKey.export({ format: 'jwk' }) },
      claims,
      rs256(stranger.privateKey),
    ),
    'an unknown key id': token({ alg: 'RS256', kid: 'two' }, claims, rs256(rsa.privateKey)),
    expired: signed({ ...claims, exp: inS(-60) }),
    'not yet valid': signed({ ...claims, nbf: inS(60) }),
    'another issuer': signed({ ...claims, iss: 'them' }),
    'another audience': signed({ ...claims, aud: ['shop'] }),
  };

  const routes = [
    ['POST /coupons/welcome/issue', undefined],
    ['GET /me/coupons', undefined],
    ['POST /coupons', { name: 'Good', stock: 1 }],
    ['GET /admin/lag', undefined],
  ] as const;

  for (const [which, tokens] of [ofSecret, ofKeySet].entries()) {
    test(which === 0 ? 'where a secret is set' : 'where a key set is set', async t => {
      const app = apps[which] as MemoryApp;
      const kept = await app.kept();
      for (const [name, bad] of Object.entries(tokens)) {
        await t.test(name, async () => {
          for (const [what, body] of routes) {
            const headers = { authorization: `Bearer ${bad}` };
            const answer = await call(app.url, what, body ? { headers, body } : { headers });
            assertProblem(answer, '401 UNAUTHENTICATED');
            assert.ok(!JSON.stringify(answer.body).includes(bad), 'the token is not repeated');
          }
        });
      }
      await assertKept(app, kept);
    });
  }

  test('headers that are no Bearer', async () => {
    const [app] = apps as [MemoryApp];
    const headers = ['', 'Bearer', 'Bearer ', 'Basic YTpi', hs256(claims), `Bearer ${hs256(claims)} x`];
    for (const authorization of headers) {
      assertProblem(await call(app.url, 'GET /me/coupons', { headers: { authorization } }), '401 UNAUTHENTICATED');
    }
    const good = `authorization: Bearer ${hs256(claims)}\r\n`;
    const twice = await raw(app.port, `GET /me/coupons HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${good}${good}\r\n`);
    assert.match(twice, /^HTTP\/1\.1 400 /);
  });

  test('a good one is let in; a sub that is no user id may not claim, a user may not operate', async () => {
    for (const [app, make] of [
      [apps[0], hs256],
      [apps[1], signed],
    ] as [MemoryApp, (payload: object) => string][]) {
      const use = (payload: object) => ({ headers: { authorization: `Bearer ${make(payload)}` } });
      assert.equal((await call(app.url, 'GET /me/coupons', use(claims))).status, 200);
      assert.equal((await call(app.url, 'GET /me/coupons', use(endless))).status, 200);
      for (const sub of [undefined, 7, '', 'a b', 'a'.repeat(65), '__proto__\u0000']) {
        assertProblem(await call(app.url, 'GET /me/coupons', use({ ...claims, sub })), '401 UNAUTHENTICATED');
      }
      for (const role of [undefined, 'Admin', ['admin'], true, { admin: true }]) {
        assertProblem(await call(app.url, 'GET /admin/lag', use({ ...claims, role })), '403 FORBIDDEN');
      }
    }
  });

  test('a token that names no key is let in by whichever key of the set signed it, and by no other', async t => {
    const other = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const [one, two] = [rsa, other].map(pair => pair.publicKey.export({ format: 'jwk' })) as [object, object];
    const several = await startKeySet({ ...one, kid: 'one' });
    several.serve([
      { ...one, kid: 'one' },
      { ...two, kid: 'two' },
    ]);
    const app = await startMemoryApp({ settings: { auth: { kind: 'jwt', jwksUrl: several.url } } });
    t.after(() => Promise.all([app.stop(), several.close()]));
    const told = async ({ privateKey }: { privateKey: KeyObject }, payload: object) => {
      const authorization = `Bearer ${token({ alg: 'RS256' }, payload, rs256(privateKey))}`;
      return call(app.url, 'GET /me/coupons', { headers: { authorization } });
    };
    for (const pair of [rsa, other]) {
      assert.equal((await told(pair, claims)).status, 200);
      const late = await told(pair, { ...claims, exp: inS(-60) });
      assertProblem(late, '401 UNAUTHENTICATED');
      assert.match(late.body.detail, /expired/);
    }
    assertProblem(await told(stranger, claims), '401 UNAUTHENTICATED');
  });

  test('a key that is too weak stands in the way of no other', async t => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' });
    const set = await startKeySet({});
    set.serve([
      { ...weak, kid: 'weak' },
      { ...rsa.publicKey.export({ format: 'jwk' }), kid: 'one' },
    ]);
    const app = await startMemoryApp({ settings: { auth: { kind: 'jwt', jwksUrl: set.url } } });
    t.after(() => Promise.all([app.stop(), set.close()]));
    const authorization = `Bearer ${token({ alg: 'RS256' }, claims, rs256(rsa.privateKey))}`;
    assert.equal((await call(app.url, 'GET /me/coupons', { headers: { authorization } })).status, 200);
  });

  test('a key set that is away is no fault of the token', async () => {
    const app = await startMemoryApp({ settings: { auth: { kind: 'jwt', jwksUrl: 'http://127.0.0.1:9/' } } });
    const headers = { authorization: `Bearer ${signed(claims)}` };
    assertProblem(await call(app.url, 'GET /me/coupons', { headers }), '503 UNAVAILABLE');
    await app.stop();
  });
});
