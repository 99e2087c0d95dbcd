/**
 * One server, known by its pid file. The same code serves a server which this process started and one which another
 * run left behind, so nothing here holds on to a ChildProcess.
 *
 * A server that belongs to a run dies with it: on Linux the kernel kills it when the run's process ends in any way
 * (`setpriv --pdeathsig`), elsewhere an exit handler does. A detached server outlives the run.
 */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { chown, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertPortFree } from './port.ts';
import { argumentsOf, childrenOf, exists, gone, signal } from './process.ts';

/** A JVM with a cold page cache on two busy cores has taken 20 s. */
const READY_MS_MAX = 90_000;
/** Kafka takes 2 s to stop; past this the server is killed. */
const STOP_MS_MAX = 20_000;
const GONE_MS_MAX = 10_000;
const POLL_MS = 25;
const ENDED_LOOKS = 5;
const LOG_TAIL_CHARS = 2_000;

export type ServerName = 'redis' | 'postgres' | 'kafka';

export interface StartOptions {
  /** Further command-line arguments for this start only, for example `['--appendonly', 'yes']` for Redis. */
  args?: readonly string[];
}

/** A server that we started, to be broken on purpose. Each call may be repeated. */
export interface ServiceHandle {
  readonly name: ServerName;
  readonly port: number;
  readonly dataDir: string;
  /** Of the running server; 0 when it does not run. */
  readonly pid: number;
  /** SIGKILL to the server and its children (Postgres has many); resolves when all are gone. */
  kill(): Promise<void>;
  /** SIGSTOP to the server and its children: connections stay open and nothing answers. Linux only for children. */
  pause(): void;
  resume(): void;
  /** Starts it again, same port, same data; resolves when it answers. */
  start(options?: StartOptions): Promise<void>;
  /** Graceful; killed when it takes more than 20 s. */
  stop(): Promise<void>;
  /** Removes its data; the next start makes it anew. It must not be running. */
  wipe(): Promise<void>;
}

/** Enough to find and to end a server that runs. */
export interface ServerIdentity {
  name: ServerName;
  port: number;
  /** The set's folder, for the pid file and the output. */
  dir: string;
  dataDir: string;
  /** One whole argument of the command that no other process has: the proof that a pid is this server. */
  mark: string;
  stopSignal: NodeJS.Signals;
}

export interface ServerSpec extends ServerIdentity {
  /** Further ports that it listens on. */
  portsMore: readonly number[];
  command: readonly [string, ...string[]];
  user: SystemUser | undefined;
  /** Fills the data folder, which exists and is empty. */
  layData(): Promise<void>;
  /** Rejects until the server answers a real request. */
  answers(): Promise<void>;
}

export interface SystemUser {
  uid: number;
  gid: number;
}

/** Perhaps a running server: all that its identity allows. */
export class FoundServer {
  readonly name: ServerName;
  readonly port: number;
  protected readonly pidFile: string;
  readonly #identity: ServerIdentity;

  constructor(identity: ServerIdentity) {
    this.name = identity.name;
    this.port = identity.port;
    this.pidFile = join(identity.dir, `${identity.name}.pid`);
    this.#identity = identity;
  }

  get dataDir(): string {
    return this.#identity.dataDir;
  }

