/** The server that is attacked: `dibs serve` as an operator starts it, with tokens, in a process of its own. */
import { type ChildProcess, fork } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { freePort } from '../scripts/services/port.ts';
import { type Services, startServices } from '../scripts/services.ts';
import { secretsOf, Unsaid, withPassword } from '../test/support/unsaid.ts';

const cli = join(import.meta.dirname, '../src/cli/main.ts');
const inside = pathToFileURL(join(import.meta.dirname, 'inside.ts')).href;
const readyMsMax = 60_000;
const stopMsMax = 20_000;
const askMsMax = 20_000;
/** Of what it says of errors, so many lines are kept. */
const errorsMax = 1_000;

export const targetProfiles = ['embedded', 'cluster'] as const;
export type TargetProfile = (typeof targetProfiles)[number];

export const secret = 'seals the tasks of the attacked server';
const jwtSecret = 'signs the tokens of the attacked server';

/** Letters of Base64 in a row that are no id of anybody's choice (64), but a task's (its shortest has 70). */
const taskIdLike = /[\w-]{70}/;
/** How each JWT begins: `{"` in Base64. */
const tokenLike = /eyJ[\w-]{10}/;
/** The last part of those that were signed here, which opens nothing alone but is part of what does. */
const signatures = new Set<string>();
const signaturesMax = 1_000_000;
const signatureLike = /[\w-]{43}/g;

/** Whether a line says a token, its signature, or a task id: who has one of these is taken for its owner. */
export const saysCapability = (line: string): boolean =>
  tokenLike.test(line) ||
  taskIdLike.test(line) ||
  (line.match(signatureLike) ?? []).some(letters => signatures.has(letters));

/** A bearer token, HS256, good for an hour. */
export function tokenOf(sub: string, claims: object = {}, signedWith = jwtSecret): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const exp = Math.floor(Date.now() / 1_000) + 3_600;
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub, exp, ...claims })}`;
  const signature = createHmac('sha256', signedWith).update(signed).digest('base64url');
  if (signatures.size < signaturesMax) signatures.add(signature);
  return `${signed}.${signature}`;
}

export interface Stalled {
  /** ms that a turn of the event loop was late at most, and in 999 of 1,000 looks. */
  maxMs: number;
  p999Ms: number;
}

export interface Target {
  url: string;
  port: number;
  pid: number;
  readonly isAlive: boolean;
  /** What it said at level error or above, or on stderr; and, of whatever level, what it must not say at all. */
  readonly errors: readonly string[];
  /** Since it was asked last. */
  stalled(): Promise<Stalled>;
  /** Ends it, and takes away what it kept. */
  stop(): Promise<void>;
}

export interface TargetOptions {
  profile?: TargetProfile;
  /** `none`: whoever says a name has it. */
  auth?: 'jwt' | 'none';
  /** Settings by flag, without dashes. */
  flags?: Readonly<Record<string, string>>;
  /** For node, as to profile it. */
  execArgv?: readonly string[];
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Resolves when it can accept. */
export async function startTarget(options: TargetOptions = {}): Promise<Target> {
  const { profile = 'embedded', auth = 'jwt', execArgv = [] } = options;
  const folder = mkdtempSync(join(tmpdir(), 'dibs-attack-'));
  const services = profile === 'cluster' ? await startServices({ own: true }) : undefined;
  const port = await freePort();
  const flags = {
    ...{ port: String(port), profile, auth, secret, 'jwt-secret': auth === 'jwt' ? jwtSecret : '' },
    // Debug has no line for a request, only for what fails: it is all searched, and costs an honest user nothing.
    ...{ 'log-level': 'debug', ...options.flags, ...(services ? addressesOf(services) : { data: folder }) },
  };
  const child = fork(cli, ['serve', ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])], {
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('DIBS_'))),
    execArgv: ['--import', inside, ...execArgv],
    silent: true,
  });
  running.add(child);
  const said = new Said(child, secretsOf({ ...flags, jwtSecret: flags['jwt-secret'] }));
  const url = `http://127.0.0.1:${port}`;
  const stop = async () => {
    await ended(child);
    await services?.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  const target: Target = {
    ...{ url, port, stop, pid: child.pid as number },
    get errors() {
      return said.all;
    },
    get isAlive() {
      return child.exitCode === null && child.signalCode === null;
    },
    async stalled() {
      child.send('stalled');
      const [answer] = await once(child, 'message', { signal: AbortSignal.timeout(askMsMax) });
      return answer as Stalled;
    },
  };
  try {
    await ready(target);
    await target.stalled();
    return target;
  } catch (error) {
    await stop();
    throw error;
  }
}

const addressesOf = ({ redisUrl, databaseUrl, kafkaBrokers }: Services) => ({
  ...{ 'redis-url': redisUrl, 'database-url': withPassword(databaseUrl), 'kafka-brokers': kafkaBrokers },
});

async function ready(target: Target): Promise<void> {
  const end = performance.now() + readyMsMax;
  for (;;) {
    const answer = await fetch(`${target.url}/readyz`).catch(() => undefined);
    if (answer?.ok) return;
    if (!target.isAlive) throw new Error(`the server ended while starting: ${target.errors.join('\n')}`);
    if (performance.now() > end) throw new Error(`the server is not ready after ${readyMsMax} ms`);
    await sleep(20);
  }
}

/** All that it prints is looked at, and what is an error of it is kept. */
class Said {
  private readonly unsaid: Unsaid;
  private readonly errors: string[] = [];

  constructor(child: ChildProcess, secrets: readonly string[]) {
    this.unsaid = new Unsaid(secrets, saysCapability);
    this.unsaid.listen(child.stdout, line => {
      if (/"level":(50|60)\b/.test(line)) this.keep(line);
    });
    this.unsaid.listen(child.stderr, line => this.keep(line));
  }

  get all(): string[] {
    return [...this.unsaid.found.map(line => `a secret, a token or a task id: ${line}`), ...this.errors];
  }

  private keep(line: string): void {
    if (this.errors.length < errorsMax) this.errors.push(line);
  }
}

async function ended(child: ChildProcess): Promise<void> {
  running.delete(child);
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  const late = setTimeout(() => child.kill('SIGKILL'), stopMsMax);
  await exit;
  clearTimeout(late);
}
