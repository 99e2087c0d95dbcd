/** Starting: what is made, what is refused with one sentence, and what is there again afterwards. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { freePort } from '../scripts/services/port.ts';
import { sentenceOf } from '../src/cli/connect.ts';
import { createClient } from '../src/client/index.ts';
import { logNames, requestLog } from '../src/entry.ts';
import { NotAccepted, OutcomeUnknown, Refused } from '../src/errors.ts';
import { secretLengthMin } from '../src/limits.ts';
import { assertProblem, call } from './support/calls.ts';
import { type Child, spawnDibs } from './support/child.ts';
import { clusterGround, embeddedGround, type Flags, noCluster } from './support/profiles.ts';
import { ended } from './support/road.ts';
import { until } from './support/until.ts';

const main = 'src/cli/main.ts';
const noFull = !existsSync('/dev/full') && 'there is no /dev/full here';
const noProc = !existsSync('/proc/self') && 'there is no /proc here';
const children: Child[] = [];
after(() => Promise.all(children.map(child => child.stop())));

function spawn(args: string[], environment: Record<string, string>): Child {
  const child = spawnDibs([main, ...args], environment);
  children.push(child);
  return child;
}

/** One sentence, for people, with nothing secret in it. */
const refusal = (wanted: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Refused, String(error));
  assert.match(error.message, wanted);
  assert.ok(!error.message.includes('\n'));
  return true;
};