  get pid(): number {
    const pid = pidIn(this.pidFile);
    return pid !== 0 && exists(pid) && argumentsOf(pid).includes(this.#identity.mark) ? pid : 0;
  }

  async stop(): Promise<void> {
    const pid = this.pid;
    const pids = this.#pids();
    // Stopped by pause(), it would not hear the other signal.
    for (const each of pids) signal(each, 'SIGCONT');
    if (pid !== 0) signal(pid, this.#identity.stopSignal);
    if (!(await gone(pids, STOP_MS_MAX))) await this.kill();
    this.#forget();
  }

  async kill(): Promise<void> {
    const pids = this.#pids();
    for (const each of pids) signal(each, 'SIGKILL');
    if (!(await gone(pids, GONE_MS_MAX))) throw new Error(`${this.name} (pid ${pids[0]}) does not die of SIGKILL.`);
    this.#forget();
  }

  pause(): void {
    for (const pid of this.#pids()) signal(pid, 'SIGSTOP');
  }

  resume(): void {
    for (const pid of this.#pids()) signal(pid, 'SIGCONT');
  }

  async wipe(): Promise<void> {
    if (this.pid !== 0) throw new Error(`${this.name} runs (pid ${this.pid}): stop it before its data is wiped.`);
    await rm(this.#identity.dataDir, { recursive: true, force: true });
  }

  /** For an exit handler: nothing is awaited. */
  killNow(): void {
    for (const pid of this.#pids()) signal(pid, 'SIGKILL');
  }

  /** The server, then its children; empty when it does not run. */
  #pids(): number[] {
    const pid = this.pid;
    return pid === 0 ? [] : [pid, ...childrenOf(pid)];
  }

  #forget(): void {
    rmSync(this.pidFile, { force: true });
    disown(this);
  }
}

/** A server that we can start. */
export class Server extends FoundServer implements ServiceHandle {
  readonly #spec: ServerSpec;
  readonly #detached: boolean;
  readonly #logFile: string;

  constructor(spec: ServerSpec, options: { detached: boolean }) {
    super(spec);
    this.#spec = spec;
    this.#detached = options.detached;
    this.#logFile = join(spec.dir, `${spec.name}.log`);
  }

  async start(options: StartOptions = {}): Promise<void> {
    if (this.pid === 0) {
      for (const port of [this.port, ...this.#spec.portsMore]) await assertPortFree(port, this.name);
      if (!existsSync(this.#spec.dataDir)) await this.#layData();
      await this.#spawn(options.args ?? []);
    }
    await this.#untilAnswers();
  }

  async #layData(): Promise<void> {
    const { dataDir, user } = this.#spec;
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    if (user) await chown(dataDir, user.uid, user.gid);
    try {
      await this.#spec.layData();
    } catch (cause) {
      await rm(dataDir, { recursive: true, force: true });
      throw cause;
    }
  }

  async #spawn(argsMore: readonly string[]): Promise<void> {
    const { command, user } = this.#spec;
    const argv = [...command, ...argsMore];
    const [file = '', ...args] =
      this.#detached || !hasDeathSignal() ? argv : ['setpriv', '--pdeathsig', 'KILL', '--', ...argv];
    const output = openSync(this.#logFile, 'w');
    // A session of its own, so that Ctrl-C reaches the run and the run decides what becomes of its servers.
    const child = spawn(file, args, { cwd: '/', detached: true, stdio: ['ignore', output, output], ...user });
    closeSync(output);
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('spawn', resolve);
    });
    child.unref();
    writeFileSync(this.pidFile, `${child.pid}\n`);
    own(this);
  }

  async #untilAnswers(): Promise<void> {
    const deadline = Date.now() + READY_MS_MAX;
    for (;;) {
      try {
        return await this.#spec.answers();
      } catch (cause) {
        if (await this.#hasEnded()) throw new Error(`${this.name} ended while starting: ${this.#logTail()}`, { cause });
        if (Date.now() < deadline) {
          await sleep(POLL_MS);
          continue;
        }
        await this.kill();
        throw new Error(`${this.name} did not answer within ${READY_MS_MAX} ms: ${this.#logTail()}`, { cause });
      }
    }
  }

  /** While one program becomes another (setpriv, then the server) its command line may for a moment be empty. */
  async #hasEnded(): Promise<boolean> {
    for (let looks = 0; looks < ENDED_LOOKS; looks++) {
      if (this.pid !== 0) return false;
      await sleep(POLL_MS);
    }
    return true;
  }

  #logTail(): string {
    const text = existsSync(this.#logFile) ? readFileSync(this.#logFile, 'utf8').trim() : '';
    return text.slice(-LOG_TAIL_CHARS) || `it said nothing (${this.#logFile}).`;
  }
}

function pidIn(file: string): number {
  try {
    return Number.parseInt(readFileSync(file, 'utf8'), 10) || 0;
  } catch {
    // Nothing was started, or it is stopped.
    return 0;
  }
}

let deathSignal: boolean | undefined;

/** Busybox has a setpriv without this option, and only Linux has any. */
function hasDeathSignal(): boolean {
  deathSignal ??= spawnSync('setpriv', ['--pdeathsig', 'KILL', '--', 'true']).status === 0;
  return deathSignal;
}

/** The servers which must not outlive this process. */
const owned = new Set<FoundServer>();
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function own(server: FoundServer): void {
  if (owned.size === 0) {
    process.on('exit', killOwned);
    for (const name of SIGNALS) process.on(name, onSignal);
  }
  owned.add(server);
}

export function disown(server: FoundServer): void {
  if (!owned.delete(server) || owned.size > 0) return;
  process.off('exit', killOwned);
  for (const name of SIGNALS) process.off(name, onSignal);
}

/** When someone else listens too, that one decides when the process ends, and then the exit handler runs. */
function onSignal(name: NodeJS.Signals): void {
  if (process.listenerCount(name) > 1) return;
  killOwned();
  process.off(name, onSignal);
  process.kill(process.pid, name);
}

function killOwned(): void {
  for (const server of owned) server.killNow();
}
