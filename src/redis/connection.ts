/**
 * One connection to Redis that is bounded in every direction: nothing queues while it is down, no command waits
 * longer than its bound, and it reconnects for ever. Whatever Redis or the way there does becomes `Unavailable`.
 */
import { readFileSync } from 'node:fs';
import { Redis, type RedisOptions } from 'ioredis';
import { Refused, Unavailable } from '../errors.ts';
import type { Host } from '../host.ts';
import {
  commandMsMax,
  connectMsMax,
  disconnectMsMax,
  keepAliveMs,
  reconnectMsMax,
  reconnectMsMin,
  silentMsMax,
  steadyMs,
} from './limits.ts';

export type RedisLog = (level: 'info' | 'warn' | 'error', message: string) => void;

export interface RedisSettings {
  /** `redis://host:port/db`, `rediss://` for TLS. Or `connection`. */
  url?: string;
  /** ioredis options: sentinels, a socket path, TLS. The bounds of this module win. */
  connection?: RedisOptions;
  /** Begins every key and channel; `dibs` unless given. */
  prefix?: string;
  host?: Host;
  log?: RedisLog;
  /** How long a command may be unanswered, ms. */
  commandMs?: number;
}

/** For metrics and benches: commands sent so far. */
export interface RedisCounts {
  commands: number;
}

export interface Connection {
  readonly redis: Redis;
  readonly counts: RedisCounts;
  /** Where it leads, for messages: no user, no password. */
  readonly address: string;
  readonly commandMs: number;
  /** Sends one command. @throws Unavailable */
  run<T>(command: (redis: Redis) => Promise<T>): Promise<T>;
  /** Runs a script of src/redis/scripts, loading it when the server does not know it. @throws Unavailable */
  script<T>(name: ScriptName, key: string, args: readonly string[]): Promise<T>;
  close(): Promise<void>;
}

const scriptNames = [
  ...(['apply', 'told', 'read', 'sales', 'fill', 'swap'] as const),
  ...(['board_commit', 'board_restore'] as const),
  ...(['queue_push', 'queue_pop', 'lease'] as const),
] as const;
export type ScriptName = (typeof scriptNames)[number];

/** Answers that say: not now. The command was not carried out, or will be safe to repeat. */
const passingReplies = new Set(
  'LOADING READONLY MASTERDOWN OOM BUSY MISCONF NOREPLICAS CLUSTERDOWN TRYAGAIN NOAUTH WRONGPASS NOPERM'.split(' '),
);

export function connect(settings: RedisSettings, counts: RedisCounts): Connection {
  const commandMs = settings.commandMs ?? commandMsMax;
  const reconnectOnError = (error: Error) => {
    const leaves = isReadOnly(error.message);
    if (leaves) state.lastError = error.message;
    return leaves;
  };
  const bounds = { ...boundsOf(commandMs), reconnectOnError };
  const options: RedisOptions & { replyMapping: 'legacy' } = { ...settings.connection, ...bounds };
  const redis = settings.url === undefined ? new Redis(options) : new Redis(checkedUrl(settings.url), options);
  const { host, port, path } = redis.options;
  const address = path ?? `${host}:${port}`;
  const scripts = defineScripts(redis);
  const log = settings.log ?? (() => {});
  const state = watch(redis, address, log, commandMs);
  let closing: Promise<void> | undefined;

  async function run<T>(command: (redis: Redis) => Promise<T>): Promise<T> {
    if (closing) throw new Unavailable(`The connection to Redis ${address} is closed`);
    await state.tried;
    counts.commands++;
    try {
      return await command(redis);
    } catch (error) {
      throw translated(error, address, redis.status === 'ready' ? undefined : state.lastError);
    }
  }

  return {
    redis,
    counts,
    address,
    commandMs,
    run,
    script: <T>(name: ScriptName, key: string, args: readonly string[]) =>
      run(() => scripts[name](key, args) as Promise<T>),
    close: () => {
      state.closing = true;
      closing ??= disconnect(redis);
      return closing;
    },
  };
}

const boundsOf = (commandMs: number): RedisOptions & { replyMapping: 'legacy' } => ({
  replyMapping: 'legacy',
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  commandTimeout: commandMs,
  connectTimeout: connectMsMax,
  socketTimeout: Math.max(silentMsMax, commandMs),
  keepAlive: keepAliveMs,
  disconnectTimeout: disconnectMsMax,
  autoResubscribe: false,
  retryStrategy: times => Math.min(reconnectMsMin * 2 ** Math.min(times - 1, 10), reconnectMsMax),
});

