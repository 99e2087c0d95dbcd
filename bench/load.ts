/** The load tool: wrk, one thread, closed loop. Without it nothing is measured: other tools take the core we measure on. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { find, install } from '../scripts/services/program.ts';

const script = join(import.meta.dirname, 'load.lua');

export interface Load {
  url: string;
  path: string;
  /** Begins the user ids; another one for each call, so that no user presses twice. */
  users: string;
  body?: string;
  connections: number;
  seconds: number;
  /** The status that each answer should have; it costs the load tool time to look. */
  expects?: number;
}

export interface Loaded {
  seconds: number;
  /** Answers that came, whatever they say. */
  answers: number;
  /** Those of them with a status of 400 or more. */
  refused: number;
  /** Those with another status than the expected one, if one is. */
  others: number;
  /** Connections that failed and answers that did not come. */
  broken: number;
  p50Ms: number;
  p99Ms: number;
}

export async function haveLoadTool(log: (line: string) => void): Promise<void> {
  if (find('wrk')) return;
  await install(['wrk'], [], log);
}

export async function load({ url, path, users, body = '', connections, seconds, expects }: Load): Promise<Loaded> {
  const args = [
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    '--timeout',
    '10s',
    '-s',
    script,
    url,
    '--',
    path,
    users,
    body,
    ...(expects === undefined ? [] : [`${expects}`]),
  ];
  const { stdout } = await promisify(execFile)('wrk', args);
  const line = stdout.trim().split('\n').at(-1) ?? '';
  const { duration, requests, refused, others, broken, p50, p99 } = JSON.parse(line) as Record<string, number> & {
    [name in 'duration' | 'requests' | 'refused' | 'others' | 'broken' | 'p50' | 'p99']: number;
  };
  return { seconds: duration / 1e6, answers: requests, refused, others, broken, p50Ms: p50 / 1e3, p99Ms: p99 / 1e3 };
}
