/**
 * dibs as it runs in earnest: processes of their own on real servers. A test breaks servers of its own and shares
 * the others; each cluster has names of its own on them.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import pg from 'pg';
import { type ServerName, type Services, type ServicesOptions, startServices } from '../../scripts/services.ts';
import { type Client, createClient } from '../../src/client/index.ts';
import type { KillPoint } from './kill-points.ts';
import type { FromNode, ToNode } from './node-process.ts';
import { eventually, type RowOfSale, Sale, testTiming } from './sale.ts';
import { secretsOf, Unsaid } from './unsaid.ts';

export const noServices = process.env.DIBS_TEST_SERVICES === 'none' && 'no services (DIBS_TEST_SERVICES=none)';

const allServers: readonly ServerName[] = ['redis', 'postgres', 'kafka'];

/** Servers of our own for what the test breaks; the others from the environment, or of our own as well. */
export async function serversFor(
  own: readonly ServerName[],
  args: ServicesOptions['args'] = {},
  needed: readonly ServerName[] = allServers,
): Promise<Services> {
  const shared = needed.filter(name => !own.includes(name));
  const sets = await Promise.all([
    startServices({ own: true, only: own, args }),
    ...(shared.length > 0 ? [startServices({ only: shared })] : []),
  ]);
  const stop = async () => void (await Promise.all(sets.map(set => set.stop())));
  const given = sets.map(set => Object.fromEntries(Object.entries(set).filter(([, value]) => value !== '')));
  return { ...(Object.assign({}, ...given) as Services), stop, [Symbol.asyncDispose]: stop };
}

export type Flags = Record<string, string>;

export interface ProcessOptions {
  /** A module that is loaded ahead of the program. */
  preload?: string;
  env?: Record<string, string>;
}

/** Of what a process printed, so much is kept. */
const linesMax = 10_000;

/** One process of dibs. */
export class TestNode {
  url = '';
  /** What it said last. */
  readonly lines: string[] = [];
  private readonly unsaid: Unsaid;
  /** Resolves with the signal or code that it ended with. */
  private readonly ended: Promise<string>;
  private readonly child: ChildProcess;

  private constructor(flags: Flags, { preload, env: more }: ProcessOptions) {
    this.child = fork(join(import.meta.dirname, 'node-process.ts'), {
      env: {
        ...process.env,
        ...more,
        NODE_COMPILE_CACHE: join(import.meta.dirname, '../../.cache/compiled'),
        DIBS_TEST_FLAGS: JSON.stringify(flags),
      },
      execArgv: preload ? ['--import', pathToFileURL(preload).href] : [],
      silent: true,
    });
    this.unsaid = new Unsaid(secretsOf(flags));
    for (const output of [this.child.stdout, this.child.stderr]) {
      this.unsaid.listen(output, line => {
        this.lines.push(`${line}\n`);
        if (this.lines.length > linesMax) this.lines.shift();
        if (process.env.DIBS_TEST_LOG) process.stderr.write(`${this.child.pid} ${line}\n`);
      });
    }
    // What it said last may be read behind the news of its end.
    const heardOut = once(this.child, 'disconnect');
    this.ended = Promise.all([once(this.child, 'exit'), heardOut]).then(([[code, signal]]) => String(signal ?? code));
  }

  /** Resolves once it can accept. */
  static async start(flags: Flags, options: ProcessOptions = {}): Promise<TestNode> {
    const node = new TestNode(flags, options);
    try {
      const ready = await node.heard('ready');
      node.url = ready.kind === 'ready' ? ready.url : '';
      return node;
    } catch (error) {
      await node.kill();
      throw error;
    }
  }

  get pid(): number {
    return this.child.pid as number;
  }

  get isAlive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Lines in which it says what it was given and must keep to itself. */
  get leaks(): readonly string[] {
    return this.unsaid.found;
  }

  get client(): Client {
    return createClient({ baseUrl: this.url, timing: testTiming });
  }

  /** From now on this kill point strikes. */
  async arm(point: KillPoint): Promise<void> {
    this.send({ kind: 'arm', point });
    // One that is struck at once may not get to say so.
    await Promise.race([this.ended, this.heard('armed')]);
  }

  pause(): void {
    this.child.kill('SIGSTOP');
  }

  resume(): void {
    this.child.kill('SIGCONT');
  }

