import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Config, describeConfig, loadConfig, settings } from '../src/config.ts';
import { Refused } from '../src/errors.ts';

const longSecret = 'a secret of thirty-two bytes or so';
const cluster = { profile: 'cluster', secret: 'sixteen characters', auth: 'none' };

const scheduler = { ...cluster, profile: 'scheduler' };

describe('loadConfig', () => {
  test('takes the flag, then the environment, then the default', () => {
    const env = { DIBS_PORT: '8001', DIBS_HOST: 'localhost', DIBS_JWT_SECRET: longSecret };
    const config = loadConfig({ flags: { port: '8002' }, env });
    assert.deepEqual([config.port, config.host, config.data], [8002, 'localhost', './data']);
    assert.deepEqual([config.profile, config.auth, config.secret], ['embedded', { kind: 'none' }, undefined]);
    assert.deepEqual(config.roles, ['api', 'reserve', 'persist', 'stats']);
  });

  test('asks for tokens in the cluster profile unless told otherwise', () => {
    const { auth: _, ...flags } = cluster;
    const config = loadConfig({ flags: { ...flags, jwtSecret: longSecret, jwtAudience: 'dibs' } });
    const audience = { issuer: undefined, audience: 'dibs' };
    assert.deepEqual(config.auth, { kind: 'jwt', secret: longSecret, jwksUrl: undefined, ...audience });
    assert.equal(loadConfig({ flags: cluster }).auth.kind, 'none');
  });

  test('the scheduler profile has one queue, and takes 100 a second unless told otherwise', () => {
    const paceOf = ({ partitions, tickBatch, tickMs }: Config) => [partitions, tickBatch, tickMs];
    assert.deepEqual(paceOf(loadConfig({ flags: scheduler })), [1, 100, 1_000]);
    const flags = { ...scheduler, partitions: '1', tickBatch: '10', roles: 'api' };
    assert.deepEqual(paceOf(loadConfig({ flags, env: { DIBS_TICK_MS: '200' } })), [1, 10, 200]);
    loadConfig({ flags: { ...scheduler, roles: 'persist,reserve' } });
  });

  test('reads lists: roles once each, brokers with spaces', () => {
    const config = loadConfig({ flags: { ...cluster, roles: 'api, stats,api', kafkaBrokers: 'a:1, b:2' } });
    assert.deepEqual(
      [config.roles, config.kafkaBrokers],
      [
        ['api', 'stats'],
        ['a:1', 'b:2'],
      ],
    );
  });

  test('no auth is refused on an address that others can reach, unless insecure or without an api', () => {
    for (const host of ['127.0.0.1', '127.9.9.9', 'localhost', '::1', '[::1]']) loadConfig({ flags: { host } });
    for (const host of ['0.0.0.0', '::', '10.0.0.1', 'example.com', '127.0.0.1.example.com', 'localhost.example.com']) {
      assert.throws(() => loadConfig({ flags: { host } }), /^Refused: --host .*is not loopback.*--auth jwt/);
      loadConfig({ flags: { host, insecure: 'true' } });
      loadConfig({ flags: { host, auth: 'jwt', jwtSecret: longSecret } });
    }
    loadConfig({ flags: { ...cluster, host: '0.0.0.0', roles: 'reserve,persist' } });
  });

  const refused: [flags: Record<string, string>, sentence: RegExp][] = [
    [{ profile: 'both' }, /^--profile both \(DIBS_PROFILE\) is not one of embedded, scheduler, cluster$/],
    [{ port: '65536' }, /^--port 65536 \(DIBS_PORT\) is not a whole number from 0 to 65535$/],
    [{ port: '-1' }, /^--port -1 /],
    [{ port: '1e3' }, /^--port 1e3 /],
    [{ port: '' }, /^--port /],
    [{ roles: 'api,cook' }, /^--roles cook .* is not one of api, reserve, persist, stats$/],
    [{ roles: 'api' }, /^--roles api .*embedded profile, which is one process: leave it out$/],
    [{ profile: 'cluster' }, /^DIBS_SECRET is required in the cluster profile: set /],
    [{ secret: 'too short' }, /^--secret \(hidden\) .* needs at least 16 characters$/],
    [{ auth: 'basic' }, /^--auth basic .* is not one of none, jwt$/],
    [{ auth: 'jwt' }, /^--auth jwt needs either DIBS_JWT_SECRET or DIBS_JWKS_URL/],
    [{ auth: 'jwt', jwtSecret: longSecret, jwksUrl: 'https://x/y' }, /^--auth jwt needs either .* not both/],
    [{ auth: 'jwt', jwtSecret: 'short' }, /^--jwt-secret \(hidden\) .* needs at least 32 bytes/],
    [{ auth: 'jwt', jwksUrl: 'ftp://x' }, /^--jwks-url ftp:\/\/x.* must be a URL that begins with https:/],
    [{ ...cluster, kafkaBrokers: 'kafka' }, /^--kafka-brokers kafka .* must be host:port/],
    [{ ...cluster, kafkaBrokers: 'http://kafka:1' }, /^--kafka-brokers /],
    [{ ...cluster, kafkaBrokers: '' }, /^--kafka-brokers /],
    [{ ...cluster, redisUrl: 'http://u:geheim@x' }, /^--redis-url http:\/\/u:\*+@x\/ .* begins with redis:\/\/$/],
    [{ ...cluster, redisUrl: 'x' }, /^--redis-url /],
    [{ ...cluster, databaseUrl: 'mysql://x' }, /^--database-url .* begins with postgres:\/\/$/],
    [{ ...cluster, namespace: 'No!' }, /^--namespace No! .* must be at most 32 of a-z, 0-9 and _$/],
    [{ ...cluster, partitions: '0' }, /^--partitions 0 .* from 1 to 1000$/],
    [{ profile: 'scheduler' }, /^DIBS_SECRET is required in the scheduler profile: set /],
    [{ ...scheduler, partitions: '4' }, /^--partitions 4 .*scheduler profile, which has one: leave it out$/],
    [{ partitions: '4' }, /^--partitions 4 .*embedded profile, which has one: leave it out$/],
    [{ ...scheduler, roles: 'api,reserve' }, /^--roles api,reserve .*parts reserve and persist.*: give both$/],
    [{ ...scheduler, roles: 'stats' }, /^--roles stats .*leaves nothing to run in the scheduler profile.*: add api$/],
    [{ ...scheduler, tickBatch: '501' }, /^--tick-batch 501 .* from 1 to 500$/],
    [{ ...scheduler, tickMs: '0' }, /^--tick-ms 0 .* from 1 to 60000$/],
    [{ ...cluster, tickMs: '100' }, /^--tick-ms 100 \(DIBS_TICK_MS\) paces .* which cluster has not: leave it out$/],
    [{ tickBatch: '100' }, /^--tick-batch 100 .* which embedded has not: leave it out$/],
    [{ ...cluster, replication: '1', minInsync: '2' }, /^--min-insync 2 .* is more than --replication 1/],
    [{ ratePerUser: '0.5' }, /^--rate-per-user 0\.5 /],
    [{ ratePerAddress: 'many' }, /^--rate-per-address many /],
    [{ insecure: 'yes' }, /^--insecure yes .* is not one of true, false$/],
    [{ logLevel: 'loud' }, /^--log-level loud .* is not one of debug, info, warn, error, silent$/],
  ];
  for (const [flags, sentence] of refused) {
    test(`refuses ${JSON.stringify(flags)} in one sentence`, () => {
      assert.throws(
        () => loadConfig({ flags }),
        error => {
          assert.ok(error instanceof Refused, String(error));
          assert.match(error.message, sentence);
          assert.ok(!/\n|geheim/.test(error.message));
          return true;
        },
      );
    });
  }
});

