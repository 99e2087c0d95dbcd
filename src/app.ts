/**
 * compose(config) -> {start, stop}: the only file that knows every adapter. Adapters are loaded when their profile is
 * picked, so the embedded profile loads no driver. All profiles run the same core.
 */
import { hash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config, Profile } from './config.ts';
import { requestLog } from './entry.ts';
import { Refused } from './errors.ts';
import { createHost, type Host } from './host.ts';
import { Hub } from './hub.ts';
import { FrontDoor } from './issue.ts';
import { couponsListedMax, drainMsMax, embeddedAnswersPerTurnMax } from './limits.ts';
import { withoutLostWinners } from './lost-slots.ts';
import type { Log, Metrics } from './metrics.ts';
import { Operator } from './operator.ts';
import { persistStage } from './persist.ts';
import type { CouponReader, CouponStore, EventLog, LedgerReader, OutcomeBoard, StockLedger } from './ports.ts';
import { reserveStage } from './reserve.ts';
import { type RunningStage, runStage, type Stage, type StageLag, type StageTools } from './stage.ts';
import { statsStage } from './stats.ts';
import { StatusReader } from './status.ts';
import { createSealer } from './task.ts';
import { verify } from './verify.ts';

/** What a profile gives the core to stand on. */
interface Ground {
  log: EventLog;
  ledger: LedgerReader;
  store: CouponStore;
  board: OutcomeBoard;
  /** Stages that this process runs by loops of its own, besides stats and the user's. */
  stages: Stage[];
  /** Answers that one turn of the event loop may write. */
  answersPerTurnMax: number;
  /** What this profile leaves out, and why. */
  notOffered?: Readonly<Partial<Record<'events' | 'stats' | 'verify', string>>>;
  /** Lags of stages that run elsewhere in this process. */
  lags(): StageLag[];
  /** Why the log takes nothing, though it answers. */
  refusing?(): string | undefined;
  stop(): Promise<void>;
}

export interface Ports {
  log: EventLog;
  ledger: StockLedger;
  store: CouponStore;
  board: OutcomeBoard;
}

export interface Options {
  /** Consumers of the user's own, made by `defineStage`. */
  stages?: ((tools: StageTools) => Stage)[];
  /** Puts something around the servers' ports, once, from outside: traces, or faults in a test. */
  wrap?: (ports: Ports) => Ports;
}

export interface App {
  /** Where it listens. */
  url: string;
  /** Resolves with the reason when the process cannot go on and should be started again. */
  lost: Promise<string>;
  stop(): Promise<void>;
}

interface Surroundings {
  config: Config;
  host: Host;
  metrics: Metrics;
  say: Log;
  /** The process cannot go on. */
  lost(why: string): void;
}

