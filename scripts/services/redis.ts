/** Redis 7, without persistence unless `--appendonly yes` is among the arguments: a restart is a loss of all. */
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { find, install, run, type ServerOptions } from './program.ts';
import type { ServerSpec } from './server.ts';

const ANSWER_MS_MAX = 1_000;
const DISCONNECT_MS = 50;

export const redisUrl = (port: number): string => `redis://127.0.0.1:${port}`;

export async function redisSpec({ dir, port, args, log }: ServerOptions): Promise<ServerSpec> {
  if (!find('redis-server')) await install(['redis-server'], ['redis-server'], log);
  const program = find('redis-server') as string;
  await assertVersion(program);
  const dataDir = join(dir, 'redis');
  const settings = {
    port: String(port),
    bind: '127.0.0.1',
    dir: dataDir,
    save: '',
    appendonly: 'no',
    'maxmemory-policy': 'noeviction',
    daemonize: 'no',
    // The arguments stay readable in the process list; they tell whose server it is.
    'set-proc-title': 'no',
  };
  return {
    name: 'redis',
    port,
    portsMore: [],
    dir,
    dataDir,
    command: [program, ...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]), ...args],
    mark: dataDir,
    stopSignal: 'SIGTERM',
    user: undefined,
    layData: async () => {},
    answers: () => redisAnswers(redisUrl(port)),
  };
}

async function assertVersion(program: string): Promise<void> {
  const major = Number(/v=(\d+)/.exec(await run(program, ['--version']))?.[1]);
  if (major < 7) throw new Error(`${program} is version ${major}: install Redis 7 or newer, or set DIBS_REDIS_URL.`);
}

export async function redisAnswers(url: string): Promise<void> {
  const redis = new Redis(url, {
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    // ioredis keeps a timer for this long after disconnect(), and with it the process.
    disconnectTimeout: DISCONNECT_MS,
    connectTimeout: ANSWER_MS_MAX,
    commandTimeout: ANSWER_MS_MAX,
  });
  // connect() rejects with the same error; without a listener it would also be printed.
  redis.on('error', () => {});
  try {
    await redis.connect();
    await redis.ping();
  } finally {
    redis.disconnect();
  }
}