describe('describeConfig', () => {
  test('says what is in force and from where, without secrets', () => {
    const flags = {
      ...cluster,
      redisUrl: 'redis://u:geheim@h:1',
      databaseUrl: 'postgres://u@h/db?password=geheim&sslmode=require',
      jwksUrl: 'https://login.example/keys',
      auth: 'jwt',
    };
    const described = describeConfig({ flags, env: { DIBS_PORT: '8001', DIBS_SECRET: 'also geheim' } });
    const shown = Object.fromEntries(described.map(({ flag, value, from }) => [flag, `${value} ${from}`]));
    assert.deepEqual(Object.keys(shown).length, Object.keys(settings).length);
    assert.equal(shown.port, '8001 environment');
    assert.equal(shown.host, '127.0.0.1 default');
    assert.equal(shown.secret, '******** flag');
    assert.equal(shown['jwt-secret'], ' default', 'one that is not set shows that it is not');
    assert.match(shown['redis-url'] ?? '', /^redis:\/\/u:\*+@h:1/);
    assert.ok(!JSON.stringify(described).includes('geheim'));
    assert.ok(!JSON.stringify(described).includes(cluster.secret));
  });

  test('says what each profile makes of what was not given', () => {
    const { auth: _, ...tokens } = { ...cluster, jwtSecret: longSecret };
    const of = (flags: Record<string, string>) => {
      const shown = Object.fromEntries(describeConfig({ flags }).map(({ flag, value }) => [flag, value]));
      return [shown.auth, shown.partitions, shown['jwt-secret'], shown.roles, shown.insecure];
    };
    const roles = 'api,reserve,persist,stats';
    assert.deepEqual(of({}), ['none', '1', '', roles, 'false']);
    assert.deepEqual(of({ ...tokens, profile: 'cluster' }), ['jwt', '4', '********', roles, 'false']);
    assert.deepEqual(of({ ...tokens, profile: 'scheduler' }), ['jwt', '1', '********', roles, 'false']);
    const worker = { ...tokens, auth: 'none', insecure: 'true', roles: 'persist' };
    assert.deepEqual(of(worker), ['none', '4', '', 'persist', 'true'], 'no token is asked for');
  });

  test('every setting has a flag and a variable of the same name', () => {
    for (const { env, flag } of Object.values(settings)) {
      assert.equal(env, `DIBS_${flag.toUpperCase().replaceAll('-', '_')}`);
    }
  });
});
