/** Sets of servers: started together, addressed by DIBS_*, stopped together. */
import { join, resolve } from 'node:path';
import { kafkaAnswers, kafkaBrokers, kafkaSpec } from './kafka.ts';
import { freePort } from './port.ts';
import { databaseUrl, postgresAnswers, postgresSpec } from './postgres.ts';
import type { Log, ServerOptions } from './program.ts';
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
  /** How many Kafka brokers, as one cluster: 1 by default, or 3. */
  brokers?: number;
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
  /** All Kafka brokers, by id from 1; `kafka` is the first. */
  brokers?: ServiceHandle[];
  stop(): Promise<void>;
  /** For `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What differs between the three, in one place. */
const KINDS = {
  redis: { variable: 'DIBS_REDIS_URL', address: ({ redis }: Ports) => redisUrl(redis), answers: redisAnswers },
  postgres: {
    variable: 'DIBS_DATABASE_URL',
    address: ({ postgres }: Ports) => databaseUrl(postgres),
    answers: postgresAnswers,
  },
  kafka: {
    variable: 'DIBS_KAFKA_BROKERS',
    address: ({ kafka, kafkaMore }: Ports) => kafkaBrokers(kafka, ...kafkaMore.map(([port]) => port)),
    answers: (address: string) => kafkaAnswers(address),
  },
} as const;

/** Resolves when every server answers. When one cannot be had, the others are stopped and the error says why. */
export async function startServices(options: ServicesOptions = {}): Promise<Services> {
  const names = options.only ?? NAMES;
  const given = new Map(names.map(name => [name, options.own ? undefined : process.env[KINDS[name].variable]]));
  const missing = names.filter(name => !given.get(name));
  for (const name of names) await assertAnswers(name, given.get(name));
  const set = await startSet(missing, options);
  const brokers = set.servers.filter(({ name }) => name === 'kafka');
  // Of several brokers the first is the one.
  const handles = Object.fromEntries([...set.servers].reverse().map(server => [server.name, server]));
  const addressOf = (name: ServerName): string =>
    given.get(name) || (missing.includes(name) ? KINDS[name].address(set.ports) : '');
  return {
    redisUrl: addressOf('redis'),
    databaseUrl: addressOf('postgres'),
    kafkaBrokers: addressOf('kafka'),
    ...handles,
    ...(brokers.length > 0 && { brokers }),
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
  /** In the order of their names, brokers in that of their ids. */
  servers: Server[];
  stop(): Promise<void>;
}

async function startSet(names: readonly ServerName[], options: ServicesOptions): Promise<StartedSet> {
  const ports = await portsOf(options.ports ?? {}, options.brokers ?? 1);
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
    names
      .flatMap(name => specsOf(name, dir, ports, options))
      .map(async made => {
        const spec = await made;
        state.servers.push(spec);
        state.addresses[KINDS[spec.name].variable] = KINDS[spec.name].address(ports);
        writeState(dir, state);
        const server = new Server(spec, { detached });
        servers.push(server);
        if (!options.keep) await server.wipe();
        await server.start();
        return server;
      }),
  );
  const failed = started.find(result => result.status === 'rejected');
  if (failed) {
    await stop();
    throw failed.reason;
  }
  if (detached) for (const server of servers) disown(server);
  return { ports, servers: started.flatMap(result => (result.status === 'fulfilled' ? [result.value] : [])), stop };
}

async function portsOf(wanted: Partial<Ports>, brokers: number): Promise<Ports> {
  const kafkaMore = [...(wanted.kafkaMore ?? [])];
  while (kafkaMore.length < brokers - 1) kafkaMore.push([await freePort(), await freePort()]);
  return {
    kafkaMore,
    redis: wanted.redis ?? (await freePort()),
    postgres: wanted.postgres ?? (await freePort()),
    kafka: wanted.kafka ?? (await freePort()),
    kafkaController: wanted.kafkaController ?? (await freePort()),
  };
}

function specsOf(name: ServerName, dir: string, ports: Ports, options: ServicesOptions): Promise<ServerSpec>[] {
  const args = options.args?.[name] ?? [];
  const common = { dir, port: ports[name], args, log: options.log ?? (() => {}) };
  switch (name) {
    case 'redis':
      return [redisSpec(common)];
    case 'postgres':
      return [postgresSpec(common)];
    case 'kafka':
      return brokerSpecs(common, ports);
  }
}

/** Each further broker has a folder of its own in the set's. */
function brokerSpecs(common: ServerOptions, { kafka, kafkaController, kafkaMore }: Ports): Promise<ServerSpec>[] {
  if (kafkaMore.length === 0) return [kafkaSpec({ ...common, controllerPort: kafkaController })];
  const pairs = [[kafka, kafkaController] as const, ...kafkaMore];
  const controllerPorts = pairs.map(([, controllerPort]) => controllerPort);
  return pairs.map(([port, controllerPort], i) => {
    const dir = i === 0 ? common.dir : join(common.dir, `broker-${i + 1}`);
    return kafkaSpec({ ...common, dir, port, controllerPort, member: { id: i + 1, controllerPorts } });
  });
}
