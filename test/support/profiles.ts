/**
 * All profiles on state of their own: a folder, or a namespace of topics, keys and a schema on the real servers that
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

export interface ServerGround extends Ground {
  namespace: string;
  redis: Redis;
  sql: pg.Client;
}

export interface ClusterGround extends ServerGround {
  kafka: Admin;
}

const servers = {
  redisUrl: 'DIBS_REDIS_URL',
  databaseUrl: 'DIBS_DATABASE_URL',
  kafkaBrokers: 'DIBS_KAFKA_BROKERS',
} as const;

/** Which of them each profile stands on. */
const serversOf: Record<Profile, readonly (keyof typeof servers)[]> = {
  embedded: [],
  scheduler: ['redisUrl', 'databaseUrl'],
  cluster: ['redisUrl', 'databaseUrl', 'kafkaBrokers'],
};

/** Why a profile cannot be tested here, said aloud; false when it can. */
export function untestable(profile: Profile): string | false {
  const absent = serversOf[profile].map(flag => servers[flag]).filter(name => !process.env[name]);
  return absent.length > 0 && `${profile} is NOT tested: ${absent.join(', ')} not set; \`npm test\` starts the servers`;
}

export const noCluster = untestable('cluster');

/** Parts of the suites that a profile may not owe. */
export type Part = 'push' | 'stats' | 'verify' | 'own stages';
export const notOwed: Record<Profile, Partial<Record<Part, string>>> = {
  embedded: {},
  scheduler: {
    push: 'its clients ask',
    stats: 'a queue has one reader, which is persist',
    verify: 'what was read from a queue is gone',
    'own stages': 'a queue has one reader, which is persist',
  },
  cluster: {},
};

/** Options of a test of this part: node prints the reason. */
export function owed(profile: Profile, part: Part): { skip: string | false } {
  const why = notOwed[profile][part];
  return { skip: why === undefined ? false : `${profile} does not owe "${part}": ${why}` };
}

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
  const ground = await serverGround('cluster', { partitions: '2', ...over });
  const brokers = process.env[servers.kafkaBrokers] as string;
  const kafka = new Admin({ clientId: 'dibs-e2e', bootstrapBrokers: brokers.split(',') });
  return {
    ...ground,
    kafka,
    async close() {
      await ground.close();
      const topics = (await kafka.listTopics()).filter(name => name.startsWith(`${ground.namespace}.`));
      if (topics.length > 0) await kafka.deleteTopics({ topics });
      await kafka.close();
    },
  };
}

/** Its schedulers tick fifty times as fast as they do in earnest. */
export const schedulerGround = (over: Flags = {}): Promise<ServerGround> => {
  const { partitions: _, ...flags } = over;
  return serverGround('scheduler', { tickMs: '20', ...flags });
};

async function serverGround(profile: 'scheduler' | 'cluster', over: Flags): Promise<ServerGround> {
  const namespace = `e2e_${randomBytes(5).toString('hex')}`;
  const named = Object.fromEntries(serversOf[profile].map(flag => [flag, process.env[servers[flag]] as string]));
  const flags = { ...common, profile, auth: 'none', namespace, ...named, ...over };
  const sql = new pg.Client({ connectionString: named.databaseUrl });
  await sql.connect();
  const redis = new Redis(named.redisUrl as string);
  const apps = running(flags);
  return {
    ...{ profile, flags, environment: variables(flags), start: apps.start, namespace, redis, sql },
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
    },
  };
}

const grounds: Record<Profile, (flags: Flags) => Promise<Ground>> = {
  embedded: async flags => embeddedGround(flags),
  scheduler: schedulerGround,
  cluster: clusterGround,
};

export const groundOf = (profile: Profile, flags: Flags = {}): Promise<Ground> => grounds[profile](flags);

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
