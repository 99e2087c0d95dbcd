import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Admin } from '@platformatic/kafka';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { environmentOf, startServices } from '../scripts/services.ts';
import { partitionState } from '../torture/brokers.ts';
import { eventually } from './support/sale.ts';

const skip = process.env.DIBS_TEST_SERVICES === 'none' && 'no services (DIBS_TEST_SERVICES=none)';

async function rowsIn(databaseUrl: string): Promise<number> {
  const client = new Client(databaseUrl);
  await client.connect();
  const { rows } = await client.query('SELECT count(*)::int AS count FROM kept');
  await client.end();
  return rows[0].count;
}

test('a set of its own survives the death of each server', { skip }, async () => {
  await using services = await startServices({ own: true });
  const { redis, postgres, kafka } = services;
  assert(redis && postgres && kafka);

  const client = new Client(services.databaseUrl);
  client.on('error', () => {});
  await client.connect();
  await client.query('CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)');
  const pids = [redis.pid, postgres.pid, kafka.pid];
  await Promise.all([redis.kill(), postgres.kill(), kafka.kill()]);
  assert.deepEqual([redis.pid, postgres.pid, kafka.pid], [0, 0, 0]);

  await Promise.all([redis.start(), postgres.start(), kafka.start()]);
  assert(![redis.pid, postgres.pid, kafka.pid].some(pid => pid === 0 || pids.includes(pid)));
  assert.equal(await rowsIn(services.databaseUrl), 1);
});

test('three brokers are one cluster, which goes on without the leader', { skip }, async () => {
  await using services = await startServices({ own: true, only: ['kafka'], brokers: 3 });
  const { kafkaBrokers, brokers = [] } = services;
  assert.equal(brokers.length, 3);
  const admin = new Admin({ clientId: 'test', bootstrapBrokers: kafkaBrokers.split(',') });
  admin.on('error', () => {});
  await admin.createTopics({ topics: ['kept'], partitions: 1, replicas: 3 });
  const state = () => partitionState(kafkaBrokers, 'kept', 0);
  const copied = (what: string) => eventually(what, state, ({ isr }) => isr.length === 3, 60_000);
  const { leader } = await copied('all three have it');
  await brokers[leader - 1]?.kill();
  await eventually('another leads', state, now => now.leader > 0 && now.leader !== leader, 60_000);
  await brokers[leader - 1]?.start();
  await copied('the one that died has caught up');
  await admin.close();
});

test('a paused server keeps its connections and answers when it is resumed', { skip }, async () => {
  await using services = await startServices({ own: true, only: ['redis'] });
  assert.deepEqual(Object.keys(environmentOf(services)), ['DIBS_REDIS_URL']);
  const client = new Redis(services.redisUrl, { disconnectTimeout: 50 });
  await client.set('kept', '1');
  services.redis?.pause();
  const answer = client.get('kept');
  services.redis?.resume();
  assert.equal(await answer, '1');
  client.disconnect();
});

test('a folder in use is refused, and is free again when its owner was killed', { skip }, async t => {
  const dir = join(import.meta.dirname, '..', '.services', `claimed-${process.pid}`);
  t.after(() => rm(dir, { recursive: true, force: true }));
  const script = `
    const { startServices } = await import('../scripts/services.ts');
    await startServices({ own: true, only: ['redis'], dir: ${JSON.stringify(dir)} });
    console.log('started');
    setInterval(() => {}, 1000);`;
  const other = spawn(process.execPath, ['--input-type=module', '-e', script], {
    cwd: import.meta.dirname,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(other.stdout, 'data');
  await assert.rejects(startServices({ own: true, only: ['redis'], dir }), /is in use by process/);

  other.kill('SIGKILL');
  await once(other, 'exit');
  const services = await startServices({ own: true, only: ['redis'], dir });
  await services.stop();
  assert(!existsSync(join(dir, 'services.json')));
});
