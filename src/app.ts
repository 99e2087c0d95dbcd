/**
 * compose(config) -> {start, stop}: the only file that knows every adapter. Adapters are loaded when their profile is
 * picked, so the embedded profile loads no driver. All profiles run the same core.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config.ts';
import type { CouponId } from './coupon.ts';
import { Refused } from './errors.ts';
import { createHost, type Host } from './host.ts';
import { Hub } from './hub.ts';
import { FrontDoor } from './issue.ts';
import { drainMsMax } from './limits.ts';
import type { Log, Metrics } from './metrics.ts';
import { Operator } from './operator.ts';
import { persistStage } from './persist.ts';
import type { CouponStore, EventLog, LedgerReader, OutcomeBoard } from './ports.ts';
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
  /** Lags of stages that run elsewhere in this process. */
  lags(): StageLag[];
  stop(): Promise<void>;
}

export interface Options {
  /** Consumers of the user's own, made by `defineStage`. */
  stages?: ((tools: StageTools) => Stage)[];
}

export interface App {
  /** Where it listens. */
  url: string;
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
  const around: Surroundings = {
    config,
    host,
    metrics,
    say,
    lost(why) {
      lost = why;
      say('error', `ALARM: ${why}`);
    },
  };
  const secret = config.secret ?? keptSecret(config.data);
  const ground = config.profile === 'embedded' ? await groundEmbedded(around) : await groundCluster(around);
  try {
    const { log, ledger, store, board } = ground;
    const sealer = createSealer(secret, log.identity, host.randomBytes);
    await store.claim({ log: log.identity, secret: sealer.fingerprint });
    const tools = { log, ledger, store, board, host, metrics, say };
    const door = new FrontDoor(tools);
    const status = new StatusReader(tools);
    const hub = new Hub({ status, board, host, say });
    const operator = new Operator({ ...tools, door });
    const api = config.roles.includes('api');
    if (api) await hub.start();
    const running = await runStages(ground, options, around);
    const lags = () => [...ground.lags(), ...running.flatMap(stage => stage.lag())];
    const { createHttp } = await import('./http/server.ts');
    const http = await createHttp({
      ...{ door, status, hub, sealer, operator, store, ledger, host, metrics, say, lags },
      partitions: log.partitions,
      settings: { ...config, api },
      ready: () => readiness(log, lags(), lost),
      verify: (couponId?: CouponId) => verify({ log, store, now: host.now(), ...(couponId ? { couponId } : {}) }),
    });
    const { url } = await http.start();
    let stopping: Promise<void> | undefined;
    return {
      url,
      stop() {
        stopping ??= (async () => {
          await http.stop();
          await drained(door, host);
          door.stop();
          await hub.stop();
          for (const stage of running) await stage.stop();
          await ground.stop();
        })();
        return stopping;
      },
    };
  } catch (error) {
    await ground.stop();
    throw error;
  }
}

async function runStages(
  ground: Ground,
  { stages = [] }: Options,
  { config, host, metrics, say }: Surroundings,
): Promise<RunningStage[]> {
  const { log, store } = ground;
  const own = config.roles.includes('stats') ? [statsStage(store), ...stages] : stages;
  const all = [...ground.stages, ...own.map(make => make({ store }))];
  return Promise.all(all.map(stage => runStage(stage, { log, host, metrics, say })));
}

function readiness(log: EventLog, lags: StageLag[], lost: string | undefined): { ok: boolean; why?: string } {
  if (lost !== undefined) return { ok: false, why: lost };
  if (!log.reachable()) return { ok: false, why: 'the log does not answer' };
  const stopped = lags.find(lag => lag.state === 'stopped');
  return stopped ? { ok: false, why: `${stopped.stage} stopped: ${stopped.error}` } : { ok: true };
}

/** Waits for what was taken in to be answered, bounded. */
async function drained(door: FrontDoor, host: Host): Promise<void> {
  const until = host.now() + drainMsMax;
  while (door.pending > 0 && host.now() < until) await host.delay(10);
}

async function groundEmbedded({ config, host, metrics, say, lost }: Surroundings): Promise<Ground> {
  mkdirSync(config.data, { recursive: true });
  const { startEmbedded } = await import('./embedded/front.ts');
  const where = `${config.host}:${config.port}`;
  const embedded = await startEmbedded({ path: join(config.data, 'dibs.db'), where, host, metrics, say, lost });
  return { ...embedded, stages: [] };
}

async function groundCluster({ config, host, metrics, say }: Surroundings): Promise<Ground> {
  const { createKafkaLog } = await import('./kafka/log.ts');
  const { createRedisLedger } = await import('./redis/ledger.ts');
  const { createRedisBoard } = await import('./redis/board.ts');
  const { createPostgresStore } = await import('./postgres/store.ts');
  const { namespace, partitions, replication, minInsync, roles } = config;
  const redis = { url: config.redisUrl, prefix: namespace ? `dibs:${namespace}` : 'dibs', host, log: say };
  const [ledger, board] = [createRedisLedger(redis), createRedisBoard(redis)];
  const closers: { close(): Promise<void> }[] = [ledger, board];
  const stop = async () => {
    for (const closer of closers.reverse()) await closer.close();
  };
  try {
    const schema = namespace ? `dibs_${namespace}` : 'dibs';
    const store = await createPostgresStore({ url: config.databaseUrl, schema, log: say });
    closers.push(store);
    const topicPrefix = namespace ? `${namespace}.` : '';
    const brokers = config.kafkaBrokers;
    const log = await createKafkaLog({ brokers, topicPrefix, partitions, replication, minInsync, host, log: say });
    closers.push(log);
    const tools = { log, ledger, store, board, host, metrics, say };
    const stages: Stage[] = [];
    if (roles.includes('reserve')) stages.push(reserveStage(tools));
    if (roles.includes('persist')) stages.push(persistStage(tools));
    return { log, ledger, store, board, stages, lags: () => [], stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The embedded profile's own secret: made once, beside the data. */
function keptSecret(data: string): string {
  const path = join(data, 'secret');
  mkdirSync(data, { recursive: true });
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      throw new Refused(`${path} cannot be read: let this user read it, or set DIBS_SECRET`);
    }
    const secret = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url');
    writeFileSync(path, `${secret}\n`, { mode: 0o600, flag: 'wx' });
    return secret;
  }
}

async function createLog({ logLevel }: Config): Promise<Log> {
  const { pino } = await import('pino');
  const logger = pino({ level: logLevel, base: null });
  return (level, message, fields) => logger[level](fields ?? {}, message);
}