  /** The signal or code that it ended with by itself. @throws after `msMax` */
  async end(msMax = 20_000): Promise<string> {
    let how: string | undefined;
    void this.ended.then(ended => {
      how = ended;
    });
    return (await eventually(
      'the process has ended',
      () => how,
      ended => ended !== undefined,
      msMax,
    )) as string;
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  async stop(): Promise<void> {
    if (this.child.connected) this.send({ kind: 'stop' });
    await this.ended;
  }

  /** CPU time used so far, ms; Linux counts it in ticks of 10 ms. */
  cpuMs(): number {
    const fields = this.stat();
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  /** One letter, Linux's: T while it is stopped. */
  state(): string | undefined {
    return this.stat()[0];
  }

  /** The sum of a counter of /metrics, over all labels that contain `label`. */
  async metric(name: string, label = ''): Promise<number> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const lines = text.split('\n').filter(line => line.startsWith(name) && line.includes(label));
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  }

  private stat(): string[] {
    return readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  }

  private send(message: ToNode): void {
    this.child.send(message);
  }

  private heard(kind: FromNode['kind']): Promise<FromNode> {
    return new Promise((resolve, reject) => {
      const listen = (message: FromNode) => {
        if (message.kind !== kind && message.kind !== 'failed') return;
        this.child.off('message', listen);
        if (message.kind === 'failed') reject(new Error(message.message));
        else resolve(message);
      };
      this.child.on('message', listen);
      void this.ended.then(how =>
        reject(new Error(`the process ended (${how}): ${this.lines.join('').slice(-2_000)}`)),
      );
    });
  }
}

export interface NodeOptions extends ProcessOptions {
  /** With one it comes back where its clients know it. */
  port?: number;
  secret?: string;
  tickMs?: string;
}

let clusters = 0;

/** Processes that share servers, names and a secret. */
export class Cluster {
  readonly services: Services;
  readonly namespace: string;
  readonly flags: Flags;
  private readonly nodes: TestNode[] = [];
  private readonly sales: Sale[] = [];
  private pool: pg.Pool | undefined;

  constructor(services: Services, flags: Flags = {}) {
    this.services = services;
    this.namespace = `f${process.pid}_${++clusters}`;
    this.flags = {
      profile: 'cluster',
      auth: 'none',
      secret: 'a secret that all processes of the test share',
      namespace: this.namespace,
      partitions: '1',
      logLevel: process.env.DIBS_TEST_LOG ?? 'warn',
      kafkaBrokers: services.kafkaBrokers,
      redisUrl: services.redisUrl,
      databaseUrl: services.databaseUrl,
      ...flags,
    };
  }

  /** `roles` as in DIBS_ROLES. */
  async node(roles: string, { port = 0, preload, env = {}, ...flags }: NodeOptions = {}): Promise<TestNode> {
    const started = { ...this.flags, ...flags, roles, port: String(port) };
    const node = await TestNode.start(started, { env, ...(preload === undefined ? {} : { preload }) });
    this.nodes.push(node);
    return node;
  }

  /** Of all its processes, those too that have ended. */
  get leaks(): string[] {
    return this.nodes.flatMap(node => node.leaks);
  }

  /** In the cluster's schema. */
  async sql<T extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<T[]> {
    if (!this.pool) {
      const options = `-c search_path=dibs_${this.namespace}`;
      this.pool = new pg.Pool({ connectionString: this.services.databaseUrl, max: 2, options });
      this.pool.on('error', () => {});
      this.pool.on('connect', client => client.on('error', () => {}));
    }
    return (await this.pool.query<T>(text, values)).rows;
  }

  rows(couponId: string): Promise<RowOfSale[]> {
    return this.sql<RowOfSale>(
      'select slot, user_id as "userId", "offset"::float8 from user_coupon where coupon_id = $1 order by slot',
      [couponId],
    );
  }

  /** Opens a sale whose crowd presses at `node`. */
  async sale(couponId: string, node: () => TestNode, stock = 200): Promise<Sale> {
    const sale = await Sale.open({ couponId, stock, url: () => node().url, rows: id => this.rows(id) });
    this.sales.push(sale);
    return sale;
  }

  /** Ends its processes; the servers stay. */
  async stop(): Promise<void> {
    for (const sale of this.sales) sale.close();
    for (const node of this.nodes) node.resume();
    await Promise.all(this.nodes.map(node => node.kill()));
    await this.pool?.end();
  }
}