describe('start, embedded', { timeout: 60_000 }, () => {
  const grounds: ReturnType<typeof embeddedGround>[] = [];
  after(() => Promise.all(grounds.map(ground => ground.close())));
  const fresh = (flags: Flags = {}) => {
    const ground = embeddedGround(flags);
    grounds.push(ground);
    return ground;
  };

  test('dibs config shows what the process would run with, and no secret', async () => {
    const environment = { DIBS_SECRET: 'geheim geheim geheim', DIBS_REDIS_URL: 'redis://u:geheim@h:1' };
    const child = spawn(['config', '--port', '8099'], environment);
    assert.equal((await child.ended).code, 0);
    assert.match(child.out, /--port +8099 +flag/);
    assert.match(child.out, /--secret +\*+ +environment/);
    assert.ok(!child.out.includes('geheim'));
  });

  test('--sample opens a coupon on an empty store, and leaves a store that is not alone', async () => {
    const { environment } = fresh();
    const first = spawn(['serve', '--sample'], environment);
    const url = await first.url();
    await until(() => first.out.includes('/docs'));
    assert.match(first.out, /npx dibs rush welcome/);
    const { state, stock } = await createClient({ baseUrl: url }).coupons.get('welcome');
    assert.deepEqual([stock, state], [1_000, 'open']);
    assert.deepEqual(await first.stop(), { code: 0, signal: null });
    const second = spawn(['serve', '--sample'], environment);
    await second.url();
    await until(() => second.out.includes('/docs'));
    assert.ok(!second.out.includes('1,000 units'));
    assert.deepEqual(await second.stop(), { code: 0, signal: null });
  });

  test('--sample that is not taken is said in one sentence, and the server goes on', async () => {
    const { environment, folder } = fresh();
    const kill = join(folder, 'kill');
    writeFileSync(kill, 'embedded:fills-request');
    const preload = ['--import', './test/support/kill-at-commit.ts'];
    const child = spawnDibs([...preload, main, 'serve', '--sample'], { ...environment, DIBS_TEST_KILL_FILE: kill });
    children.push(child);
    await child.url();
    await until(() => child.out.includes('--sample opened nothing: '));
    assert.deepEqual(await child.stop(), { code: 0, signal: null });
  });

  test('a stop that is asked for during the start ends the process', async () => {
    // It takes connections and says nothing, so that the start waits.
    const silent = createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    const child = spawn(['serve'], {
      ...{ DIBS_PROFILE: 'cluster', DIBS_SECRET: 'the secret of the tests', DIBS_AUTH: 'none' },
      DIBS_KAFKA_BROKERS: `127.0.0.1:${port}`,
    });
    const [socket] = (await once(silent, 'connection')) as [Socket];
    assert.deepEqual(await child.stop(), { code: 143, signal: null });
    socket.destroy();
    silent.close();
  });

  test('a write that the start needs and that is refused is one sentence', () => {
    for (const Known of [NotAccepted, OutcomeUnknown]) assert.equal(sentenceOf(new Known('full'), ''), 'full');
  });

  test('a second process on the same file is refused naming the first, which is not disturbed', async () => {
    const { environment, start } = fresh();
    const first = spawn(['serve'], environment);
    const url = await first.url();
    const second = spawn(['serve'], environment);
    assert.deepEqual(await second.ended, { code: 2, signal: null });
    assert.match(second.err, new RegExp(`^dibs: .*is served by process ${first.pid} .*stop that one.*\n$`));
    await assert.rejects(start(), refusal(new RegExp(`is served by process ${first.pid} `)));
    assert.equal((await call(url, 'GET /readyz')).status, 200);
    process.kill(first.pid, 'SIGKILL');
    await first.ended;
    // The lock went with the process.
    const third = await start();
    assert.equal((await call(third.url, 'GET /readyz')).status, 200);
  });

  test('without a secret one is made and kept for its owner only, and tasks stay answerable', async () => {
    const { folder, start } = fresh({ secret: '' });
    const first = await start();
    const path = join(folder, 'secret');
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const client = createClient({ baseUrl: first.url });
    await client.coupons.create({ couponId: 'kept', name: 'kept', stock: 1 });
    const { taskId } = await client.claim('kept', { userId: 'ann' }).outcome;
    await first.stop();
    const second = await start();
    const task = await createClient({ baseUrl: second.url }).task(taskId as string);
    assert.equal(task.state === 'done' && task.outcome, 'issued');
    await second.stop();

    const secret = readFileSync(path, 'utf8');
    writeFileSync(path, 'another secret of the tests\n');
    await assert.rejects(start(), refusal(/DIBS_SECRET/));
    rmSync(path);
    await assert.rejects(start(), refusal(/DIBS_SECRET/), 'one that is lost is not made anew in silence');
    writeFileSync(path, '');
    await assert.rejects(start(), refusal(/secret is cut short: bring it back, or set DIBS_SECRET/));
    writeFileSync(path, secret);
    await (await start()).stop();
  });

  test('a secret that was cut short before there was a file is made anew, by one of two that start at once', async () => {
    const { environment, folder } = fresh({ secret: '' });
    writeFileSync(join(folder, 'secret'), 'half');
    const both = [spawn(['serve'], environment), spawn(['serve'], environment)];
    const won = await Promise.any(both.map(async child => ({ child, url: await child.url() })));
    const [lost] = both.filter(child => child !== won.child);
    assert.equal((await (lost as Child).ended).code, 2);
    const secret = readFileSync(join(folder, 'secret'), 'utf8');
    assert.ok(secret.trim().length >= secretLengthMin);
    await won.child.stop();
    const again = spawn(['serve'], environment);
    assert.equal((await call(await again.url(), 'GET /readyz')).status, 200);
    assert.equal(readFileSync(join(folder, 'secret'), 'utf8'), secret);
  });

  test('a full disk leaves no half of a secret behind', { skip: noFull }, async () => {
    const { folder, start } = fresh({ secret: '' });
    const written = join(folder, 'secret.new');
    symlinkSync('/dev/full', written);
    await assert.rejects(start(), refusal(/secret cannot be written \(ENOSPC\): make room, or give a --data/));
    assert.ok(!existsSync(join(folder, 'secret')));
    rmSync(written);
    await (await start()).stop();
  });

  test('a folder that cannot be made or written is refused in one sentence', { skip: noProc }, async () => {
    for (const data of ['/proc/x', '/proc/x/y', '/proc']) {
      const child = spawn(['serve', '--data', data], { DIBS_PORT: '0' });
      assert.equal((await child.ended).code, 2, data);
      assert.match(child.err, /^dibs: [^\n]*\/proc[^\n]* (cannot be made|cannot be opened)[^\n]*: give [^\n]*\n$/);
    }
  });

  test('a file that is not ours, or a folder that cannot be one, is refused in one sentence', async () => {
    const { folder, start } = fresh();
    writeFileSync(join(folder, 'dibs.db'), 'this is a text, and longer than the head of any database '.repeat(40));
    await assert.rejects(start(), refusal(/dibs\.db/));
    const aFile = join(folder, 'a-file');
    writeFileSync(aFile, '');
    await assert.rejects(start({ data: aFile }), refusal(/a-file/));
    mkdirSync(join(folder, 'other', 'dibs.db'), { recursive: true });
    await assert.rejects(start({ data: join(folder, 'other') }), refusal(/dibs\.db/));
  });

  test('a port that is taken is refused, and what was started is stopped again', async () => {
    const [ground, other] = [fresh(), fresh()];
    const { url } = await ground.start();
    const { port } = new URL(url);
    await assert.rejects(other.start({ port }), refusal(new RegExp(`--port ${port} .*in use`)));
    await (await other.start()).stop();
  });
});

