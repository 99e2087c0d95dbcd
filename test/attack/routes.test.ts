/** Every route, asked by everybody: generated from the server's own table, so that a new route cannot be forgotten. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { SignJWT } from 'jose';
import { type Asker, type Auth, askers, type Route, routes, withoutApi } from '../../attack/routes.ts';
import { type CouponId, userCouponIdOf } from '../../src/coupon.ts';
import { assertProblem, call } from '../support/calls.ts';
import { ended } from '../support/http-claims.ts';
import { type MemoryApp, startMemoryApp } from '../support/memory-app.ts';

const secret = 'a secret of the tests, long enough';

type Headers = Record<string, string>;
type Names = (asker: Asker) => Headers;

async function namesOf(auth: Auth): Promise<Names> {
  const names: Record<Asker, Headers> = { nobody: {}, owner: {}, stranger: {}, admin: {} };
  for (const asker of askers.filter(a => a !== 'nobody')) {
    const claims = asker === 'admin' ? { role: 'admin' } : {};
    const signing = new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setSubject(asker);
    names[asker] =
      auth === 'none'
        ? { 'x-user-id': asker }
        : // Who has a token may claim to be anybody besides: it says nothing.
          { authorization: `Bearer ${await signing.sign(Buffer.from(secret))}`, 'x-user-id': 'owner' };
  }
  // Neither does the header alone, where there are tokens.
  if (auth === 'jwt') names.nobody = { 'x-user-id': 'owner' };
  return asker => names[asker];
}

/** A coupon of its own for each call, held by the owner: what one call does is not seen by another. */
async function ground(app: MemoryApp, names: Names, couponId: string) {
  const made = { body: { couponId, name: 'Own', stock: 5 }, headers: names('admin') };
  assert.equal((await call(app.url, 'POST /coupons', made)).status, 201);
  const accepted = await call(app.url, `POST /coupons/${couponId}/issue`, { headers: names('owner') });
  const { body } = await ended(app, accepted);
  assert.equal(body.outcome, 'issued');
  return { couponId, taskId: accepted.body.taskId as string, userCouponId: userCouponIdOf(couponId, body.slot) };
}

/** What a stranger must not have changed. */
async function seen(app: MemoryApp, couponId: string) {
  const rows: unknown[] = [];
  for await (const some of app.store.rows(couponId as CouponId)) rows.push(...some);
  return { coupon: (await call(app.url, `GET /coupons/${couponId}`)).body, rows };
}

type Own = Awaited<ReturnType<typeof ground>>;

async function attempt(app: MemoryApp, names: Names, name: string, route: Route, asker: Asker, auth: Auth, own: Own) {
  const before = await seen(app, own.couponId);
  const path =
    name.replace(/:(\w+)/g, (_, param: keyof typeof own) => own[param]).replace('*', route.file ?? '*') +
    (route.query ?? '');
  const headers = names(asker);
  const answer = await call(app.url, path, route.body ? { headers, body: route.body } : { headers });
  const wanted = route.answers[auth][askers.indexOf(asker)];
  const what = `${auth}: ${asker} asks ${path}`;
  assert.equal(answer.status, wanted, `${what}: ${JSON.stringify(answer.body).slice(0, 300)}`);
  if (answer.status >= 400) {
    if (!name.startsWith('HEAD')) assertProblem(answer, `${answer.status} ${answer.body.code}`);
    assert.deepEqual(await seen(app, own.couponId), before, `${what}: it changed something`);
  }
  if (name === 'GET /me/coupons') {
    const owners = new Set(answer.body.items?.map((item: { userId: string }) => item.userId));
    assert.deepEqual(
      [...owners].filter(userId => userId !== asker),
      [],
      `${what}: another's coupons`,
    );
    if (asker === 'owner') assert.ok(JSON.stringify(answer.body).includes(own.userCouponId));
  }
}

/** HEAD is as GET. */
const asGet = (name: string): string => name.replace(/^HEAD /, 'GET ');

suite('every route, for every role and owner', () => {
  for (const auth of ['jwt', 'none'] as const) {
    test(`auth ${auth}`, async t => {
      const app = await startMemoryApp({
        settings: { auth: auth === 'jwt' ? { kind: 'jwt', secret } : { kind: 'none' } },
      });
      t.after(() => app.stop());
      const names = await namesOf(auth);
      const present = app.http.routes;
      assert.deepEqual(
        present.filter(name => !routes[asGet(name)]),
        [],
        'a route is not in attack/routes.ts: say there who may call it',
      );
      assert.deepEqual(
        Object.keys(routes).filter(name => !present.includes(name) && !present.includes(name.replace('GET', 'HEAD'))),
        [],
        'a route that is not there any more',
      );
      const shared = await ground(app, names, 'shared');
      const attempts: (() => Promise<void>)[] = [];
      for (const name of present) {
        for (const asker of askers) {
          const own = name.includes(':') ? await ground(app, names, `own-${attempts.length}`) : shared;
          attempts.push(() => attempt(app, names, name, routes[asGet(name)] as Route, asker, auth, own));
        }
      }
      await Promise.all(attempts.map(one => one()));
      assert.ok(attempts.length > 150, String(attempts.length));
      assert.deepEqual(
        app.said.filter(({ level }) => level === 'error'),
        [],
      );
    });
  }

  test('a process without the api role has none of the others', async t => {
    const app = await startMemoryApp({ settings: { api: false } });
    t.after(() => app.stop());
    const present = new Set(app.http.routes.map(asGet).filter(name => !name.startsWith('GET /docs')));
    assert.deepEqual([...present].sort(), [...withoutApi].sort());
    for (const name of Object.keys(routes).filter(name => !withoutApi.includes(name) && !name.includes('/docs'))) {
      const path = name.replace(/:\w+/g, 'x').replace('*', 'x');
      assertProblem(await call(app.url, path, { headers: { 'x-user-id': 'ann' } }), '404 NOT_FOUND');
    }
  });
});
