/** Where the torture happens: servers of its own, where a fault needs them, and processes of each role. */
import { freePort } from '../scripts/services/port.ts';
import { type ServerName, type ServiceHandle, type Services, startServices } from '../scripts/services.ts';
import { openForReading } from '../src/app.ts';
import type { Dump, DumpLine } from '../src/checker/dump.ts';
import { dumpLines } from '../src/cli/dump.ts';
import type { Client } from '../src/client/index.ts';
import { loadConfig } from '../src/config.ts';
import { Cluster, type Flags, type NodeOptions, serversFor, type TestNode } from '../test/support/cluster.ts';
import { eventually } from '../test/support/sale.ts';
import { withPassword } from '../test/support/unsaid.ts';
import { TcpProxy } from './proxy.ts';

/** The group's session is 6 s: after this long another process has taken over what a frozen one held. */
export const frozenMs = 8_000;

const slots = { api1: 'api', api2: 'api', reserve: 'reserve', persist: 'persist', stats: 'stats' } as const;
export type Slot = keyof typeof slots;
const apiSlots = ['api1', 'api2'] as const satisfies Slot[];
export const slotNames = Object.keys(slots) as Slot[];

/** Between whom a proxy may stand: the crowd and the API, the processes and a server. */
export const pairs = ['crowd', 'redis', 'postgres', 'kafka'] as const;
export type Pair = (typeof pairs)[number];

/** What an arena has of its own: servers that are broken, proxies in front of all, or three brokers. */
export type Own = readonly ServerName[] | 'proxied' | 'brokers';

export interface Ground {
  services: Services;
  /** The servers are this arena's alone. */
  own: boolean;
  proxies: Map<Pair, TcpProxy[]>;
}

/** Servers of its own, each behind a proxy, and proxies in front of the API processes at `apis`. */
async function proxied(apis: readonly number[]): Promise<Ground> {
  const ports = { redis: await freePort(), postgres: await freePort(), kafka: await freePort() };
  const proxies = new Map<Pair, TcpProxy[]>();
  for (const name of ['redis', 'postgres', 'kafka'] as const) proxies.set(name, [await TcpProxy.start(ports[name])]);
  proxies.set('crowd', await Promise.all(apis.map(port => TcpProxy.start(port))));
  const portOf = (name: Pair) => proxies.get(name)?.[0]?.port as number;
  // A client goes on with the address that the broker tells it.
  const kafka = ['--override', `advertised.listeners=PLAINTEXT://127.0.0.1:${portOf('kafka')}`];
  const services = await startServices({ own: true, ports, args: { kafka } });
  const behind = (address: string, name: Exclude<Pair, 'crowd'>) =>
    address.replace(`:${ports[name]}`, `:${portOf(name)}`);
  return {
    own: true,
    proxies,
    services: {
      ...services,
      redisUrl: behind(services.redisUrl, 'redis'),
      databaseUrl: behind(services.databaseUrl, 'postgres'),
      kafkaBrokers: behind(services.kafkaBrokers, 'kafka'),
    },
  };
}

async function groundOf(own: Own, apis: readonly number[], shared: Services | undefined): Promise<Ground> {
  const proxies: Ground['proxies'] = new Map();
  if (own === 'proxied') return proxied(apis);
  if (own === 'brokers') return { own: true, proxies, services: await startServices({ own: true, brokers: 3 }) };
  if (own.length === 0 && shared) return { own: false, proxies, services: shared };
  return { own: true, proxies, services: await serversFor(own) };
}

/** Where a round can be held. */
export interface Ring {
  /** Where the crowd presses. */
  readonly urls: readonly string[];
  /** Everything runs, nothing is frozen, and no process is other than it should be. */
  heal(): Promise<void>;
  /** All that is in the log is decided and stored, and verify finds nothing. */
  drained(): Promise<void>;
  dump(): Promise<Dump>;
  /** Alarms that a process gives. */
  alarms(): Promise<string[]>;
  /** Lines in which a process says a secret that it was given. */
  readonly leaks: readonly string[];
  close(): Promise<void>;
}

export class Arena implements Ring {
  readonly cluster: Cluster;
  readonly services: Services;
  private readonly nodes = new Map<Slot, TestNode>();
  private readonly ports = new Map<Slot, number>();
  private readonly options = new Map<Slot, NodeOptions>();
  private readonly ground: Ground;

