/** What the system tells of processes that this one need not have started. Complete on Linux, enough elsewhere. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 25;
/** Some containers have a first process that never asks. */
const REAP_MS_MAX = 2_000;

export function argumentsOf(pid: number): string[] {
  if (process.platform !== 'linux') {
    const answer = spawnSync('ps', ['-ww', '-o', 'args=', '-p', String(pid)], { encoding: 'utf8' });
    return answer.status === 0 ? answer.stdout.trim().split(' ') : [];
  }
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    // It has ended.
    return [];
  }
}

/** When the process started, in clock ticks since boot; undefined when there is none. With the pid it is unique. */
export function startedAt(pid: number): string | undefined {
  return statOf(pid)?.[19];
}

export function childrenOf(pid: number): number[] {
  if (process.platform !== 'linux') return [];
  const pids = readdirSync('/proc').map(Number).filter(Number.isInteger);
  return pids.filter(each => statOf(each)?.[1] === String(pid));
}

/** /proc/PID/stat from its third field on: state, parent, ... The name before it may hold blanks and brackets. */
function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    // It has ended.
    return undefined;
  }
}

/** False for a zombie: all of it is gone but its number. */
export function exists(pid: number): boolean {
  if (process.platform !== 'linux') return hasNumber(pid);
  const state = statOf(pid)?.[0];
  return state !== undefined && (state !== 'Z' || threadsOf(pid) > 1);
}

/** A JVM's first thread may be a zombie while others still close its ports. */
function threadsOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/task`).length;
  } catch {
    // It has ended.
    return 0;
  }
}

/** True for a zombie too: the number is not free before the parent has asked how it ended. */
function hasNumber(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/**
 * Resolves to false when one of them lives on after `msMax`. The first one's number is free too when the parent is
 * prompt: Postgres does not start while the number in its lock file is someone's.
 */
export async function gone(pids: readonly number[], msMax: number): Promise<boolean> {
  const deadline = Date.now() + msMax;
  while (pids.some(exists)) {
    if (Date.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  const reaped = Date.now() + REAP_MS_MAX;
  while (pids[0] !== undefined && hasNumber(pids[0]) && Date.now() < reaped) await sleep(POLL_MS);
  return true;
}

/** Tells a process from a later one with the same pid. */
export function identity(pid: number): string {
  return `${pid} ${startedAt(pid) ?? 'gone'}`;
}