/** Starts what the configuration asks for; resolves when it can accept. @throws Refused in one sentence. */
export async function start(config: Config, options: Options = {}): Promise<App> {
  const host = createHost();
  const say = await createLog(config);
  const { createMetrics } = await import('./http/prometheus.ts');
  const metrics = createMetrics();
  let lost: string | undefined;
  const gone = Promise.withResolvers<string>();
  const around: Surroundings = {
    config,
    host,
    metrics,
    say,
    lost(why) {
      lost = why;
      gone.resolve(why);
      say('error', `ALARM: ${why}`);
    },
  };
  const secret = config.secret ?? (await secretBeside(config, host));
  const ground = await grounds[config.profile](around, options);
  /** What was started, to be stopped in reverse. */
  const stops: (() => Promise<void>)[] = [ground.stop];
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      for (const one of stops.reverse()) await one();
    })();
    return stopping;
  };
  try {
    const { log, ledger, store, board } = ground;
    const sealer = createSealer(secret, log.identity, host.randomBytes);
    await store.claim({ log: log.identity, secret: sealer.fingerprint });
    const tools = { log, ledger, store, board, host, metrics, say };
    const door = new FrontDoor(tools);
    const status = new StatusReader(tools);
    const hub = new Hub({ status, board, host, say, broken: () => door.latch.drop() });
    const operator = new Operator({ ...tools, door });
    stops.push(() => hub.stop());
    if (config.roles.includes('api')) for (const row of await store.listCoupons(couponsListedMax)) door.know(row);
    if (config.roles.includes('api') && !ground.notOffered?.events) await hub.start();
    const running: RunningStage[] = [];
    stops.push(async () => void (await Promise.all(running.map(stage => stage.stop()))));
    for (const stage of stagesOf(ground, options, config)) running.push(await runStage(stage, tools));
    stops.push(() => drained(door, host));
    const lags = () => [...ground.lags(), ...running.flatMap(stage => stage.lag())];
    const { createHttp } = await import('./http/server.ts');
    const http = await createHttp({
      ...{ door, status, hub, sealer, operator, store, ledger, host, metrics, say, lags },
      partitions: log.partitions,
      answersPerTurnMax: ground.answersPerTurnMax,
      notOffered: ground.notOffered ?? {},
      settings: { ...config, version: versionOf(), api: config.roles.includes('api') },
      ready: () => readiness(log, lags(), lost ?? ground.refusing?.()),
      verify: (couponId, signal) => {
        const rest = async () => {
          await host.delay(0);
          signal.throwIfAborted();
        };
        return verify({ log, store, now: host.now(), rest, ...(couponId ? { couponId } : {}) });
      },
    });
    stops.push(() => http.stop());
    const { url } = await http.start().catch(error => {
      throw notListening(error, config);
    });
    return { url, lost: gone.promise, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function stagesOf({ stages: own, store, log }: Ground, { stages: users = [] }: Options, { roles }: Config): Stage[] {
  if (log.unhandled && users.length > 0) {
    throw new Refused('a queue has one reader: stages of your own need the cluster or the embedded profile');
  }
  const made = users.map(make => make({ store }));
  // Who shares a name shares its consumer group, and each of the two reads what the other one does not.
  const taken = new Set(['reserve', 'persist', 'stats']);
  for (const { name } of made) {
    if (taken.has(name)) throw new Refused(`there is a stage named "${name}" already: give yours another name`);
    taken.add(name);
  }
  const counting = roles.includes('stats') && !log.unhandled ? [statsStage(store)({ store })] : [];
  return [...own, ...counting, ...made];
}

function readiness(log: EventLog, lags: StageLag[], why: string | undefined): { ok: boolean; why?: string } {
  if (why !== undefined) return { ok: false, why };
  // An alarm first: a log that was made anew does not answer either, and waiting for it would not help.
  const stopped = lags.find(lag => lag.state === 'stopped');
  if (stopped) return { ok: false, why: `${stopped.stage} stopped: ${stopped.error}` };
  return log.reachable() ? { ok: true } : { ok: false, why: 'the log does not answer' };
}

/** Waits for what was taken in to be answered, bounded. */
async function drained(door: FrontDoor, host: Host): Promise<void> {
  const until = host.elapsed() + drainMsMax;
  while (door.pending > 0 && host.elapsed() < until) await host.delay(10);
  door.stop();
}

async function groundEmbedded({ config, host, metrics, say, lost }: Surroundings): Promise<Ground> {
  const { makeFolder } = await import('./embedded/folder.ts');
  makeFolder(config.data);
  const { startEmbedded } = await import('./embedded/front.ts');
  const where = whereOf(config);
  const embedded = await startEmbedded({ path: join(config.data, databaseName), where, host, metrics, say, lost });
  return { ...embedded, stages: [], answersPerTurnMax: embeddedAnswersPerTurnMax };
}

const groundCluster = (around: Surroundings, { wrap }: Options): Promise<Ground> =>
  groundServers(around, wrap, async closers => {
    // The topics first: a start that they refuse has migrated nothing.
    const log = await openKafka(around, closers);
    return { log, store: await openPostgres(around, closers) };
  });

/** The architecture that the cluster replaced: queues in Redis, and two schedulers that tick. */
async function groundScheduler(around: Surroundings, { wrap }: Options): Promise<Ground> {
  const { namespace, redisUrl: url, partitions, tickBatch, tickMs, roles } = around.config;
  const { host, say: log } = around;
  const redis = { url, prefix: ['dibs', namespace].filter(Boolean).join(':'), host, log };
  const { createRedisQueues } = await import('./redis/queues.ts');
  const { takeLease, underLease } = await import('./redis/lease.ts');
  let lease: Awaited<ReturnType<typeof takeLease>> | undefined;
  const wrapHeld = (ports: Ports): Ports => {
    const guarded = lease ? underLease(ports, lease) : ports;
    return wrap?.(guarded) ?? guarded;
  };
  const ground = await groundServers(around, wrapHeld, async closers => {
    const store = await openPostgres(around, closers);
    const queues = await createRedisQueues({
      ...{ ...redis, partitions },
      async beginsAt(name, partition) {
        const { next, changeNext } = await store.checkpoint(partition);
        // Nothing was ever decided by this log.
        if (changeNext === 0) return 0;
        return Math.max(name === requestLog ? next : changeNext, host.now() * offsetsPerMsMax);
      },
      lease: () => lease,
    });
    closers.push(queues);
    if (roles.includes('reserve')) {
      const [name, remedy] = ['the schedulers', 'stop that one, or start this one with --roles api'] as const;
      lease = await takeLease({ ...redis, name, remedy, lost: around.lost });
      closers.push(lease);
    }
    return { log: queues, store };
  });
  const batch: Record<string, number> = { reserve: tickBatch, persist: tickBatch + changesBesideWinnersMax };
  return {
    ...ground,
    stages: ground.stages.map(stage => ({ ...stage, batchMax: batch[stage.name] ?? tickBatch, tickMs })),
    notOffered: {
      events: 'nothing is pushed in the scheduler profile: ask GET /tasks/{taskId} again and again',
      stats: 'a queue of the scheduler profile has one reader, so nobody counts',
      verify: 'what was read from a queue of the scheduler profile is gone, so nothing can be folded again',
    },
  };
}

/** The mark that ends the winners of a tick, and the sale change that may be among them. */
const changesBesideWinnersMax = 2;
/** No queue takes more: one that begins anew at this many for each ms since 1970 begins behind all that were before. */
const offsetsPerMsMax = 1_000;

const grounds: Record<Profile, (around: Surroundings, options: Options) => Promise<Ground>> = {
  embedded: groundEmbedded,
  scheduler: groundScheduler,
  cluster: groundCluster,
};

/** What cluster and scheduler share: Redis, Postgres, and the stages as loops of this process. */
async function groundServers(
  { config, host, metrics, say }: Surroundings,
  wrap: Options['wrap'],
  /** What it opens it adds to the closers. */
  open: (closers: Closer[]) => Promise<{ log: EventLog; store: CouponStore }>,
): Promise<Ground> {
  const { createRedisLedger } = await import('./redis/ledger.ts');
  const { createRedisBoard } = await import('./redis/board.ts');
  const { namespace, roles } = config;
  const closers: Closer[] = [];
  const stop = () => closeAll(closers);
  try {
    const { log, store } = await open(closers);
    // Another log has a ledger and a board of its own: what an older one left in Redis can mislead nobody.
    const prefix = ['dibs', namespace, hash('sha256', log.identity).slice(0, 8)].filter(Boolean).join(':');
    const redis = { url: config.redisUrl, prefix, host, log: say };
    const [ledger, board] = [createRedisLedger(redis), createRedisBoard(redis)];
    closers.push(ledger, board);
    const ports: Ports = { log, ledger, store, board };
    const wrapped = wrap?.(ports) ?? ports;
    const tools = { ...wrapped, host, metrics, say };
    const stages: Stage[] = [];
    if (roles.includes('reserve')) stages.push(reserveStage(tools));
    if (roles.includes('persist')) stages.push(persistStage(tools));
    const shown = log.unhandled ? withoutLostWinners(wrapped.ledger, store) : wrapped.ledger;
    return { ...wrapped, ledger: shown, stages, answersPerTurnMax: Number.POSITIVE_INFINITY, lags: () => [], stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

interface Closer {
  close(): Promise<void>;
}

type Opening = Pick<Surroundings, 'config' | 'host' | 'say'> & { mustExist?: boolean };

async function openPostgres({ config, say, mustExist }: Opening, closers: Closer[]): Promise<CouponStore> {
  const { createPostgresStore } = await import('./postgres/store.ts');
  const schema = config.namespace ? `dibs_${config.namespace}` : 'dibs';
  const store = await createPostgresStore({ url: config.databaseUrl, schema, log: say, mustExist });
  closers.push(store);
  return store;
}

async function openKafka({ config, host, say, mustExist }: Opening, closers: Closer[]): Promise<EventLog> {
  const { createKafkaLog } = await import('./kafka/log.ts');
  const { namespace, partitions, replication, minInsync, groupSessionMs: sessionMs, kafkaBrokers: brokers } = config;
  const topicPrefix = namespace ? `${namespace}.` : '';
  const topics = { topicPrefix, partitions, replication, minInsync };
  const log = await createKafkaLog({ ...topics, brokers, sessionMs, host, log: say, mustExist });
  closers.push(log);
  return log;
}

async function closeAll(closers: Closer[]): Promise<void> {
  for (const closer of closers.reverse()) await closer.close();
}

export interface Reading extends Closer {
  log: Pick<EventLog, 'read' | 'end' | 'partitions'>;
  store: CouponReader;
}

/** Log and store alone, for who only reads, beside a server too: nothing is made or migrated. @throws Refused in one sentence. */
export async function openForReading(config: Config): Promise<Reading> {
  if (config.profile === 'scheduler') {
    throw new Refused('--profile scheduler: what was read from its queues is gone, so there is no log to dump');
  }
  const closers: Closer[] = [];
  const close = () => closeAll(closers);
  const opening = { config, host: createHost(), say: await createLog(config), mustExist: true };
  if (config.profile === 'cluster') {
    try {
      return { log: await openKafka(opening, closers), store: await openPostgres(opening, closers), close };
    } catch (error) {
      await close();
      throw error;
    }
  }
  const path = join(config.data, databaseName);
  if (!existsSync(path))
    throw new Refused(`--data ${config.data} (DIBS_DATA) holds no ${databaseName}: name the folder of a server`);
  const { openDatabase } = await import('./sqlite/database.ts');
  const { SqliteLogReader } = await import('./sqlite/log.ts');
  const { SqliteReader } = await import('./sqlite/store-read.ts');
  const database = openDatabase(path, { readOnly: true });
  closers.push({ close: async () => database.close() });
  return { log: new SqliteLogReader(database, opening.host), store: new SqliteReader(database), close };
}

const databaseName = 'dibs.db';

const whereOf = ({ host, port }: Config): string => `${host}:${port}`;

/** The embedded profile's own: the other profiles are refused without one. */
async function secretBeside(config: Config, host: Host): Promise<string> {
  const { keptSecret } = await import('./embedded/folder.ts');
  return keptSecret(join(config.data, databaseName), whereOf(config), host.now());
}

function notListening(error: unknown, { host, port }: Config): unknown {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'EADDRINUSE':
      return new Refused(
        `--port ${port} (DIBS_PORT) is in use on ${host}: stop who listens there, or give another port`,
      );
    case 'EACCES':
      return new Refused(`--port ${port} (DIBS_PORT) is not this user's to listen on: give one from 1024 on`);
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new Refused(`--host ${host} (DIBS_HOST) is no address of this machine: give one that is, like 127.0.0.1`);
    default:
      return error;
  }
}

const versionOf = (): string =>
  (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version;

async function createLog({ logLevel }: Config): Promise<Log> {
  const { pino } = await import('pino');
  // Its own writing of a full disk would try again for ever, and nothing else would go on.
  const logger = pino({ level: logLevel, base: null }, process.stdout);
  return (level, message, fields) => logger[level](fields ?? {}, message);
}
