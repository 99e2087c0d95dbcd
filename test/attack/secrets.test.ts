/** Secrets, tokens and task ids are looked for in everything that is said: answers, logs, refusals, pages. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:net';
import { suite, type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import { SignJWT } from 'jose';
import { sentenceOf } from '../../src/cli/connect.ts';
import { describeConfig, loadConfig } from '../../src/config.ts';
import type { CouponStore, LedgerReader } from '../../src/ports.ts';
import { call, openStream } from '../support/calls.ts';
import { spawnDibs } from '../support/child.ts';
import { startMemoryApp } from '../support/memory-app.ts';
import { embeddedGround } from '../support/profiles.ts';
import { formsOf } from '../support/unsaid.ts';

/** Stands in every secret. */
const word = 'geheim';
const secrets = {
  secret: `${word} sealing task ids`,
  jwtSecret: `${word} signing tokens, 32 bytes or more`,
  redisUrl: `redis://dibs:${word}-redis@127.0.0.1:1`,
  databaseUrl: `postgres://dibs:${word}-postgres@127.0.0.1:1/dibs`,
};
const cluster = { profile: 'cluster', auth: 'jwt', kafkaBrokers: '127.0.0.1:1', ...secrets };

function assertSilent(said: string, where: string, ...more: string[]): void {
  for (const form of [...formsOf(word), ...more]) {
    const at = said.indexOf(form);
    assert.equal(at, -1, `${where} says ${said.slice(Math.max(0, at - 80), at + 80)}`);
  }
}

suite('secrets in settings', () => {
  test('every way of writing an address wrongly is shown without its password', () => {
    const addresses = [
      `u:${word}@h:1/db`,
      `u:${word}@h:99999/db`,
      `u:1#${word}@h/db`,
      `u:1?${word}@h/db`,
      `u:1/${word}@h/db`,
      `:${word}@h`,
      `h/db?password=${word}`,
      `h/db?PASSWORD=${word}&password=${word}`,
      `h/db?sslpassword=${word}&access_token=${word}&client_secret=${word}`,
    ];
    const schemes = ['redis', 'rediss', 'postgres', 'postgresql', 'https', 'http', 'mysql', 'kafka', ''];
    let tried = 0;
    for (const setting of ['redisUrl', 'databaseUrl', 'jwksUrl', 'kafkaBrokers']) {
      for (const scheme of schemes) {
        for (const between of ['://', ':/', ':', '//', '']) {
          for (const address of addresses) {
            // `https:word@h` has a user, and no password.
            if (between === '' && address.startsWith(':')) continue;
            const flags: Record<string, string> = { ...cluster, [setting]: `${scheme}${between}${address}` };
            if (setting === 'jwksUrl') delete flags.jwtSecret;
            for (const tell of [loadConfig, describeConfig]) {
              try {
                const told = tell({ flags });
                if (tell === describeConfig) assertSilent(JSON.stringify(told), `${setting} ${flags[setting]}`);
              } catch (error) {
                assertSilent((error as Error).message, `${setting} ${flags[setting]}`);
              }
              tried++;
            }
          }
        }
      }
    }
    assert.ok(tried > 3_000);
  });

  test('dibs config, as text and as JSON', async () => {
    const env = Object.fromEntries(
      Object.entries({ ...cluster, jwksUrl: '' }).map(([name, value]) => [
        `DIBS_${name.replace(/[A-Z]/g, letter => `_${letter}`).toUpperCase()}`,
        value,
      ]),
    );
    const jwks = { ...env, DIBS_JWT_SECRET: '', DIBS_JWKS_URL: `https://reader:${word}@keys.example/set` };
    const tells = [
      [['config'], env],
      [['config', '--json'], env],
      [['config', '--json'], jwks],
    ] as const;
    for (const [args, environment] of tells) {
      const child = spawnDibs(['src/cli/main.ts', ...args], environment);
      assert.equal((await child.ended).code, 0, child.err);
      assert.match(child.out, /\*{8}/);
      assertSilent(child.out + child.err, `dibs ${args.join(' ')}`);
    }
  });
});