/** A master that became a replica: its name may lead to the new one by now. */
const isReadOnly = (message: string | undefined): boolean => message?.startsWith('READONLY') ?? false;

/** On a database that it could not select, ioredis would go on with database 0. */
const isOfSelect = (error: Error & { command?: { name: string } }): boolean => error.command?.name === 'select';

function checkedUrl(url: string): string {
  const schemes = ['redis:', 'rediss:'];
  const { protocol = '', pathname = '' } = URL.parse(url) ?? {};
  if (!schemes.includes(protocol) || !/^(\/\d*)?$/.test(pathname)) {
    throw new Refused(
      'The address of Redis is not a URL of the form redis://host:port/db, where db is a number: correct it.',
    );
  }
  return url;
}

/** Arguments come as one list: a rebuild has more of them than a call can take one by one. */
type Scripts = Record<ScriptName, (key: string, args: readonly string[]) => Promise<unknown>>;

function defineScripts(redis: Redis): Scripts {
  const commands = redis as unknown as Scripts;
  const scripts = {} as Scripts;
  for (const name of scriptNames) {
    const lua = readFileSync(new URL(`scripts/${name}.lua`, import.meta.url), 'utf8');
    redis.defineCommand(`dibs_${name}`, { lua, numberOfKeys: 1 });
    const command = commands[`dibs_${name}` as ScriptName];
    scripts[name] = (key, args) => command.call(commands, key, args);
  }
  return scripts;
}

interface Watched {
  /** Settles once the first attempt to connect has ended, well or not: commands sent before wait for it. */
  tried: Promise<void>;
  lastError: string | undefined;
  /** We hang up ourselves: no news. */
  closing: boolean;
}

function watch(redis: Redis, address: string, log: RedisLog, commandMs: number): Watched {
  const { promise: tried, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, commandMs).unref();
  const state: Watched = { tried, lastError: undefined, closing: false };
  const settle = () => {
    clearTimeout(timer);
    resolve();
  };
  let wasReady: boolean | undefined;
  let leaving = false;
  redis.on('error', (error: Error) => {
    // What follows our own hanging up is no reason.
    if (leaving) return;
    state.lastError = error.message || error.name;
    leaving = isOfSelect(error);
    if (leaving) redis.disconnect(true);
  });
  const connected = () => {
    if (wasReady === false) log('info', `Redis ${address} is connected again`);
    wasReady = true;
    state.lastError = undefined;
  };
  let steady: NodeJS.Timeout | undefined;
  redis.on('ready', () => {
    settle();
    // A replica that takes no writes is connected to at once, and left at the next one.
    if (isReadOnly(state.lastError)) steady = setTimeout(connected, steadyMs).unref();
    else connected();
  });
  redis.on('close', () => {
    clearTimeout(steady);
    leaving = false;
    if (wasReady !== false && !state.closing)
      log('warn', `Redis ${address} is not connected: ${state.lastError ?? 'it hung up'}`);
    wasReady = false;
    settle();
  });
  redis.on('end', settle);
  return state;
}

function translated(error: unknown, address: string, lastError: string | undefined): unknown {
  if (!(error instanceof Error) || error instanceof TypeError || error instanceof RangeError) return error;
  if (error.name === 'ReplyError') {
    const code = error.message.split(' ', 1)[0] as string;
    return passingReplies.has(code) ? new Unavailable(`Redis ${address} refuses: ${error.message}`) : error;
  }
  return new Unavailable(`Redis ${address} does not answer: ${lastError ?? error.message}`);
}

/** Resolves when the socket is closed. */
async function disconnect(redis: Redis): Promise<void> {
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  redis.once('end', resolve);
  // Between two attempts there is no socket, and no event will come.
  if (redis.status === 'reconnecting' || redis.status === 'end' || redis.status === 'close') resolve();
  redis.disconnect();
  await ended;
}

/**
 * Evicted keys are lost state: found and rebuilt, but slowly, and in a sale it happens again and again.
 * Asked on every connect, since the server behind the name may be another one.
 */
export function warnOfEviction(connection: Connection, log: RedisLog): void {
  const ask = async () => {
    const text = await connection.run(redis => redis.info('memory'));
    const policy = /maxmemory_policy:(\S+)/.exec(text)?.[1];
    if (policy !== undefined && policy !== 'noeviction') {
      log('warn', `Redis ${connection.address} has maxmemory-policy ${policy}: set it to noeviction`);
    }
  };
  connection.redis.on('ready', () => {
    ask().catch((error: Error) => log('warn', `maxmemory-policy of Redis is unknown: ${error.message}`));
  });
}