  private constructor(ground: Ground, apis: readonly number[], flags: Flags) {
    this.services = ground.services;
    this.ground = ground;
    const safe = { replication: '3', minInsync: '2' };
    this.cluster = new Cluster(ground.services, {
      partitions: '2',
      // All that can be said is searched for secrets.
      logLevel: 'debug',
      databaseUrl: withPassword(ground.services.databaseUrl),
      ...(this.brokers.length === 3 && safe),
      ...flags,
    });
    apiSlots.forEach((slot, i) => void this.ports.set(slot, apis[i] as number));
  }

  /** `shared`: servers that others use too, which a fault must not break. */
  static async open(own: Own, shared?: Services, flags: Flags = {}): Promise<Arena> {
    const apis = [await freePort(), await freePort()];
    const arena = new Arena(await groundOf(own, apis, shared), apis, flags);
    try {
      // The first makes topics and tables.
      await arena.start('api1');
      await Promise.all(slotNames.filter(slot => slot !== 'api1').map(slot => arena.start(slot)));
      return arena;
    } catch (error) {
      await arena.close();
      throw error;
    }
  }

  node(slot: Slot): TestNode {
    return this.nodes.get(slot) as TestNode;
  }

  server(name: ServerName): ServiceHandle {
    return this.services[name] as ServiceHandle;
  }

  /** Of Kafka, by id from 1. */
  get brokers(): readonly ServiceHandle[] {
    return this.services.brokers ?? [];
  }

  get urls(): string[] {
    const ports = this.ground.proxies.get('crowd')?.map(({ port }) => port);
    return (ports ?? apiSlots.map(slot => this.ports.get(slot))).map(port => `http://127.0.0.1:${port}`);
  }

  proxies(pair: Pair): TcpProxy[] {
    return this.ground.proxies.get(pair) ?? [];
  }

  /** Also again, where its clients know it. `options` hold until the next start. */
  async start(slot: Slot, options: NodeOptions = {}): Promise<TestNode> {
    const port = this.ports.get(slot) ?? 0;
    this.options.set(slot, options);
    const node = await this.cluster.node(slots[slot], { ...options, port });
    this.nodes.set(slot, node);
    return node;
  }

  async restart(slot: Slot, options: NodeOptions = {}): Promise<TestNode> {
    await this.node(slot).kill();
    return this.start(slot, options);
  }

  async heal(): Promise<void> {
    for (const pair of pairs) for (const proxy of this.proxies(pair)) proxy.set('pass');
    const { redis, postgres } = this.services;
    const servers = [redis, postgres, ...this.brokers].filter(server => server !== undefined);
    for (const server of servers) server.resume();
    // Brokers of one cluster may need each other to begin.
    await Promise.all(servers.map(server => server.start()));
    for (const slot of slotNames) {
      const node = this.node(slot);
      node.resume();
      const odd = Object.keys(this.options.get(slot) ?? {}).length > 0;
      if (!node.isAlive || odd) await this.restart(slot);
    }
  }

  drained(): Promise<void> {
    return drained(this.node('api1').client);
  }

  dump(): Promise<Dump> {
    return dumpOf(this.cluster.flags);
  }

  async alarms(): Promise<string[]> {
    return (await Promise.all(slotNames.map(slot => alarmOf(slot, this.node(slot).url)))).flat();
  }

  get leaks(): readonly string[] {
    return this.cluster.leaks;
  }

  async close(): Promise<void> {
    await this.cluster.stop();
    if (this.ground.own) await this.services.stop();
    await Promise.all(pairs.flatMap(pair => this.proxies(pair).map(proxy => proxy.close())));
  }
}

export async function drained(client: Client): Promise<void> {
  await eventually(
    'all is decided and stored, and verify finds nothing',
    () => client.verify(),
    report => report.ok && report.behind === 0 && report.unanswered === 0,
    30_000,
  );
}

export async function dumpOf(flags: Flags): Promise<Dump> {
  const ports = await openForReading(loadConfig({ flags: { ...flags, logLevel: 'silent' } }));
  try {
    const dump: Dump = { entries: [], rows: [], letters: [] };
    for await (const line of dumpLines(ports)) keep(line, dump);
    return dump;
  } finally {
    await ports.close();
  }
}

export async function alarmOf(name: string, url: string): Promise<string[]> {
  const answer = await fetch(`${url}/readyz`).catch(() => undefined);
  const why = answer && !answer.ok ? String(((await answer.json()) as { detail?: unknown }).detail) : '';
  return / stopped: |ALARM/.test(why) ? [`${name}: ${why}`] : [];
}

function keep(line: DumpLine, dump: Dump): void {
  switch (line.kind) {
    case 'entry':
      dump.entries.push(line);
      return;
    case 'row':
      dump.rows.push(line);
      return;
    case 'letter':
      dump.letters.push(line);
  }
}
