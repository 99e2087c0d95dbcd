/**
 * `npm run compare`: starts embedded, scheduler, naive and cluster one after the other, sends the same crowds to each,
 * kills them in mid-sale, and leaves numbers and pictures in `compare/`. What `dibs compare` cannot know it counts: the
 * calls that reached the servers, and whose CPU it was. Below eight minutes.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../scripts/services/port.ts';
import { optionsOf, refuse, someOf, wholeNumber } from '../scripts/usage.ts';
import { crowdOf, crowds, inTurn, report } from '../src/cli/compare.ts';
import { type Crowd, crowdRun, nameOf } from '../src/cli/compare-crowd.ts';
import { pageOf } from '../src/cli/compare-page.ts';
import { type Comparison, type Costs, type FaultRun, type Run, steadyRuns } from '../src/cli/compare-report.ts';
import { startYardstick, type Yardstick } from '../src/cli/yardstick.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { treeUsed } from './cpu.ts';
import { machine } from './report.ts';
import { type Dibs, dropFolders, emptyFolder, secret, startDibs } from './servers.ts';

const folder = join(import.meta.dirname, '..', 'compare');
const warm: Crowd = { users: 200, stock: 150, perSecond: 400 };
const struck: Crowd = { users: 1_000, stock: 600, perSecond: 500 };
const strikeAt = 500;
/** A server without persistence is away for this long. */
const awayMs = 500;
/** The whole stays below eight minutes. */
const againMsMax = 290_000;

const faults = { server: 'kill -9 of the server', redis: 'Redis killed without persistence' } as const;
type Fault = keyof typeof faults;

interface Architecture {
  name: string;
  /** Settings by flag, in a namespace of its own. */
  flags(cluster: Cluster, namespace: string): Record<string, string>;
  program?: string;
  faults: readonly Fault[];
}

const scheduler = (cluster: Cluster, namespace: string): Record<string, string> => {
  const { 'kafka-brokers': _, ...flags } = cluster.flags(namespace);
  return { ...flags, profile: 'scheduler' };
};

const architectures: readonly Architecture[] = [
  { name: 'embedded', flags: (_, namespace) => ({ data: emptyFolder(namespace), secret }), faults: ['server'] },
  { name: 'scheduler', flags: scheduler, faults: ['server', 'redis'] },
  {
    name: 'naive',
    flags: (cluster, namespace) => cluster.flags(namespace),
    program: join(import.meta.dirname, 'naive.ts'),
    faults: ['server', 'redis'],
  },
  { name: 'cluster', flags: (cluster, namespace) => cluster.flags(namespace), faults: ['server', 'redis'] },
];

const usage = `Usage: node bench/compare.ts [options]
  --only NAME,...   ${architectures.map(({ name }) => name).join(', ')}
  --rounds N        of each crowd (2)
  --crowd U:S@R     users, units, arrivals a second; once for each (5000:1000@2000, 2000:2000@1000)
  --seed N          of the moments at which users press (1)
  --no-faults       kill nothing
  --json            print JSON
compare/compare.json and compare/compare.html are written each time.`;

const { values } = optionsOf(
  import.meta.filename,
  {
    only: { type: 'string' },
    rounds: { type: 'string', default: '2' },
    crowd: { type: 'string', multiple: true },
    seed: { type: 'string', default: '1' },
    faults: { type: 'boolean', default: true },
    json: { type: 'boolean', default: false },
  },
  { usage, allowNegative: true },
);

const say = (line: string): void => console.error(line);
const signal = new AbortController().signal;
const seed = wholeNumber('seed', values.seed, 0);
const rounds = wholeNumber('rounds', values.rounds);
const chosen = values.crowd?.map(crowdGiven) ?? crowds;
const targets = someOf(
  'only',
  values.only,
  architectures.map(({ name }) => name),
);
let namespaces = 0;

function crowdGiven(text: string): Crowd {
  try {
    return crowdOf(text);
  } catch (error) {
    return refuse((error as Error).message);
  }
}