describe('start, cluster', { skip: noCluster, timeout: 90_000 }, () => {
  test('two processes that start at once make everything once, and work together', async () => {
    const ground = await clusterGround();
    try {
      const both = [spawn(['serve', '--sample'], ground.environment), spawn(['serve', '--sample'], ground.environment)];
      const [one, two] = await Promise.all(both.map(child => child.url()));
      await Promise.all(both.map(child => until(() => child.out.includes('/docs'))));
      const topics = (await ground.kafka.listTopics()).filter(name => name.startsWith(`${ground.namespace}.`));
      assert.deepEqual(topics.sort(), logNames.map(log => `${ground.namespace}.${log}`).sort());
      const [a, b] = [createClient({ baseUrl: one as string }), createClient({ baseUrl: two as string })];
      assert.deepEqual(
        (await a.coupons.list()).map(({ couponId }) => couponId),
        ['welcome'],
      );
      const accepted = await call(one as string, 'POST /coupons/welcome/issue', { headers: { 'x-user-id': 'ann' } });
      const task = await ended(b, accepted.body.taskId);
      assert.deepEqual([task.outcome, 'slot' in task && task.slot], ['issued', 1]);
      for (const child of both) assert.deepEqual(await child.stop(), { code: 0, signal: null });
    } finally {
      await ground.close();
    }
  });

  test('npm run cluster goes on when one of its instances is killed, and ends when all have', async () => {
    const ground = await clusterGround();
    try {
      const [one, two] = [await freePort(), await freePort()];
      const cluster = spawnDibs(['scripts/cluster.ts', '--ports', `${one},${two}`], ground.environment);
      children.push(cluster);
      const killed = await until(() => Number(/kill -9 (\d+)/.exec(cluster.out)?.[1]), 60_000);
      process.kill(killed, 'SIGKILL');
      await until(() => cluster.out.includes(`the instance at http://127.0.0.1:${two} has ended (SIGKILL)\n`));
      assert.equal((await call(`http://127.0.0.1:${one}`, 'GET /readyz')).status, 200);
      assert.deepEqual(await cluster.stop(), { code: 0, signal: null });
      assert.ok(!cluster.out.includes(`${one} has ended`), 'what was asked to stop is no news');
    } finally {
      await ground.close();
    }
  });

  test('what does not belong together is refused: another secret, partitions, log, or ledger', async () => {
    const ground = await clusterGround({ partitions: '1' });
    try {
      const first = await ground.start();
      const client = createClient({ baseUrl: first.url });
      await client.coupons.create({ couponId: 'mine', name: 'mine', stock: 1 });
      assert.equal((await client.claim('mine', { userId: 'ann' }).outcome).outcome, 'issued');
      await first.stop();

      await assert.rejects(
        ground.start({ secret: 'another secret, long enough' }),
        refusal(/another secret.*DIBS_SECRET/),
      );
      await assert.rejects(ground.start({ partitions: '2' }), refusal(/has 1 partitions but 2 are configured/));
      await (await ground.start()).stop();

      const topic = `${ground.namespace}.${requestLog}`;
      await ground.kafka.deleteTopics({ topics: [topic] });
      await until(async () => !(await ground.kafka.listTopics()).includes(topic));
      await assert.rejects(ground.start(), refusal(/log differs: .*another log.*DIBS_KAFKA_BROKERS/), 'made anew');

      // An empty store takes the new log, which has a ledger of its own; the changes remember the old one.
      await ground.sql.query(`drop schema dibs_${ground.namespace} cascade`);
      const unready = async (why: RegExp) => {
        const app = await ground.start();
        const answer = await until(async () => {
          const ready = await call(app.url, 'GET /readyz');
          assert.match(`${ready.status} ${ready.body.detail}`, why);
          return ready;
        });
        assertProblem(answer, '503 NOT_READY');
        await app.stop();
      };
      await unready(/^503 persist stopped: the log was cut or made anew: .*coupon-issued partition 0/);
      assert.deepEqual(await ground.rows('mine'), [], 'a winner of the old log is not mixed into the new one');
    } finally {
      await ground.close();
    }
  });

  test('a start that the topics refuse, and a dump of what is not there, make and migrate nothing', async () => {
    const ground = await clusterGround({ partitions: '1' });
    const { sql, kafka, namespace } = ground;
    const schema = `dibs_${namespace}`;
    const isThere = async () => (await sql.query('select 1 from pg_namespace where nspname = $1', [schema])).rowCount;
    const ours = async () => (await kafka.listTopics()).filter(name => name.startsWith(`${namespace}.`));
    const dumped = async (wanted: RegExp) => {
      const child = spawn(['dump', join(tmpdir(), namespace)], ground.environment);
      assert.equal((await child.ended).code, 2);
      assert.match(child.err, wanted);
    };
    try {
      await dumped(/^dibs: There is no topic [^\n]*: name the brokers of a server with DIBS_KAFKA_BROKERS\.\n$/);
      assert.deepEqual([await ours(), await isThere()], [[], 0]);
      await kafka.createTopics({ topics: logNames.map(log => `${namespace}.${log}`), partitions: 3, replicas: 1 });
      await until(async () => (await ours()).length === logNames.length);
      await assert.rejects(ground.start(), refusal(/has 3 partitions but 1 are configured/));
      assert.equal(await isThere(), 0);

      await kafka.deleteTopics({ topics: await ours() });
      await until(async () => (await ours()).length === 0);
      await (await ground.start()).stop();
      await sql.query(`update ${schema}.meta set value = '1' where name = 'schema_version'`);
      await dumped(/^dibs: schema [^\n]* has version 1, this build needs \d+: use the build that serves it\n$/);
      await sql.query(`drop schema ${schema} cascade`);
      await dumped(/^dibs: there is no dibs in schema [^\n]*: name the database of a server with DIBS_DATABASE_URL\n$/);
      assert.equal(await isThere(), 0);
    } finally {
      await ground.close();
    }
  });

  test('a server that refuses us is named in one sentence, without the password', async () => {
    const ground = await clusterGround();
    try {
      const databaseUrl = Object.assign(new URL(ground.flags.databaseUrl as string), {
        pathname: 'no_such_database',
      }).href;
      await assert.rejects(
        ground.start({ databaseUrl }),
        refusal(/DIBS_DATABASE_URL: Postgres refuses us .*no_such_database/),
      );
    } finally {
      await ground.close();
    }
  });
});
