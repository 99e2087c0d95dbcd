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

const cli = join(import.meta.dirname, '../src/cli/main.ts');
const inside = pathToFileURL(join(import.meta.dirname, 'inside.ts')).href;
const readyMsMax = 60_000;
const stopMsMax = 20_000;
const askMsMax = 20_000;

export const targetProfiles = ['embedded', 'cluster'] as const;
export type TargetProfile = (typeof targetProfiles)[number];

export const secret = 'seals the tasks of the attacked server';
const jwtSecret = 'signs the tokens of the attacked server';

/** A bearer token, HS256, good for an hour. */
export function tokenOf(sub: string, claims: object = {}, signedWith = jwtSecret): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const exp = Math.floor(Date.now() / 1_000) + 3_600;
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub, exp, ...claims })}`;
  return `${signed}.${createHmac('sha256', signedWith).update(signed).digest('base64url')}`;
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
  /** What it said at level error or above, or on stderr. */
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
    ...{ 'log-level': 'warn', ...options.flags, ...(services ? addressesOf(services) : { data: folder }) },
  };
  const child = fork(cli, ['serve', ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])], {
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('DIBS_'))),
    execArgv: ['--import', inside, ...execArgv],
    silent: true,
  });
  running.add(child);
  const errors: string[] = [];
  listen(child, errors);
  const url = `http://127.0.0.1:${port}`;
  const stop = async () => {
    await ended(child);
    await services?.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  const target: Target = {
    ...{ url, port, errors, stop, pid: child.pid as number },
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
  ...{ 'redis-url': redisUrl, 'database-url': databaseUrl, 'kafka-brokers': kafkaBrokers },
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

function listen(child: ChildProcess, errors: string[]): void {
  let rest = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() as string;
    for (const line of lines) if (/"level":(50|60)\b/.test(line)) errors.push(line);
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => void errors.push(text.trimEnd()));
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
