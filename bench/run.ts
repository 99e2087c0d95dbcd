/**
 * `npm run bench`: measures, prints the table, and says what falls short. The last result of each measurement stays
 * in bench/out; `--paste` puts them into bench/README.md. It ends with 1 when it could not measure, or somebody was
 * answered otherwise than expected; what falls short ends with 0, since it may be the machine's.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { optionsOf, someOf, wholeNumber } from '../scripts/usage.ts';
import { allInOne } from './all-in-one.ts';
import { arrivals } from './arrivals.ts';
import type { Bench, Measurement } from './bench.ts';
import { calls } from './calls.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { embedded } from './embedded.ts';
import { haveLoadTool } from './load.ts';
import { persist } from './persist.ts';
import { printProfile } from './profile.ts';
import { refused } from './refusals.ts';
import { disturbance, keep, kept, machine, out, paste, type Result, shortfalls, table } from './report.ts';
import { reserve } from './reserve.ts';
import { dropFolders, type Measured, startEcho } from './servers.ts';
import { start } from './start.ts';
import { waiting } from './streams.ts';

/** Embedded first: the servers of the cluster are started when the first measurement asks for them. */
const measurements: readonly Measurement[] = [
  embedded,
  start,
  refused,
  allInOne,
  calls,
  arrivals,
  reserve,
  persist,
  waiting,
];

const usage = `Usage: node bench/run.ts [options]
  --only NAME,...   ${measurements.map(({ name }) => name).join(', ')}
  --rounds N        rounds of each measurement (5)
  --seconds S       of one measured stretch (3)
  --tries N         how often a round that others disturbed is measured at most (3)
  --body            requests for coupons carry a body, which is read and parsed, as those of the echo do
  --profile         print where the measured server's time goes; its numbers are then no results
  --json            print the results as JSON
  --paste           measure nothing: put the last results into bench/README.md

${measurements.map(({ name, about }) => `  ${name.padEnd(10)} ${about}`).join('\n')}`;

/** The whole run stays below ten minutes: what the rounds leave of this may go into rounds that are done again. */
const runMsMax = 9.5 * 60_000;
/** Repeats at least, when only some are measured and take longer than they should. */
const spareMsMin = 10_000;

const { values } = optionsOf(
  import.meta.filename,
  {
    only: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    tries: { type: 'string', default: '3' },
    body: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    paste: { type: 'boolean', default: false },
  },
  { usage },
);
const names = measurements.map(({ name }) => name);
const chosen = someOf('only', values.only, names);
const [seconds, rounds] = [wholeNumber('seconds', values.seconds), wholeNumber('rounds', values.rounds)];
const triesMax = wholeNumber('tries', values.tries);

const say = (line: string): void => console.error(line);

async function main(): Promise<void> {
  if (values.paste) return paste(kept(names));
  const wanted = chosen.flatMap(name => measurements.find(measurement => measurement.name === name) ?? []);
  await haveLoadTool(say);
  const results = await measureAll(wanted);
  const lines = results.flatMap(result => result.lines);
  if (values.json) return console.log(JSON.stringify(results, null, 1));
  console.log(`\n${machine()}\n\n${table(lines)}\n\n${disturbance(lines)}`);
  const short = shortfalls(lines);
  console.log(
    short.length === 0 ? 'Nothing falls short.' : `Falls short:\n${short.map(line => `  ${line}`).join('\n')}`,
  );
}

async function measureAll(wanted: readonly Measurement[]): Promise<Result[]> {
  let echo: Promise<Measured> | undefined;
  let cluster: Promise<Cluster> | undefined;
  const folder = (name: string) => join(out, `${name}.profile`);
  const bench: Bench = {
    seconds,
    warmSeconds: Math.min(3, seconds),
    pace: { rounds, triesMax, spare: { ms: 0 }, say },
    withBody: values.body,
    say,
    echo: () => (echo ??= startEcho()),
    cluster: () => (cluster ??= startCluster(say)),
    profile(name) {
      if (values.profile) rmSync(folder(name), { recursive: true, force: true });
      return values.profile ? folder(name) : undefined;
    },
  };
  const results: Result[] = [];
  const endMs = performance.now() + runMsMax;
  try {
    for (const [i, { name, about, run }] of wanted.entries()) {
      const startedAt = performance.now();
      bench.pace.spare.ms = spareMs(endMs - startedAt, wanted.slice(i));
      say(`${name}: ${about}`);
      const result: Result = { name, at: new Date().toISOString(), machine: machine(), ...(await run(bench)) };
      if (values.profile) printProfile(folder(name), say);
      else keep(result);
      results.push(result);
      say(` took ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
    }
  } finally {
    await Promise.all([echo?.then(it => it.stop()), cluster?.then(it => it.stop())]);
    // The million requests alone take 300 MB.
    dropFolders();
  }
  return results;
}

/** Each of those that are still to come may do rounds again in proportion to how long it takes. */
function spareMs(leftMs: number, toCome: readonly Measurement[]): number {
  const [own = 0, ...later] = toCome.map(({ seconds }) => seconds * 1000);
  const all = later.reduce((sum, ms) => sum + ms, own);
  return Math.max(spareMsMin, ((leftMs - all) * own) / all);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? `bench: ${error.message}` : error);
  process.exitCode = 1;
}
