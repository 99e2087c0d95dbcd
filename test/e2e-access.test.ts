/** Who may do what, rates, and a stage of a user's own, on all profiles and through HTTP. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { auditStage, readCounts } from '../examples/audit-stage.ts';
import type { App } from '../src/app.ts';
import { createClient } from '../src/client/index.ts';
import { profiles } from '../src/config.ts';
import { requestLog } from '../src/entry.ts';
import { defineStage } from '../src/stage.ts';
import { assertProblem, call } from './support/calls.ts';
import { spawnDibs } from './support/child.ts';
import { embeddedGround, type Ground, groundOf, notOwed, owed, untestable } from './support/profiles.ts';
import { range } from './support/road.ts';
import { holds, until } from './support/until.ts';

const jwtSecret = 'a secret of thirty-two bytes or so';
const [issuer, audience] = ['https://login.example', 'dibs'];

interface Claims {
  sub?: string;
  role?: string;
  iss?: string;
  aud?: string;
  expiresInS?: number;
  secret?: string;
}

const tokenOf = ({ sub = 'ann', iss = issuer, aud = audience, expiresInS = 600, secret = jwtSecret, role }: Claims) =>
  new SignJWT(role ? { role } : {})
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(sub)
    .setIssuer(iss)
    .setAudience(aud)
    .setExpirationTime(Math.floor(Date.now() / 1000) + expiresInS)
    .sign(new TextEncoder().encode(secret));

const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

for (const profile of profiles) {
  const skip = untestable(profile);
  describe(`access, ${profile}`, { skip, timeout: 110_000 }, () => {
    let ground: Ground;
    let app: App;
    before(async () => {
      const jwt = { auth: 'jwt', jwtSecret, jwtIssuer: issuer, jwtAudience: audience };
      ground = await groundOf(profile, { ...jwt, ratePerUser: '4', partitions: '1' });
      app = await ground.start();
    });
    after(() => ground.close());

    test('a token says who it is: an admin makes coupons, a user wins, redeems, and sees only the own', async () => {
      const [admin, ann, bob] = [
        await tokenOf({ sub: 'root', role: 'admin' }),
        await tokenOf({}),
        await tokenOf({ sub: 'bob' }),
      ];
      const make = { body: { couponId: 'jwt', name: 'jwt', stock: 5 } };
      assertProblem(await call(app.url, 'POST /coupons', make), '401 UNAUTHENTICATED');
      assertProblem(await call(app.url, 'POST /coupons', { ...make, headers: bearer(ann) }), '403 FORBIDDEN');
      const client = createClient({ baseUrl: app.url, token: admin });
      await client.coupons.create({ couponId: 'jwt', name: 'jwt', stock: 5 });
      const end = await client.as({ token: ann }).claim('jwt').outcome;
      assert.deepEqual([end.outcome, 'slot' in end && end.slot], ['issued', 1]);
      assert.deepEqual(
        (await ground.rows('jwt')).map(row => row.userId),
        ['ann'],
      );
      await assert.rejects(client.as({ token: bob }).redeem('jwt.1'), { status: 404, code: 'UNKNOWN_USER_COUPON' });
      assert.deepEqual((await client.as({ token: bob }).myCoupons()).items, []);
      assert.equal((await client.as({ token: ann }).redeem('jwt.1')).state, 'redeemed');
      if (notOwed[profile].verify === undefined) assert.equal((await client.verify()).ok, true);
      for (const what of ['GET /admin/lag', 'GET /admin/verify', 'GET /admin/dead-letters', 'GET /coupons/jwt/stats']) {
        assertProblem(await call(app.url, what), '401 UNAUTHENTICATED');
        assertProblem(await call(app.url, what, { headers: bearer(bob) }), '403 FORBIDDEN');
      }
    });

    test('a token that is not ours, too old, for others, or unsigned is 401, whatever the headers say', async () => {
      const [head, claims] = [{ alg: 'none' }, { sub: 'ann', iss: issuer, aud: audience, role: 'admin' }];
      const bad = {
        'another secret': await tokenOf({ secret: 'another secret of thirty-two bytes' }),
        'too old': await tokenOf({ expiresInS: -600 }),
        'another issuer': await tokenOf({ iss: 'https://evil.example' }),
        'another audience': await tokenOf({ aud: 'others' }),
        'no user id': await tokenOf({ sub: 'not a user id' }),
        unsigned: `${base64(head)}.${base64(claims)}.`,
        'no token': 'x',
      };
      for (const [why, token] of Object.entries(bad)) {
        const headers = { ...bearer(token), 'x-user-id': 'ann' };
        const answer = await call(app.url, 'POST /coupons/jwt/issue', { headers });
        assertProblem(answer, '401 UNAUTHENTICATED');
        assertProblem(await call(app.url, 'GET /me/coupons', { headers }), '401 UNAUTHENTICATED');
        assert.ok(!JSON.stringify(answer.body).includes(token) || token === 'x', why);
      }
      assertProblem(
        await call(app.url, 'POST /coupons/jwt/issue', { headers: { 'x-user-id': 'ann' } }),
        '401 UNAUTHENTICATED',
      );
    });

    test('beyond the rate of one user it is 429 with Retry-After; others are not slowed, and a claim waits', async () => {
      const client = createClient({ baseUrl: app.url, token: await tokenOf({ sub: 'root', role: 'admin' }) });
      await client.coupons.create({ couponId: 'rated', name: 'rated', stock: 100 });
      const [fast, calm] = [await tokenOf({ sub: 'fast' }), await tokenOf({ sub: 'calm' })];
      const press = (token: string) => call(app.url, 'POST /coupons/rated/issue', { headers: bearer(token) });
      const answers = await Promise.all(range(30).map(() => press(fast)));
      const limited = answers.filter(({ status }) => status === 429);
      assert.ok(limited.length > 0 && limited.length <= 26, `${limited.length}`);
      for (const answer of limited) {
        assertProblem(answer, '429 TOO_MANY_REQUESTS');
        assert.ok(Number(answer.headers.get('retry-after')) >= 1);
      }
      assert.equal((await press(calm)).status, 202);
      const patient = client.as({ token: fast }).claim('rated');
      assert.equal((await patient.outcome).outcome, 'duplicated', 'a claim honours Retry-After and then is answered');
    });
  });

  describe(`a stage of one's own, ${profile}`, { skip, timeout: 110_000 }, () => {
    const name = 'counts the wins, keeps its place over a restart, and does not count a coupon twice';
    test(name, owed(profile, 'own stages'), async () => {
      const ground = await groundOf(profile, { partitions: '1' });
      const folder = mkdtempSync(join(tmpdir(), 'dibs-audit-'));
      const path = join(folder, 'audit.json');
      const claim = async (url: string, couponId: string, users: number) => {
        const client = createClient({ baseUrl: url });
        const ends = range(users).map(i => client.claim(couponId, { userId: `u${i}` }).outcome);
        return (await Promise.all(ends)).filter(({ outcome }) => outcome === 'issued').length;
      };
      try {
        const first = await ground.start({}, { stages: [auditStage(path)] });
        const client = createClient({ baseUrl: first.url });
        await client.coupons.create({ couponId: 'apple', name: 'apple', stock: 7 });
        await client.coupons.create({ couponId: 'pear', name: 'pear', stock: 50 });
        assert.deepEqual([await claim(first.url, 'apple', 20), await claim(first.url, 'pear', 5)], [7, 5]);
        await holds(() => assert.deepEqual(readCounts(path), { apple: 7, pear: 5 }));
        await holds(async () => {
          const lag = (await client.lag()).stages.find(({ stage }) => stage === 'audit');
          assert.deepEqual([lag?.state, lag?.lagEntries], ['running', 0]);
        });
        await first.stop();

        const heard: unknown[] = [];
        const second = await ground.start({}, { stages: [auditStage(path, counts => heard.push(counts))] });
        assert.equal(await claim(second.url, 'pear', 8), 3);
        await holds(() => assert.deepEqual(readCounts(path), { apple: 7, pear: 8 }));
        assert.ok(heard.length > 0);
        await second.stop();
        const taken = /^Refused: there is a stage named "(persist|audit)" already: give yours another name$/;
        const persist = defineStage({ name: 'persist', log: requestLog, async handle() {} });
        await assert.rejects(ground.start({}, { stages: [persist] }), taken);
        await assert.rejects(ground.start({}, { stages: [auditStage(path), auditStage(path)] }), taken);
      } finally {
        await ground.close();
        rmSync(folder, { recursive: true, force: true });
      }
    });
  });
}

test('the example runs by itself: node examples/audit-stage.ts', { timeout: 110_000 }, async () => {
  const { environment, folder, close } = embeddedGround();
  const example = spawnDibs(['examples/audit-stage.ts'], { ...environment, AUDIT_FOLDER: folder });
  try {
    const url = await example.url();
    const client = createClient({ baseUrl: url });
    await client.coupons.create({ couponId: 'apple', name: 'apple', stock: 1 });
    assert.equal((await client.claim('apple', { userId: 'ann' }).outcome).outcome, 'issued');
    await until(() => example.out.includes('{ apple: 1 }'));
    assert.deepEqual(readCounts(join(folder, 'audit.json')), { apple: 1 });
    assert.deepEqual(await example.stop(), { code: 0, signal: null });
  } finally {
    await example.stop();
    await close();
  }
});
