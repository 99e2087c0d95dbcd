/** Real Redis, Postgres and Kafka for this run, on this machine, and what they count. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import pg from 'pg';
import { freePort } from '../scripts/services/port.ts';
import { find } from '../scripts/services/program.ts';
import { type ServerName, type Services, startServices } from '../scripts/services.ts';
import { treeUsed } from './cpu.ts';
import { type Dibs, secret } from './servers.ts';

/** Calls that reached the servers during some work. */
export interface Counted {
  produce: number;
  fetch: number;
  redis: number;
  sql: number;
  /** What the work took, s. */
  seconds: number;
}

export interface Cluster {
  services: Services;
  /** Flags of a dibs process of its own namespace. */
  flags(namespace: string): Record<string, string>;
  /** `dibs` was started with `inside`, and is the only one that works. */
  counted(dibs: Dibs, work: () => Promise<void>): Promise<Counted>;
  /** s of a core that each server has used. */
  used(): Record<ServerName, number>;
  stop(): Promise<void>;
}

/**
 * The broker's counters are read over JMX, and it gets the whole of the compiler: for tests it starts faster with
 * half of it. Both by `_JAVA_OPTIONS`, which goes before the flags of scripts/services.
 */
const jvmOptions = (port: number): string =>
  [
    '-XX:TieredStopAtLevel=4',
    '-Djava.rmi.server.hostname=127.0.0.1',
    ...Object.entries({ port, 'rmi.port': port, host: '127.0.0.1', authenticate: false, ssl: false }).map(
      ([name, value]) => `-Dcom.sun.management.jmxremote.${name}=${value}`,
    ),
  ].join(' ');

export async function startCluster(say: (line: string) => void): Promise<Cluster> {
  const jmxPort = await freePort();
  const before = process.env._JAVA_OPTIONS;
  process.env._JAVA_OPTIONS = jvmOptions(jmxPort);
  const services = await startServices({
    own: true,
    args: { postgres: ['-c', 'shared_preload_libraries=pg_stat_statements'] },
    log: say,
  }).finally(() => {
    if (before === undefined) delete process.env._JAVA_OPTIONS;
    else process.env._JAVA_OPTIONS = before;
  });
  const { redisUrl, databaseUrl, kafkaBrokers } = services;
  const redis = new Redis(redisUrl);
  // Whoever kills the server knows it; questions then fail by themselves.
  redis.on('error', () => {});
  const postgres = new pg.Client({ connectionString: databaseUrl, application_name: 'bench' });
  postgres.on('error', () => {});
  await postgres.connect();
  await postgres.query('create extension if not exists pg_stat_statements');
  return {
    services,
    flags: namespace => ({
      profile: 'cluster',
      secret,
      'kafka-brokers': kafkaBrokers,
      'redis-url': redisUrl,
      'database-url': databaseUrl,
      namespace,
    }),
    async counted(dibs, work) {
      const fast = async () => ({ sql: await statements(postgres), redis: await commands(redis, dibs) });
      // Asking the broker takes a second, in which timers of the others go on.
      const brokerBefore = await brokerCounts(jmxPort);
      const before = await fast();
      const from = performance.now();
      await work();
      const seconds = (performance.now() - from) / 1000;
      const after = await fast();
      const broker = await brokerCounts(jmxPort);
      return {
        produce: (broker.Produce ?? 0) - (brokerBefore.Produce ?? 0),
        fetch: (broker.Fetch ?? 0) - (brokerBefore.Fetch ?? 0),
        redis: after.redis - before.redis,
        sql: after.sql - before.sql,
        seconds,
      };
    },
    used() {
      const of = (name: ServerName) => treeUsed(services[name]?.pid ?? 0);
      return { redis: of('redis'), postgres: of('postgres'), kafka: of('kafka') };
    },
    async stop() {
      redis.disconnect();
      await postgres.end();
      await services.stop();
    },
  };
}

/** Statements of clients so far, without those inside functions. */
async function statements(postgres: pg.Client): Promise<number> {
  const { rows } = await postgres.query<{ calls: string }>(
    `select coalesce(sum(calls), 0) as calls from pg_stat_statements where query not like '%pg_stat_statements%'`,
  );
  return Number(rows[0]?.calls);
}

/**
 * Scripts so far as Redis counts them, and all other commands as the client does: Redis counts those inside scripts
 * under the same names. Pings are nobody's question.
 */
async function commands(redis: Redis, dibs: Dibs): Promise<number> {
  const stats = await redis.info('commandstats');
  const scripts = ['evalsha', 'eval'].map(name =>
    Number(new RegExp(`^cmdstat_${name}:calls=(\\d+)`, 'm').exec(stats)?.[1] ?? 0),
  );
  const sent = Object.entries(await dibs.ask<Record<string, number>>('commands'));
  const others = sent.filter(([name]) => !name.startsWith('eval') && name !== 'ping').map(([, n]) => n);
  return [...scripts, ...others].reduce((sum, n) => sum + n, 0);
}

/** Requests that the broker has answered, by kind. */
async function brokerCounts(port: number): Promise<Record<string, number>> {
  const source = join(import.meta.dirname, 'BrokerCounts.java');
  const { stdout } = await promisify(execFile)(find('java') as string, [
    '-XX:TieredStopAtLevel=1',
    source,
    String(port),
  ]);
  return JSON.parse(stdout) as Record<string, number>;
}
