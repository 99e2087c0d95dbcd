/**
 * A set: the servers of one folder. Its `services.json` says who owns it and what runs where, so that two runs never
 * share a folder by mistake, and what a crashed run left behind is found and ended.
 */
import { writeFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { identity } from './process.ts';
import { ROOT } from './program.ts';
import { FoundServer, type ServerIdentity } from './server.ts';

/** Where sets live; git ignores it. */
export const SETS = join(ROOT, '.services');
const PASSING = /^set-(\d+)-\d+$/;
/** The owner of a set that outlives the run which started it. */
const NOBODY = 'nobody';

export interface Ports {
  redis: number;
  postgres: number;
  kafka: number;
  kafkaController: number;
  /** Of each broker after the first: its own and its controller's. */
  kafkaMore: (readonly [number, number])[];
}

export interface SetState {
  /** The identity of the process whose end is the end of the set. */
  owner: string;
  /** As DIBS_* variables. */
  addresses: Record<string, string>;
  servers: ServerIdentity[];
}

const stateFile = (dir: string): string => join(dir, 'services.json');

export async function readState(dir: string): Promise<SetState | undefined> {
  try {
    return JSON.parse(await readFile(stateFile(dir), 'utf8'));
  } catch (error) {
    // A half-written file was not yet anybody's set.
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** At once, because servers that start together each add themselves. */
export function writeState(dir: string, state: SetState): void {
  writeFileSync(stateFile(dir), `${JSON.stringify(state, null, 2)}\n`);
}

export const ownerOf = (detached: boolean): string => (detached ? NOBODY : identity(process.pid));

export const running = (state: SetState): FoundServer[] =>
  state.servers.map(server => new FoundServer(server)).filter(server => server.pid !== 0);

/** Takes the folder for this process, after ending what a crashed run left in it. Refuses when someone uses it. */
export async function claim(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true });
  const state = await readState(dir);
  if (!state) return;
  const alive = running(state);
  if (state.owner === NOBODY && alive.length > 0) {
    throw new Error(`${dir} has servers running: stop them with 'scripts/services.ts stop --dir ${dir}' first.`);
  }
  if (isAlive(state.owner)) {
    throw new Error(`${dir} is in use by process ${state.owner.split(' ')[0]}: end it or choose another folder.`);
  }
  await Promise.all(alive.map(server => server.stop()));
  await release(dir);
}

/** The folder is free again; its data stays. */
export async function release(dir: string): Promise<void> {
  await rm(stateFile(dir), { force: true });
}

/** A folder for a set that lasts as long as this process, or shorter. */
export async function passingDir(): Promise<string> {
  await sweep();
  passing += 1;
  return join(SETS, `set-${process.pid}-${passing}`);
}

let passing = 0;

/** Removes the folders of runs that were killed before they could. */
async function sweep(): Promise<void> {
  await mkdir(SETS, { recursive: true });
  for (const name of await readdir(SETS)) {
    const pid = Number(PASSING.exec(name)?.[1]);
    if (Number.isNaN(pid)) continue;
    const state = await readState(join(SETS, name));
    if (!isAlive(state?.owner ?? identity(pid))) await remove(join(SETS, name), state?.servers ?? []);
  }
}

/** Ends what runs in the set and removes all of it. */
export async function remove(dir: string, servers: readonly ServerIdentity[]): Promise<void> {
  for (const server of servers.map(each => new FoundServer(each))) {
    await server.kill();
    await server.wipe();
  }
  await rm(dir, { recursive: true, force: true, maxRetries: 3 });
}

function isAlive(owner: string): boolean {
  return !owner.endsWith('gone') && owner === identity(Number.parseInt(owner, 10));
}