/** A server that says this to everybody, and hangs up when it says nothing. */
async function saying(t: TestContext, bytes: string): Promise<number> {
  const server: Server = createServer(socket => {
    socket.on('error', () => {});
    socket.on('data', () => (bytes === '' ? socket.destroy() : socket.write(bytes)));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

const fault = 'SERROR\0C28P01\0Mpassword authentication failed for user "dibs"\0\0';
const pgError = `E${String.fromCharCode(0, 0, 0, fault.length + 4)}${fault}`;

suite('secrets when a server refuses us', () => {
  test('a start that Postgres refuses is one sentence without the password', async t => {
    const port = await saying(t, pgError);
    const environment = {
      ...{ DIBS_PROFILE: 'scheduler', DIBS_AUTH: 'jwt', DIBS_PORT: '0', DIBS_LOG_LEVEL: 'debug' },
      ...{ DIBS_SECRET: secrets.secret, DIBS_JWT_SECRET: secrets.jwtSecret },
      ...{ DIBS_DATABASE_URL: secrets.databaseUrl.replace(':1/', `:${port}/`), DIBS_REDIS_URL: secrets.redisUrl },
    };
    const child = spawnDibs(['src/cli/main.ts', 'serve'], environment);
    t.after(() => child.stop());
    assert.equal((await child.ended).code, 2);
    assert.match(child.err, /^dibs: DIBS_DATABASE_URL: Postgres refuses us [^\n]*\n$/);
    assertSilent(child.err + child.out, 'the refusal');
  });

  test('one that Postgres does not answer ends with a sentence, not with the insides of an error', async t => {
    const { migrate } = await import('../../src/postgres/migrate.ts');
    for (const bytes of ['', 'HTTP/1.1 400 Bad Request\r\n\r\n']) {
      const url = secrets.databaseUrl.replace(':1/', `:${await saying(t, bytes)}/`);
      const said: string[] = [];
      const error = await migrate(url, 'dibs', (_level, message) => void said.push(message), { msMax: 0 }).catch(
        e => e,
      );
      const sentence = sentenceOf(error, '');
      assert.equal(typeof sentence, 'string', String(error));
      assertSilent(`${said} ${sentence} ${inspect(error, { depth: 9 })}`, JSON.stringify(bytes));
    }
  });

  test('Redis alone: what it answers to the password stays without it', async t => {
    const { createRedisBoard } = await import('../../src/redis/board.ts');
    const said: string[] = [];
    for (const bytes of ['', '-WRONGPASS no\r\n', '-ERR what is AUTH\r\n', '+OK\r\n-ERR no\r\n', ':1\r\n', '*1\r\n']) {
      const url = secrets.redisUrl.replace(':1', `:${await saying(t, bytes)}`);
      const log = (level: string, message: string) => void said.push(`${level} ${message}`);
      const board = createRedisBoard({ url, prefix: 'x', commandMs: 200, log });
      await board.read(0, [1]).then(
        found => said.push(JSON.stringify(found ?? null)),
        error => said.push(String((error as Error).message)),
      );
      await board.close();
    }
    assert.ok(said.length >= 6);
    assertSilent(said.join('\n'), 'Redis');
  });
});

suite('secrets while it serves', () => {
  const sign = (sub: string, claims: object = {}, key = secrets.jwtSecret) =>
    new SignJWT({ ...claims }).setProtectedHeader({ alg: 'HS256' }).setSubject(sub).sign(Buffer.from(key));

  test('answers, pages and the log of a process that was asked everything wrongly', async t => {
    const { secret, jwtSecret } = secrets;
    const ground = embeddedGround({ secret, auth: 'jwt', jwtSecret, logLevel: 'debug' });
    t.after(() => ground.close());
    const child = spawnDibs(['src/cli/main.ts', 'serve'], ground.environment);
    t.after(() => child.stop());
    const url = await child.url();
    const [admin, user, wrong] = [await sign('boss', { role: 'admin' }), await sign('ann'), await sign('ann', {}, 'x')];
    const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
    const body = { couponId: 'c', name: 'C', stock: 1 };
    assert.equal((await call(url, 'POST /coupons', { ...bearer(admin), body })).status, 201);
    const accepted = await call(url, 'POST /coupons/c/issue', bearer(user));
    assert.equal(accepted.status, 202);
    const { taskId, links } = accepted.body;
    const stream = await openStream(url + links.events);
    while (await stream.next());
    const asked = [
      'GET /',
      'GET /metrics',
      'GET /openapi.json',
      'GET /docs/json',
      'GET /docs',
      'GET /healthz',
      'GET /readyz',
    ];
    asked.push(
      'GET /me/coupons',
      'GET /admin/lag',
      'GET /admin/verify',
      'POST /coupons',
      'GET /nowhere',
      'GET /coupons',
    );
    asked.push('GET /me/coupons?after=x', 'POST /coupons/c/issue', 'GET /admin/dead-letters', 'POST /coupons/c/close');
    const answers: string[] = [];
    for (const what of asked) {
      for (const token of [admin, user, wrong, `${user}x`, user.slice(0, -5), word]) {
        const { status, headers, body: told } = await call(url, what, bearer(token));
        answers.push(`${what} ${status} ${JSON.stringify([...headers])} ${JSON.stringify(told)}`);
      }
    }
    for (const token of [admin, user, wrong]) {
      const signature = token.split('.')[2] as string;
      for (const answer of answers) assertSilent(answer, 'an answer', signature);
    }
    await child.stop();
    assertSilent(child.out + child.err, 'the log', taskId, ...[admin, user, wrong].map(t => t.split('.')[2] as string));
  });

  test('a defect is told without the address that met it: it may be a capability', async t => {
    const broken = () => Promise.reject(new TypeError('broken'));
    const app = await startMemoryApp({
      secret: secrets.secret,
      tamper: {
        ledger: ledger =>
          new Proxy<LedgerReader>(ledger, {
            get: (of, name) => (name === 'read' ? broken : Reflect.get(of, name).bind(of)),
          }),
        store: store =>
          new Proxy<CouponStore>(store, {
            get: (of, name) => (name === 'read' || name === 'userCoupons' ? broken : Reflect.get(of, name).bind(of)),
          }),
      },
    });
    t.after(() => app.stop());
    const key = '0123456789abcdef';
    const taskId = app.sealer.seal({ couponId: 'c', userId: 'ann', partition: 0, offset: 1, key } as never);
    const answer = await call(app.url, `GET /tasks/${taskId}`);
    assert.equal(answer.status, 500);
    const after = Buffer.from('1790000000000 none').toString('base64url');
    assert.equal(
      (await call(app.url, `GET /me/coupons?after=${after}`, { headers: { 'x-user-id': 'ann' } })).status,
      500,
    );
    assert.equal(app.said.filter(({ level }) => level === 'error').length, 2);
    assertSilent(JSON.stringify([app.said, answer.body]), 'a defect', taskId, after);
  });
});
