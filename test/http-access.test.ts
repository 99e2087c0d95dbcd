/** Who is let in, how often and from where: tokens, rates, origins, roles of a process. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { after, before, describe, type TestContext, test } from 'node:test';
import { exportJWK, SignJWT } from 'jose';
import { createHost } from '../src/host.ts';
import { askedOf } from '../src/http/asked.ts';
import { createAuth } from '../src/http/auth.ts';
import { jwksFreshMsMax, jwksKeptMsMax, jwksMsMin, tokenMsMax, tokenSkewS } from '../src/http/limits.ts';
import { Buckets, networkOf } from '../src/http/rate.ts';
import { assertProblem, call, until } from './support/calls.ts';
import { claim, ended, open } from './support/http-claims.ts';
import { type KeySet, startKeySet } from './support/key-set.ts';
import { type MemoryApp, startMemoryApp } from './support/memory-app.ts';

describe('tokens', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  let keySet: KeySet;
  let app: MemoryApp;
  before(async () => {
    keySet = await startKeySet({ ...(await exportJWK(rsa.publicKey)), kid: 'one', alg: 'RS256' });
    const jwksUrl = keySet.url;
    app = await startMemoryApp({ settings: { auth: { kind: 'jwt', jwksUrl, issuer: 'us', audience: 'dibs' } } });
  });
  after(async () => {
    await app.stop();
    await keySet.close();
  });
  const sign = (claims: Record<string, unknown>, sub = 'ann') =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: 'RS256', kid: 'one' })
      .setSubject(sub)
      .setIssuer('us')
      .setAudience('dibs')
      .setExpirationTime('1h')
      .sign(rsa.privateKey);

  test('of a key set: the user is its sub, the operator has the role', async () => {
    const admin = { authorization: `Bearer ${await sign({ role: 'admin' }, 'boss')}` };
    const user = { authorization: `Bearer ${await sign({})}` };
    const body = { couponId: 'signed', name: 'Signed', stock: 1 };
    assertProblem(await call(app.url, 'POST /coupons', { body, headers: user }), '403 FORBIDDEN');
    const nobody = await call(app.url, 'POST /coupons', { body });
    assertProblem(nobody, '401 UNAUTHENTICATED');
    assert.equal(nobody.headers.get('www-authenticate'), 'Bearer');
    assert.equal((await call(app.url, 'POST /coupons', { body, headers: admin })).status, 201);
    // A header that claims to be someone else says nothing here.
    const headers = { ...user, 'x-user-id': 'mallory' };
    const accepted = await call(app.url, 'POST /coupons/signed/issue', { headers });
    assert.equal(accepted.status, 202);
    await ended(app, accepted);
    const mine = await call(app.url, 'GET /me/coupons', { headers: user });
    assert.equal(mine.body.items[0].userId, 'ann');
  });

  test('a sold-out coupon is refused from memory, before token and body', async () => {
    await until(
      () => app.door.latch.shut('signed'),
      shut => shut === 'sold_out',
    );
    const answer = await call(app.url, 'POST /coupons/signed/issue', { body: '{' });
    assertProblem(answer, '410 INACTIVE_COUPON');
    assertProblem(
      await call(app.url, 'POST /coupons/signed/issue', { headers: { 'idempotency-key': 'k' } }),
      '401 UNAUTHENTICATED',
    );
  });
});

describe('a token that was verified', () => {
  const secret = 'a secret of the tests, long enough';
  /** Asks with one token again and again, under a clock of the test. */
  async function asking(t: TestContext, endsAfterS?: number) {
    t.mock.timers.enable({ apis: ['Date'], now: 1_700_000_000_000 });
    const auth = createAuth({ kind: 'jwt', secret }, { ...createHost(), now: () => Date.now() }, () => {});
    const token = new SignJWT().setProtectedHeader({ alg: 'HS256' }).setSubject('ann');
    if (endsAfterS !== undefined) token.setExpirationTime(Date.now() / 1000 + endsAfterS);
    const asked = askedOf(['authorization', `Bearer ${await token.sign(new TextEncoder().encode(secret))}`]);
    return () => auth.user(asked);
  }

  test('is believed for a minute, then verified again', async t => {
    const ask = await asking(t);
    assert.equal(await ask(), 'ann');
    t.mock.timers.tick(tokenMsMax - 1);
    assert.equal(ask(), 'ann');
    t.mock.timers.tick(1);
    const again = ask();
    assert.ok(again instanceof Promise);
    assert.equal(await again, 'ann');
    assert.equal(ask(), 'ann');
  });

  test('is not believed beyond its end', async t => {
    const ask = await asking(t, 10);
    assert.equal(await ask(), 'ann');
    t.mock.timers.tick((10 + tokenSkewS) * 1_000 - 1);
    assert.equal(ask(), 'ann');
    t.mock.timers.tick(1);
    const late = await ask();
    assert.equal(typeof late === 'object' && late.code, 'UNAUTHENTICATED');
  });
});