async function main(): Promise<void> {
  const wanted = architectures.filter(({ name }) => targets.includes(name));
  const cluster = await startCluster(say);
  const runs: Run[] = [];
  const yardstick = await startYardstick();
  const begun = performance.now();
  const broken: FaultRun[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      for (const architecture of inTurn(wanted, round)) {
        for (const run of await measured(architecture, cluster, chosen, round, yardstick)) {
          runs.push(run);
          say(
            ` round ${round + 1} ${run.target}, ${run.crowd}: result p50 ${run.resultMs?.p50} ms, max ${run.resultMs?.max} ms, ${run.issued} issued, ${run.unanswered} untold`,
          );
        }
      }
    }
    // What was thrown away in each round is measured once more, while there is time.
    for (const architecture of wanted) {
      const { kept } = steadyRuns(runs);
      const missing = chosen.filter(
        crowd => !kept.some(run => run.target === architecture.name && run.crowd === nameOf(crowd)),
      );
      if (runs.length === 0 || missing.length === 0 || performance.now() - begun > againMsMax) continue;
      say(` again: ${architecture.name}, ${missing.map(nameOf).join(' and ')}`);
      runs.push(...(await measured(architecture, cluster, missing, rounds, yardstick)));
    }
    for (const fault of values.faults ? (['server', 'redis'] as const) : []) {
      for (const architecture of wanted.filter(one => one.faults.includes(fault))) {
        const run = await struckRun(architecture, cluster, fault);
        broken.push(run);
        say(` ${faults[fault]}, ${run.target}: ${run.lost} of ${run.accepted} lost, ${run.issued} issued`);
      }
    }
  } finally {
    await yardstick.close();
    await cluster.stop();
    dropFolders();
  }
  const { kept, thrownAway } = steadyRuns(runs);
  const at = new Date().toISOString();
  const comparison: Comparison = {
    at,
    machine: machine(),
    seed,
    targets: [...targets],
    runs: kept,
    thrownAway,
    faults: broken,
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'compare.json'), `${JSON.stringify(comparison, null, 1)}\n`);
  writeFileSync(join(folder, 'compare.html'), pageOf(comparison));
  report(comparison, { json: values.json });
  say('compare/compare.html has the pictures');
}

async function started(architecture: Architecture, cluster: Cluster, port?: number, namespace = `c${++namespaces}`) {
  const { name, program, flags } = architecture;
  const of = flags(cluster, namespace);
  const start = () =>
    startDibs({
      ...{ name: `compare-${name}`, flags: of, inside: name !== 'embedded' },
      ...(program === undefined ? {} : { program }),
      ...(port === undefined ? {} : { port }),
    });
  return { dibs: await start(), start };
}

/** All crowds against one server of its own, which has been warmed up. */
async function measured(
  architecture: Architecture,
  cluster: Cluster,
  chosen: readonly Crowd[],
  round: number,
  yardstick: Yardstick,
): Promise<Run[]> {
  const { dibs } = await started(architecture, cluster);
  try {
    await crowdRun(warm, { url: dibs.url, seed: 99, signal });
    const runs: Run[] = [];
    for (const crowd of chosen) {
      const before = await yardstick.measure();
      const { run, costs } = await counted(architecture, cluster, dibs, crowd);
      const after = await yardstick.measure();
      runs.push({
        ...{ ...run, ...costs, target: architecture.name, crowd: nameOf(crowd), round },
        yardstick: [before, after],
      });
    }
    return runs;
  } finally {
    await dibs.stop();
  }
}

async function counted({ name }: Architecture, cluster: Cluster, dibs: Dibs, crowd: Crowd) {
  const used = () => ({ dibs: treeUsed(dibs.pid), ...cluster.used() });
  let [run, before, after] = [undefined as Awaited<ReturnType<typeof crowdRun>> | undefined, used(), used()];
  const work = async () => {
    before = used();
    run = await crowdRun(crowd, { url: dibs.url, seed, signal });
    after = used();
  };
  const isEmbedded = name === 'embedded';
  const calls = isEmbedded ? await work() : await cluster.counted(dibs, work);
  if (!run) throw new Error('no run');
  const { issued } = run;
  const thousands = issued / 1_000;
  const servers = isEmbedded
    ? 0
    : after.redis + after.postgres + after.kafka - before.redis - before.postgres - before.kafka;
  const costs: Costs = {
    cpuSeconds: { dibs: (after.dibs - before.dibs) / thousands, servers: servers / thousands },
    ...(calls && {
      calls: { redis: calls.redis / issued, log: (calls.produce + calls.fetch) / issued, database: calls.sql / issued },
    }),
  };
  return { run, costs };
}

/** A sale in the middle of which something dies and comes back. */
async function struckRun(architecture: Architecture, cluster: Cluster, fault: Fault): Promise<FaultRun> {
  const { dibs, start } = await started(architecture, cluster, await freePort());
  let now = dibs;
  const strikes: Record<Fault, () => Promise<void>> = {
    async server() {
      await now.kill();
      now = await start();
    },
    async redis() {
      await cluster.services.redis?.kill();
      await sleep(awayMs);
      await cluster.services.redis?.start();
    },
  };
  try {
    await crowdRun(warm, { url: dibs.url, seed: 99, signal });
    const strike = { accepted: strikeAt, act: strikes[fault] };
    const run = await crowdRun(struck, { url: dibs.url, seed, signal, strike });
    return { ...run, target: architecture.name, fault: faults[fault] };
  } finally {
    await now.stop();
  }
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? `compare: ${error.message}` : error);
  process.exitCode = 1;
}
