/**
 * Both profiles on state of their own: a folder, or a namespace of topics, keys and a schema on the real servers that
 * `npm test` names in the environment. What was made is taken away at the end.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Admin } from '@platformatic/kafka';
import { Redis } from 'ioredis';
import pg from 'pg';
import { type App, type Options, start } from '../../src/app.ts';
import { loadConfig, type Profile } from '../../src/config.ts';

export type Flags = Record<string, string>;

export interface Row {
  slot: number;
  userId: string;
  /** Place of the request in its partition of the log. */
  offset: number;
}

/** The state of one profile; any number of instances may be started on it (in `embedded` one at a time). */
export interface Ground {
  profile: Profile;
  /** What every instance is started with; `environment` is the same for a process. */
  flags: Flags;
  environment: Record<string, string>;
  start(flags?: Flags, options?: Options): Promise<App>;
  /** What the store holds, asked of the store itself, in order of slot. */
  rows(couponId: string): Promise<Row[]>;
  close(): Promise<void>;
}

export interface ClusterGround extends Ground {
  namespace: string;
  redis: Redis;
  sql: pg.Client;
  kafka: Admin;
}

const servers = {
  redisUrl: 'DIBS_REDIS_URL',
  databaseUrl: 'DIBS_DATABASE_URL',
  kafkaBrokers: 'DIBS_KAFKA_BROKERS',
} as const;

/** Why the cluster profile cannot be tested here, said aloud; false when it can. */
const absent = Object.values(servers).filter(name => !process.env[name]);
export const noCluster: string | false =
  absent.length > 0 && `cluster is NOT tested: ${absent.join(', ')} not set; \`npm test\` starts the servers`;

const common: Flags = { port: '0', logLevel: 'silent', secret: 'the secret of the tests' };

const variables = (flags: Flags): Record<string, string> =>
  Object.fromEntries(
    Object.entries(flags).map(([name, value]) => [
      `DIBS_${name.replace(/[A-Z]/g, letter => `_${letter}`).toUpperCase()}`,
      value,
    ]),
  );

export function embeddedGround(over: Flags = {}): Ground & { folder: string } {
  const folder = mkdtempSync(join(tmpdir(), 'dibs-e2e-'));
  const flags = { ...common, profile: 'embedded', data: folder, ...over };
  const apps = running(flags);
  return {
    ...{ profile: 'embedded', flags, folder, environment: variables(flags), start: apps.start },
    async rows(couponId) {
      const database = new DatabaseSync(join(folder, 'dibs.db'), { readOnly: true });
      try {
        const text = 'SELECT slot, user_id AS userId, offset FROM user_coupon WHERE coupon_id = ? ORDER BY slot';
        return database.prepare(text).all(couponId) as unknown as Row[];
      } finally {
        database.close();
      }
    },
    async close() {
      await apps.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export async function clusterGround(over: Flags = {}): Promise<ClusterGround> {
  const namespace = `e2e_${randomBytes(5).toString('hex')}`;
  const named = Object.fromEntries(Object.entries(servers).map(([flag, name]) => [flag, process.env[name] as string]));
  const flags = { ...common, profile: 'cluster', auth: 'none', namespace, partitions: '2', ...named, ...over };
  const sql = new pg.Client({ connectionString: named.databaseUrl });
  await sql.connect();
  const redis = new Redis(named.redisUrl as string);
  const kafka = new Admin({ clientId: 'dibs-e2e', bootstrapBrokers: (named.kafkaBrokers as string).split(',') });
  const apps = running(flags);
  return {
    ...{ profile: 'cluster', flags, environment: variables(flags), start: apps.start, namespace, redis, sql, kafka },
    async rows(couponId) {
      const { rows } = await sql.query(
        `select slot::int, user_id as "userId", "offset"::float8 from dibs_${namespace}.user_coupon
        where coupon_id = $1 order by slot`,
        [couponId],
      );
      return rows as Row[];
    },
    async close() {
      await apps.stop();
      await sql.query(`drop schema if exists dibs_${namespace} cascade`);
      await sql.end();
      const keys = await redis.keys(`dibs:${namespace}:*`);
      if (keys.length > 0) await redis.unlink(keys);
      redis.disconnect();
      const topics = (await kafka.listTopics()).filter(name => name.startsWith(`${namespace}.`));
      if (topics.length > 0) await kafka.deleteTopics({ topics });
      await kafka.close();
    },
  };
}

export const groundOf = (profile: Profile, flags: Flags = {}): Promise<Ground> =>
  profile === 'embedded' ? Promise.resolve(embeddedGround(flags)) : clusterGround(flags);

function running(flags: Flags) {
  const apps: App[] = [];
  return {
    async start(over: Flags = {}, options: Options = {}): Promise<App> {
      const app = await start(loadConfig({ flags: { ...flags, ...over } }), options);
      apps.push(app);
      return app;
    },
    stop: async () => void (await Promise.all(apps.map(app => app.stop()))),
  };
}