describe('a key set', () => {
  const named = (kid: string) => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    return { kid, privateKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg: 'ES256' } };
  };
  const [one, two] = [named('one'), named('two')];

  /** A set of the first key, and who asks it, under a clock of the test. */
  async function started(t: TestContext) {
    t.mock.timers.enable({ apis: ['Date'], now: Date.now() });
    const keySet = await startKeySet(one.jwk);
    t.after(() => keySet.close());
    const host = { ...createHost(), now: () => Date.now(), elapsed: () => Date.now() };
    const said: string[] = [];
    const auth = createAuth({ kind: 'jwt', jwksUrl: keySet.url }, host, (_, message) => void said.push(message));
    let users = 0;
    return {
      keySet,
      said,
      pass: (ms: number) => t.mock.timers.tick(ms),
      /** Each with a token of their own, at once: what they are told, once each. */
      async told({ kid, privateKey }: typeof one, n = 20): Promise<string[]> {
        const answers = Array.from({ length: n }, async () => {
          const token = new SignJWT().setProtectedHeader({ alg: 'ES256', kid }).setSubject(`u${users++}`);
          const asked = askedOf(['authorization', `Bearer ${await token.sign(privateKey)}`]);
          const answer = await auth.user(asked);
          return typeof answer === 'string' ? 'let in' : answer.code;
        });
        return [...new Set(await Promise.all(answers))];
      },
    };
  }

  test('that is away refuses nobody for a day, and is asked seldom', async t => {
    const { keySet, pass, said, told } = await started(t);
    assert.deepEqual([await told(one), keySet.asked], [['let in'], 1]);
    pass(jwksFreshMsMax);
    assert.deepEqual([await told(one), keySet.asked], [['let in'], 1]);
    keySet.serve('error');
    pass(1);
    const asked = (n: number) =>
      until(
        async () => [await told(one, 1), keySet.asked] as const,
        ([answers, times]) => {
          assert.deepEqual(answers, ['let in']);
          return times === n;
        },
      );
    await asked(2);
    assert.deepEqual([await told(one), await told(one), keySet.asked], [['let in'], ['let in'], 2]);
    pass(jwksMsMin);
    await asked(3);
    await until(
      () => said.length,
      n => n === 2,
    );
    for (const line of said) {
      assert.match(line, /^the key set \(DIBS_JWKS_URL\) does not come, .*: status \d+$/);
      assert.ok(!line.includes(keySet.url));
    }
    // Nobody waits for one that hangs.
    keySet.serve('silence');
    pass(jwksMsMin);
    await asked(4);
    pass(jwksKeptMsMax - jwksFreshMsMax - 2 * jwksMsMin - 2);
    assert.deepEqual(await told(one), ['let in']);
  });

  test('is forgotten after a day, and asked for as seldom where there is none', async t => {
    const { keySet, pass, told } = await started(t);
    keySet.serve('error');
    assert.deepEqual([await told(one), await told(one), keySet.asked], [['UNAVAILABLE'], ['UNAVAILABLE'], 1]);
    keySet.serve([one.jwk]);
    assert.deepEqual([await told(one), keySet.asked], [['UNAVAILABLE'], 1]);
    pass(jwksMsMin);
    assert.deepEqual([await told(one), keySet.asked], [['let in'], 2]);
    keySet.serve('error');
    pass(jwksKeptMsMax);
    assert.deepEqual([await told(one), await told(one), keySet.asked], [['UNAVAILABLE'], ['UNAVAILABLE'], 3]);
    keySet.serve([one.jwk]);
    pass(jwksMsMin);
    assert.deepEqual([await told(one), keySet.asked], [['let in'], 4]);
  });

  test('is asked once for a key that it does not know, whether it is away or not', async t => {
    const { keySet, pass, told } = await started(t);
    assert.deepEqual([await told(two), await told(two), keySet.asked], [['UNAUTHENTICATED'], ['UNAUTHENTICATED'], 1]);
    pass(jwksMsMin);
    assert.deepEqual([await told(two), await told(two), keySet.asked], [['UNAUTHENTICATED'], ['UNAUTHENTICATED'], 2]);
    keySet.serve('error');
    pass(jwksMsMin);
    // It may be a new one.
    assert.deepEqual([await told(two), await told(two), keySet.asked], [['UNAVAILABLE'], ['UNAVAILABLE'], 3]);
    assert.deepEqual([await told(one), keySet.asked], [['let in'], 3]);
    keySet.serve([two.jwk]);
    pass(jwksMsMin);
    assert.deepEqual([await told(two), keySet.asked], [['let in'], 4]);
    assert.deepEqual([await told(one), keySet.asked], [['UNAUTHENTICATED'], 4]);
  });

  test('is renewed behind those who ask: a key that was taken out of it lets nobody in', async t => {
    const { keySet, pass, told } = await started(t);
    assert.deepEqual(await told(one), ['let in']);
    keySet.serve([two.jwk]);
    pass(jwksFreshMsMax + 1);
    await until(
      () => told(one, 1),
      ([answer]) => answer === 'UNAUTHENTICATED',
    );
    assert.equal(keySet.asked, 2);
  });
});

