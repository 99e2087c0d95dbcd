/** Sets of servers: started together, addressed by DIBS_*, stopped together. */
import { resolve } from 'node:path';
import { kafkaAnswers, kafkaBrokers, kafkaSpec } from './kafka.ts';
import { freePort } from './port.ts';
import { databaseUrl, postgresAnswers, postgresSpec } from './postgres.ts';
import type { Log } from './program.ts';
import { redisAnswers, redisSpec, redisUrl } from './redis.ts';
import { disown, Server, type ServerName, type ServerSpec, type ServiceHandle } from './server.ts';
import { claim, ownerOf, type Ports, passingDir, release, remove, type SetState, writeState } from './set.ts';

export const NAMES = ['redis', 'postgres', 'kafka'] as const satisfies readonly ServerName[];

export interface ServicesOptions {
  /** The set's folder. Without one, a folder of its own below `.services`, removed by stop(). */
  dir?: string;
  /** Free ones by default. */
  ports?: Partial<Ports>;
  /** All three by default. The address of what is left out is the empty string. */
  only?: readonly ServerName[];
  /** Ignore DIBS_* and start servers of one's own, to break them. */
  own?: boolean;
  /** Go on with the data that is in `dir`; by default it is wiped. */
  keep?: boolean;
  /** Let the servers outlive this process; the next start in `dir` refuses until they are stopped. */
  detached?: boolean;
  /** Further command-line arguments, for example `{ redis: ['--appendonly', 'yes'] }`. */
  args?: Partial<Record<ServerName, readonly string[]>>;
  log?: Log;
}

export interface Services {
  redisUrl: string;
  databaseUrl: string;
  /** "host:port", several separated by commas. */
  kafkaBrokers: string;
  /** Only of servers that we started. */
  redis?: ServiceHandle;
  postgres?: ServiceHandle;
  kafka?: ServiceHandle;
  stop(): Promise<void>;
  /** For `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What differs between the three, in one place. */
const KINDS = {
  redis: { variable: 'DIBS_REDIS_URL', address: redisUrl, answers: redisAnswers },
  postgres: { variable: 'DIBS_DATABASE_URL', address: databaseUrl, answers: postgresAnswers },
  kafka: { variable: 'DIBS_KAFKA_BROKERS', address: kafkaBrokers, answers: kafkaAnswers },
} as const;

/** Resolves when every server answers. When one cannot be had, the others are stopped and the error says why. */
export async function startServices(options: ServicesOptions = {}): Promise<Services> {
  const names = options.only ?? NAMES;
  const given = new Map(names.map(name => [name, options.own ? undefined : process.env[KINDS[name].variable]]));
  const missing = names.filter(name => !given.get(name));
  for (const name of names) await assertAnswers(name, given.get(name));
  const set = await startSet(missing, options);
  const handles = Object.fromEntries(set.servers.map(server => [server.name, server]));
  const addressOf = (name: ServerName): string =>
    given.get(name) || (missing.includes(name) ? KINDS[name].address(set.ports[name]) : '');
  return {
    redisUrl: addressOf('redis'),
    databaseUrl: addressOf('postgres'),
    kafkaBrokers: addressOf('kafka'),
    ...handles,
    stop: () => set.stop(),
    [Symbol.asyncDispose]: () => set.stop(),
  };
}

/** The environment in which dibs and its tests find the services. */
export function environmentOf(services: Services): Record<string, string> {
  const all = {
    [KINDS.redis.variable]: services.redisUrl,
    [KINDS.postgres.variable]: services.databaseUrl,
    [KINDS.kafka.variable]: services.kafkaBrokers,
  };
  return Object.fromEntries(Object.entries(all).filter(([, address]) => address !== ''));
}

async function assertAnswers(name: ServerName, address: string | undefined): Promise<void> {
  if (!address) return;
  const { variable, answers } = KINDS[name];
  try {
    await answers(address);
  } catch (cause) {
    throw new Error(`${variable} names a server that does not answer: start it or unset ${variable}.`, { cause });
  }
}

interface StartedSet {
  ports: Ports;
  servers: Server[];
  stop(): Promise<void>;
}

async function startSet(names: readonly ServerName[], options: ServicesOptions): Promise<StartedSet> {
  const ports = await portsOf(options.ports ?? {});
  if (names.length === 0) return { ports, servers: [], stop: async () => {} };
  const dir = options.dir === undefined ? await passingDir() : resolve(options.dir);
  const detached = options.detached ?? false;
  const servers: Server[] = [];
  const state: SetState = { owner: ownerOf(detached), addresses: {}, servers: [] };
  const stop = async (): Promise<void> => {
    const passing = options.dir === undefined;
    await Promise.all(servers.map(server => (passing ? server.kill() : server.stop())));
    await (passing ? remove(dir, state.servers) : release(dir));
  };
  await claim(dir);
  writeState(dir, state);
  const started = await Promise.allSettled(
    names.map(async name => {
      const spec = await specOf(name, dir, ports, options);
      state.servers.push(spec);
      state.addresses[KINDS[name].variable] = KINDS[name].address(ports[name]);
      writeState(dir, state);
      const server = new Server(spec, { detached });
      servers.push(server);
      if (!options.keep) await server.wipe();
      await server.start();
    }),
  );
  const failed = started.find(result => result.status === 'rejected');
  if (failed) {
    await stop();
    throw failed.reason;
  }
  if (detached) for (const server of servers) disown(server);
  return { ports, servers, stop };
}

async function portsOf(wanted: Partial<Ports>): Promise<Ports> {
  return {
    redis: wanted.redis ?? (await freePort()),
    postgres: wanted.postgres ?? (await freePort()),
    kafka: wanted.kafka ?? (await freePort()),
    kafkaController: wanted.kafkaController ?? (await freePort()),
  };
}

function specOf(name: ServerName, dir: string, ports: Ports, options: ServicesOptions): Promise<ServerSpec> {
  const args = options.args?.[name] ?? [];
  const common = { dir, port: ports[name], args, log: options.log ?? (() => {}) };
  switch (name) {
    case 'redis':
      return redisSpec(common);
    case 'postgres':
      return postgresSpec(common);
    case 'kafka':
      return kafkaSpec({ ...common, controllerPort: ports.kafkaController });
  }
}
