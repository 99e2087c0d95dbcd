/** `dibs compare`: the same crowds against servers that run already, one after the other, and the numbers side by side. */
import { writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { createClient } from '../client/index.ts';
import { type Crowd, crowdRun, nameOf } from './compare-crowd.ts';
import { pageOf } from './compare-page.ts';
import { type Comparison, linesOf, type Run, steadyRuns } from './compare-report.ts';
import { baseUrlOf, CommandError, exitCodes, interruption, sentenceOf } from './connect.ts';
import { faultOf } from './lines-file.ts';
import { print, printJson, StatusLine } from './terminal.ts';
import { startYardstick } from './yardstick.ts';

export interface CompareOptions {
  target: string[];
  crowd?: Crowd[];
  rounds: number;
  seed: number;
  token?: string;
  html?: string;
  json?: boolean;
}

export interface Target {
  name: string;
  url: string;
}

export const crowds: readonly Crowd[] = [
  { users: 5_000, stock: 1_000, perSecond: 2_000 },
  { users: 2_000, stock: 2_000, perSecond: 1_000 },
];

export async function compare(options: CompareOptions): Promise<void> {
  const { json, rounds, seed, token } = options;
  const targets = options.target.map(targetOf);
  if (targets.length < 2)
    throw new CommandError('one --target has nothing beside it: give two or more', exitCodes.usage);
  const names = targets.map(({ name }) => name);
  if (new Set(names).size < names.length)
    throw new CommandError('two targets have the same name: give each its own', exitCodes.usage);
  // Before the crowds come; what was in it stays until there is something else.
  if (options.html !== undefined) writePage(options.html, '', { flag: 'a', code: exitCodes.usage });
  // Says at once when nothing answers.
  for (const { url } of targets) {
    await createClient({ baseUrl: url, token })
      .coupons.list()
      .catch(error => {
        throw new CommandError(sentenceOf(error, url) ?? String(error));
      });
  }
  using interrupted = interruption();
  const { signal } = interrupted;
  const line = new StatusLine();
  const runs: Run[] = [];
  const yardstick = await startYardstick();
  for (let round = 0; round < rounds && !signal.aborted; round++) {
    for (const { name: target, url } of inTurn(targets, round)) {
      for (const crowd of options.crowd ?? crowds) {
        if (signal.aborted) break;
        line.show(`round ${round + 1} of ${rounds}: ${nameOf(crowd)} against ${target} ...`);
        const before = await yardstick.measure();
        const run = await crowdRun(crowd, { url, token, seed, signal });
        runs.push({ ...run, target, crowd: nameOf(crowd), round, yardstick: [before, await yardstick.measure()] });
      }
    }
  }
  line.clear();
  await yardstick.close();
  if (signal.aborted) throw new CommandError('stopped', exitCodes.interrupted);
  const { kept, thrownAway } = steadyRuns(runs);
  report(
    { at: new Date().toISOString(), machine: machine(), seed, targets: names, runs: kept, thrownAway, faults: [] },
    options,
  );
  if (json !== true && options.html === undefined) print('\n--html FILE writes the pictures.');
}

/** A B, B A, A B: what drifts hits both. */
export const inTurn = <T>(targets: readonly T[], round: number): readonly T[] =>
  round % 2 === 0 ? targets : targets.toReversed();

export function report(comparison: Comparison, { html, json }: { html?: string; json?: boolean }): void {
  if (json) printJson(comparison);
  else for (const line of linesOf(comparison)) print(line);
  // Last, so that the numbers are told even when the disk was full.
  if (html !== undefined) writePage(html, pageOf(comparison), { flag: 'w', code: exitCodes.failed });
}

/** @throws CommandError with this exit code */
function writePage(path: string, page: string, { flag, code }: { flag: string; code: number }): void {
  try {
    writeFileSync(path, page, { flag });
  } catch (error) {
    throw faultOf(path, error, code);
  }
}

const machine = (): string =>
  `${cpus().length} x ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}`;

export function targetOf(text: string): Target {
  const [, name, address = ''] = /^([\w.-]{1,32})=(.+)$/.exec(text) ?? [];
  const url = baseUrlOf(address);
  if (name !== undefined && url !== undefined) return { name, url };
  // Not repeated: it may hold a password.
  throw new CommandError(
    'a --target is not NAME=URL: write it like before=http://127.0.0.1:8081, without user, password and query',
    exitCodes.usage,
  );
}

/** 5000:1000@2000: users, units, arrivals a second. */
export function crowdOf(text: string): Crowd {
  const [users, stock, perSecond] = (/^(\d{1,6}):(\d{1,7})@(\d{1,6})$/.exec(text) ?? []).slice(1).map(Number);
  if (!users || stock === undefined || !perSecond) {
    throw new CommandError(
      `--crowd ${text} is not USERS:UNITS@ARRIVALS_A_SECOND: write it like 5000:1000@2000`,
      exitCodes.usage,
    );
  }
  return { users, stock, perSecond };
}
