/**
 * Numbers to reach under faults: each is measured on real servers, broken on purpose, and printed beside what was asked
 * for. `node bench/endurance.ts --only outage`; each takes a few minutes. What was measured stays in bench/out. It ends
 * with 1 when a promise was broken; a number that is only short of its goal may be the machine's.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { optionsOf, refuse, someOf, wholeNumber } from '../scripts/usage.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { accepted, acceptedByCluster } from './endurance/accepted.ts';
import { cuts } from './endurance/cuts.ts';
import { failover } from './endurance/failover.ts';
import { type Endurance, type Ground, type Reached, verdictOf } from './endurance/number.ts';
import { outage } from './endurance/outage.ts';
import { poison } from './endurance/poison.ts';
import { rebuild } from './endurance/rebuild.ts';
import { haveLoadTool } from './load.ts';
import { machine, out } from './report.ts';
import { dropFolders } from './servers.ts';

const all: readonly Endurance[] = [accepted, acceptedByCluster, rebuild, outage, failover, cuts, poison];

const usage = `Usage: node bench/endurance.ts [options]
  --only NAME,...   ${all.map(({ name }) => name).join(', ')}
  --rounds N        of what is measured in rounds (5)
  --scale S         a part of the sizes, for trying: 0.1 (1)

${all.map(({ name, about }) => `  ${name.padEnd(16)} ${about}`).join('\n')}`;

const { values } = optionsOf(
  import.meta.filename,
  {
    only: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    scale: { type: 'string', default: '1' },
  },
  { usage },
);
const chosen = new Set(
  someOf(
    'only',
    values.only,
    all.map(({ name }) => name),
  ),
);
const rounds = wholeNumber('rounds', values.rounds);
const scale = Number(values.scale);
if (!/^\d+(\.\d+)?$/.test(values.scale) || scale === 0)
  refuse(`--scale "${values.scale}" is no number above 0: write it like 0.1.`);

const say = (line: string): void => console.error(line);

async function main(): Promise<void> {
  const wanted = all.filter(({ name }) => chosen.has(name));
  await haveLoadTool(say);
  let cluster: Promise<Cluster> | undefined;
  const ground: Ground = {
    cluster: () => (cluster ??= startCluster(say)),
    say,
    scale,
    rounds,
  };
  const lines: Reached[] = [];
  mkdirSync(out, { recursive: true });
  try {
    for (const { name, about, run } of wanted) {
      say(`${name}: ${about}`);
      const from = performance.now();
      const reached = await run(ground);
      say(` took ${((performance.now() - from) / 1_000).toFixed(0)} s`);
      const kept = { at: new Date().toISOString(), machine: machine(), scale: ground.scale, reached };
      writeFileSync(join(out, `endurance-${name}.json`), `${JSON.stringify(kept, null, 1)}\n`);
      lines.push(...reached);
    }
  } finally {
    await (await cluster)?.stop();
    dropFolders();
  }
  console.log(`${machine()}\n\n| number | to reach | measured | |\n|---|---|---|---|`);
  for (const line of lines) console.log(`| ${line.number} | ${line.toReach} | ${line.measured} | ${verdictOf(line)} |`);
  if (lines.some(({ broken }) => broken)) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? `endurance: ${error.stack}` : error);
  process.exitCode = 1;
}
