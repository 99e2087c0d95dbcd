/** The processes that are measured: the echo, and dibs as an operator starts it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../scripts/services/port.ts';
import { out } from './report.ts';

const readyMsMax = 120_000;
const stopMsMax = 30_000;
const pollMs = 5;
const cli = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

export interface Measured {
  url: string;
  pid: number;
  stop(): Promise<void>;
}

export interface Dibs extends Measured {
  /** ms from the start of the process to the first 200 of /readyz. */
  readyMs: number;
  /** Of inside.ts, or gated.ts. */
  ask<T>(question: 'commands' | 'settle' | 'hold' | 'go'): Promise<T>;
  /** As `kill -9`; resolves when it has ended. */
  kill(): Promise<void>;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Long enough for a server to take it. */
export const secret = 'the secret of the benches';

export async function startEcho(): Promise<Measured> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'echo.ts')], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  running.add(child);
  const [{ port }] = (await once(child, 'message')) as [{ port: number }];
  return { url: `http://127.0.0.1:${port}`, pid: child.pid as number, stop: () => ended(child) };
}

export interface DibsOptions {
  /** For its output in bench/out. */
  name: string;
  /** Settings by flag, without dashes. */
  flags: Record<string, string>;
  /** One that is known, so that it comes back where its clients know it. */
  port?: number;
  /** Instead of `dibs serve`. */
  program?: string;
  /** Load inside.ts. */
  inside?: boolean;
  /** Write a CPU profile of its whole life into this folder. */
  profile?: string | undefined;
}

/** Resolves when it can accept. */
export async function startDibs(options: DibsOptions): Promise<Dibs> {
  const { name, flags, inside = false, profile, program } = options;
  const port = options.port ?? (await freePort());
  const url = `http://127.0.0.1:${port}`;
  mkdirSync(out, { recursive: true });
  const logFile = join(out, `${name}.log`);
  const log = openSync(logFile, 'w');
  const all = { port: String(port), auth: 'none', 'log-level': 'warn', ...flags };
  const started = performance.now();
  const child = spawn(
    process.execPath,
    [
      ...(inside ? ['--expose-gc', '--import', join(import.meta.dirname, 'inside.ts')] : []),
      ...(profile ? ['--cpu-prof', '--cpu-prof-dir', profile] : []),
      ...(program === undefined ? [cli, 'serve'] : [program]),
      ...Object.entries(all).flatMap(([flag, value]) => [`--${flag}`, value]),
    ],
    { stdio: inside ? ['ignore', log, log, 'ipc'] : ['ignore', log, log], env: cleanEnvironment() },
  );
  running.add(child);
  while (!(await isReady(url))) {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`dibs ended while starting: ${readFileSync(logFile, 'utf8').trim()}`);
    }
    if (performance.now() - started > readyMsMax)
      throw new Error(`dibs is not ready after ${readyMsMax} ms: see ${logFile}`);
    await sleep(pollMs);
  }
  const readyMs = performance.now() - started;
  return {
    ...{ url, pid: child.pid as number, readyMs },
    stop: () => ended(child),
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, 'exit');
      child.kill('SIGKILL');
      await exit;
    },
    async ask<T>(question: string): Promise<T> {
      child.send(question);
      const [answer] = await once(child, 'message');
      return answer as T;
    },
  };
}

/** A setting of the person who runs this must not change what is measured. */
const cleanEnvironment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('DIBS_')));

const agent = new Agent({ keepAlive: false });

function isReady(url: string): Promise<boolean> {
  return new Promise(resolve => {
    const request = get(`${url}/readyz`, { agent }, res => {
      res.resume();
      resolve(res.statusCode === 200);
    });
    request.on('error', () => resolve(false));
  });
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

export const dropFolders = (): void => rmSync(join(out, 'data'), { recursive: true, force: true });

/** An empty folder for data below bench/out, on the disk of the clone. */
export function emptyFolder(name: string): string {
  const folder = join(out, 'data', name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}
