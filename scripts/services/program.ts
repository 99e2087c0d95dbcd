/** Programs: found where they are, else installed with apt-get when this is Debian (or its like) and we are root. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify, stripVTControlCharacters } from 'node:util';
import { identity } from './process.ts';

export const ROOT = join(import.meta.dirname, '..', '..');
/** What is fetched or made once: jars, templates. Git ignores it; deleting it costs only time. */
export const CACHE = join(ROOT, '.cache');

/** A registry that is slow for a moment should not fail a run. */
const FETCH_ATTEMPTS_MAX = 3;
const FETCH_RETRY_MS = 2_000;
const LOCK_MS_MAX = 600_000;
const LOCK_POLL_MS = 200;
const OUTPUT_BYTES_MAX = 16 << 20;
const OUTPUT_TAIL_CHARS = 1_000;

export type Log = (line: string) => void;

export interface ServerOptions {
  /** The set's folder, absolute. */
  dir: string;
  port: number;
  args: readonly string[];
  log: Log;
}

const execFileAsync = promisify(execFile);

/** Runs a program to its end; resolves to what it printed. The error holds the end of what it printed. */
export async function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  try {
    return (await execFileAsync(file, args, { maxBuffer: OUTPUT_BYTES_MAX, ...options })).stdout;
  } catch (cause) {
    const { stdout = '', stderr = '', message } = cause as Error & { stdout?: string; stderr?: string };
    const said = stripVTControlCharacters(`${stdout}${stderr}`).trim().slice(-OUTPUT_TAIL_CHARS);
    throw new Error(`${file} ${args.join(' ')} failed: ${said || message}`, { cause });
  }
}

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  uid?: number;
  gid?: number;
}

/** The program's path, or undefined. `folders` are looked at before PATH. */
export function find(program: string, folders: readonly string[] = []): string | undefined {
  const path = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  return [...folders, ...path].map(folder => join(folder, program)).find(file => existsSync(file));
}

/** Installs Debian packages. `services` are those that the packages would start by themselves; they stay off. */
export async function install(packages: readonly string[], services: readonly string[], log: Log): Promise<void> {
  const names = packages.join(' ');
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    throw new Error(`${names} is not there: install it, or give the address of a running server in DIBS_*.`);
  }
  await withLock('apt', async () => {
    log(`installing ${names} with apt-get`);
    await withServicesOff(services, async () => {
      try {
        await retried(() => aptGet(['install', '--no-install-recommends', ...packages]));
      } catch (cause) {
        throw new Error(`apt-get could not install ${names}: install it by hand. ${(cause as Error).message}`, {
          cause,
        });
      }
    });
  });
}

let listsAreFresh = false;

async function aptGet(args: readonly string[]): Promise<void> {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const options = ['-o', 'DPkg::Lock::Timeout=300', '-qq', '-y'];
  if (!listsAreFresh) await run('apt-get', [...options, 'update'], { env });
  listsAreFresh = true;
  await run('apt-get', [...options, ...args], { env });
}

/** Debian starts a server when its package is installed, unless this file says no. */
async function withServicesOff(services: readonly string[], body: () => Promise<void>): Promise<void> {
  const policy = '/usr/sbin/policy-rc.d';
  const ours = !existsSync(policy);
  if (ours) {
    await writeFile(policy, '#!/bin/sh\nexit 101\n');
    await chmod(policy, 0o755);
  }
  try {
    await body();
    // Nor at the next boot. Fails where nothing of the kind is installed, and then there is nothing to disable.
    for (const service of services) await run('update-rc.d', [service, 'disable']).catch(() => '');
  } finally {
    if (ours) await rm(policy, { force: true });
  }
}

export async function retried<T>(body: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await body();
    } catch (error) {
      if (attempt === FETCH_ATTEMPTS_MAX) throw error;
      await sleep(FETCH_RETRY_MS);
    }
  }
}

/** One process at a time in this tree. A lock whose holder is dead is taken over. */
export async function withLock<T>(name: string, body: () => Promise<T>): Promise<T> {
  const file = join(CACHE, `${name}.lock`);
  const me = identity(process.pid);
  await mkdir(dirname(file), { recursive: true });
  const deadline = Date.now() + LOCK_MS_MAX;
  while (!(await tryLock(file, me))) {
    // The holder may have let go since.
    const holder = await readFile(file, 'utf8').catch(() => '');
    if (holder !== '' && holder !== identity(Number.parseInt(holder, 10))) await rm(file, { force: true });
    if (Date.now() > deadline) throw new Error(`${file} is held by ${holder} for too long: end it or delete the file.`);
    await sleep(LOCK_POLL_MS);
  }
  try {
    return await body();
  } finally {
    await rm(file, { force: true });
  }
}

async function tryLock(file: string, me: string): Promise<boolean> {
  try {
    const handle = await open(file, 'wx');
    await handle.writeFile(me);
    await handle.close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}
