/** Commands and the client know tokens and addresses with passwords, and do not repeat them when something fails. */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import { createClient } from '../../src/client/index.ts';
import { spawnDibs } from '../support/child.ts';
import { problem, startFake } from '../support/fake-server.ts';
import { formsOf } from '../support/unsaid.ts';

/** Stands in each token and password. */
const hidden = 'geheim';
const token = `eyJhbGciOiJIUzI1NiJ9.${hidden}-claims.${hidden}-signature`;

function assertSilent(said: string, where: string): void {
  for (const form of formsOf(hidden)) assert.ok(!said.includes(form), `${where} says ${said}`);
}

async function refusing(t: TestContext, status: number, code: string) {
  const fake = await startFake();
  t.after(() => fake.close());
  fake.intercept = (_, response) => problem(response, status, code);
  return fake;
}

const commands = [
  ['claim', 'c'],
  ['rush', 'c', '--users', '3', '--timeout', '5'],
  ['verify'],
  ['lag'],
  ['coupon', 'list'],
  ['coupon', 'create', 'c', '--stock', '1'],
  ['coupon', 'close', 'c'],
  ['dead-letters', 'list'],
  ['dead-letters', 'redrive'],
];

describe('a command says neither token nor password', { timeout: 120_000 }, () => {
  const dibs = async (args: readonly string[], environment: Record<string, string> = {}) => {
    const child = spawnDibs(['src/cli/main.ts', ...args], environment);
    const { code } = await child.ended;
    assertSilent(child.out + child.err, args.slice(0, 2).join(' '));
    return { code, err: child.err, said: child.out + child.err };
  };
  /** A few at once: each is a process. */
  const each = async (run: (command: readonly string[]) => Promise<void>) => {
    const left = [...commands];
    const next = async (): Promise<void> => {
      for (let command = left.shift(); command; command = left.shift()) await run(command);
    };
    await Promise.all([next(), next(), next()]);
  };

  test('when the token is refused', async t => {
    const fake = await refusing(t, 401, 'UNAUTHENTICATED');
    await each(async command => {
      const { code, said } = await dibs([...command, '--url', fake.url, '--token', token]);
      assert.match(said, /^(dibs|refused): .*UNAUTHENTICATED/m, command.join(' '));
      assert.equal(code, 1);
    });
    assert.ok(fake.seen.length >= commands.length);
  });
  test('when nothing answers', () =>
    each(async command => {
      const { err } = await dibs(command, { DIBS_URL: 'http://127.0.0.1:1', DIBS_TOKEN: token });
      assert.match(err, /^dibs: .*127\.0\.0\.1:1/m, command.join(' '));
    }));
  test('when the address has it: as user and password, in its query, or behind a #', async () => {
    const addresses = [`user:${hidden}@h`, `${hidden}@h`, `127.0.0.1:1/?access_token=${hidden}-token`, `h/#${hidden}`];
    await each(async command => {
      const address = `http://${addresses[commands.indexOf(command as string[]) % addresses.length]}`;
      const { code, err } = await dibs([...command, '--url', address, '--token', token]);
      assert.deepEqual([code, /^dibs: --url \(DIBS_URL\) is no address/.test(err)], [2, true], err);
    });
    for (const address of addresses) {
      assert.equal((await dibs(['lag'], { DIBS_URL: `http://${address}` })).code, 2);
      const targets = ['--target', `a=http://${address}`, '--target', 'b=http://127.0.0.1:1'];
      assert.equal((await dibs(['compare', ...targets])).code, 2);
    }
  });
  test('when it stands where no such thing is known', async () => {
    const misplaced = [
      [`--token=${token}`, 'lag'],
      ['lag', `--tokn=${token}`],
      ['lag', `--tokn=${hidden}'s`],
      ['lag', token],
      ['lag', `-t=${token}`],
    ];
    for (const args of misplaced) {
      const { code, err } = await dibs(args);
      assert.deepEqual([code, /^dibs: (unknown option|too many arguments)/.test(err)], [2, true], err);
    }
  });
});

test('errors of the client do not have the token in them', async t => {
  const fakes = [await refusing(t, 401, 'UNAUTHENTICATED'), await refusing(t, 403, 'FORBIDDEN')];
  let rejected = 0;
  for (const baseUrl of [...fakes.map(({ url }) => url), 'http://127.0.0.1:1']) {
    for (const given of [token, `${token}\n`]) {
      const client = createClient({ baseUrl, token: given, timing: { backoffMsMin: 1, backoffMsMax: 2 } });
      const { coupons } = client;
      const calls = [
        ...[
          client.lag(),
          client.verify(),
          client.deadLetters(),
          client.redrive(),
          client.myCoupons(),
          client.task('t'),
        ],
        ...[coupons.list(), coupons.get('c'), coupons.create({ couponId: 'c', name: 'C', stock: 1 })],
        ...[coupons.addStock('c', 1), coupons.close('c'), coupons.stats('c'), client.redeem('c.1')],
        client.claim('c', { signal: AbortSignal.timeout(1_000) }).outcome,
      ];
      for (const settled of await Promise.allSettled<unknown>(calls)) {
        assertSilent(inspect(settled, { depth: 9, showHidden: true }), baseUrl);
        if (settled.status === 'rejected') rejected++;
      }
    }
  }
  assert.ok(rejected >= 3 * 2 * 13);
});

test('the client refuses an address that has a secret, and does not repeat it', () => {
  for (const address of [`user:${hidden}@h`, `${hidden}@h`, `h/?access_token=${hidden}`, `h/#${hidden}`])
    assert.throws(() => createClient({ baseUrl: `http://${address}` }), /^TypeError: baseUrl must have no user/);
});