test('HS256 by the secret', async () => {
  const secret = 'a secret of the tests, long enough';
  const app = await startMemoryApp({ settings: { auth: { kind: 'jwt', secret } } });
  const token = await new SignJWT({ role: 'admin' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject('ann')
    .sign(Buffer.from(secret));
  const headers = { authorization: `bearer ${token}` };
  assert.equal((await call(app.url, 'POST /coupons', { headers, body: { name: 'x', stock: 1 } })).status, 201);
  assert.equal((await call(app.url, 'GET /me/coupons', { headers })).status, 200);
  await app.stop();
});

test('rates: a user and an address get 429 with the time to wait; off unless set', async t => {
  const ms = Date.now();
  // No second passes: a busy machine would fill the buckets between two claims.
  const app = await startMemoryApp({
    settings: { ratePerUser: 1, ratePerAddress: 3 },
    hostOf: host => ({ ...host, now: () => ms }),
  });
  t.after(() => app.stop());
  await open(app, 'rated', 9);
  assert.equal((await claim(app, 'rated', 'ann')).status, 202);
  const again = await claim(app, 'rated', 'ann');
  assertProblem(again, '429 TOO_MANY_REQUESTS');
  assert.equal(again.headers.get('retry-after'), '1');
  assert.match(again.body.detail, /one user/);
  assert.equal((await claim(app, 'rated', 'bob')).status, 202);
  const crowd = await claim(app, 'rated', 'cyd');
  assertProblem(crowd, '429 TOO_MANY_REQUESTS');
  assert.match(crowd.body.detail, /one address/);
});

test('buckets fill with time and are bounded in number', () => {
  const buckets = new Buckets(2);
  assert.deepEqual([buckets.take('a', 0), buckets.take('a', 0), buckets.take('a', 0)], [0, 0, 500]);
  assert.equal(buckets.take('a', 500), 0);
  assert.equal(buckets.take('a', 400), 500, 'a clock that steps back gives nothing and takes nothing');
  for (let i = 0; i < 60_000; i++) buckets.take(`user-${i}`, 1);
  assert.equal(buckets.size, 50_000);
});

test('an IPv6 address is one of its /64', () => {
  assert.equal(networkOf('127.0.0.1'), '127.0.0.1');
  assert.equal(networkOf('::ffff:10.0.0.1'), '10.0.0.1');
  assert.equal(networkOf('2001:db8:0:7:1:2:3:4'), networkOf('2001:db8:0:7:ffff::1'));
  assert.notEqual(networkOf('2001:db8:0:7::1'), networkOf('2001:db8:0:8::1'));
  assert.equal(networkOf('::1'), '0:0:0:0');
});

test('a process without the api role only tells how it is', async () => {
  const app = await startMemoryApp({ settings: { api: false } });
  for (const path of ['/healthz', '/readyz', '/metrics', '/admin/lag']) {
    assert.equal((await call(app.url, `GET ${path}`)).status, 200, path);
  }
  assertProblem(await claim(app, 'x', 'ann'), '404 NOT_FOUND');
  await app.stop();
});
