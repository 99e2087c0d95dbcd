/**
 * `npm run torture`: real processes on real servers, broken on purpose, round by round. Each round is a sale with a
 * crowd whose history is kept; afterwards everything is healed, drained, dumped, and judged by the checker and verify.
 *
 *   --faults <a,b>   of those that --list shows (all)      --rounds <n>    of each fault (1)
 *   --seed <n>       (1)                                   --lanes <n>     clusters at once, for faults that break no
 *   --away-s <n>     how long a server is away (8)                         server (1)
 *   --deaths <n>     of each role in a round of kill (3)
 *   --minutes <n>    no new round is begun after this (20); that some were left is a failure
 *
 *   --kills <n>      only processes are killed, as long as it takes: in so many --lanes of clusters (3) and
 *                    --embedded-lanes (2) of single processes; then a table, and .torture/kills-<seed>.json
 */
import { type Services, startServices } from '../scripts/services.ts';
import { optionsOf, refuse, someOf, wholeNumber } from '../scripts/usage.ts';
import { Arena } from './arena.ts';
import { campaign } from './campaign.ts';
import { faults } from './faults.ts';
import { Violated } from './judge.ts';
import { randomOf } from './random.ts';
import { extent, runRound } from './round.ts';

const { values } = optionsOf(import.meta.filename, {
  faults: { type: 'string' },
  rounds: { type: 'string', default: '1' },
  seed: { type: 'string', default: '1' },
  lanes: { type: 'string' },
  'embedded-lanes': { type: 'string', default: '2' },
  kills: { type: 'string' },
  minutes: { type: 'string' },
  'away-s': { type: 'string', default: '8' },
  deaths: { type: 'string' },
  list: { type: 'boolean', default: false },
});

const print = (line: string): void => console.log(line);
/** What single points are for: `kill` strikes all of them, chosen by the seed. */
const usual = Object.keys(faults).filter(name => !name.includes(':'));
const asked = someOf('faults', values.faults ?? usual.join(','), Object.keys(faults));
const impossible = asked.flatMap(name => (faults[name]?.impossible ? [`${name}: ${faults[name].impossible}`] : []));
if (values.faults !== undefined && impossible.length > 0) refuse(`--faults cannot be done here, ${impossible[0]}.`);
const chosen = asked.filter(name => !faults[name]?.impossible);
const number = (flag: 'rounds' | 'lanes' | 'embedded-lanes' | 'minutes' | 'away-s' | 'deaths' | 'kills', absent = 0) =>
  values[flag] === undefined ? absent : wholeNumber(flag, values[flag]);
const kills = number('kills');
const minutes = number('minutes', kills > 0 ? 24 * 60 : 20);
const lanes = number('lanes', kills > 0 ? 3 : 1);
const embeddedLanes = number('embedded-lanes');
const roundsEach = number('rounds');
extent.awayMs = number('away-s') * 1_000;
extent.deaths = number('deaths', kills > 0 ? 10 : 3);
const until = performance.now() + minutes * 60_000;
const done = new Map<string, number>();
let [rounds, failures, violated, calls, entries] = [0, 0, 0, 0, 0];

interface Planned {
  fault: string;
  round: number;
}

/** Rounds of one fault share an arena, so that what one leaves behind is met by the next. */
async function lane(planned: Planned[], shared: Services | undefined, tag: string): Promise<void> {
  let arena: Arena | undefined;
  let own = '';
  while (performance.now() < until) {
    const next = planned.shift();
    if (!next) break;
    const fault = faults[next.fault] as (typeof faults)[string];
    if (!arena || own !== fault.own.toString()) {
      await arena?.close();
      own = fault.own.toString();
      arena = await Arena.open(fault.own, fault.own.length === 0 ? shared : undefined);
    }
    if (!(await oneRound(arena, next, tag)) || fault.alarms) {
      await arena.close();
      arena = undefined;
    }
  }
  await arena?.close();
}

async function oneRound(arena: Arena, { fault, round }: Planned, tag: string): Promise<boolean> {
  const name = `${fault.replace(/[:_]/g, '-')}-${values.seed}-${tag}${round}`;
  const random = randomOf(`${values.seed} ${name}`);
  const did = (what: string) => void done.set(what, (done.get(what) ?? 0) + 1);
  const startedAt = performance.now();
  const took = () => `${((performance.now() - startedAt) / 1_000).toFixed(1)} s`;
  rounds++;
  try {
    const report = await runRound({ name, fault: faults[fault] as (typeof faults)[string], arena, random, did });
    calls += report.calls;
    entries = Math.max(entries, report.entries);
    print(`ok    ${name} (${took()}): ${report.calls} calls, ${report.frames} events`);
    return true;
  } catch (error) {
    failures++;
    if (error instanceof Violated) violated++;
    print(`FAILS ${name} (${took()}): ${(error as Error).message}`);
    return false;
  }
}

async function main(): Promise<number> {
  if (values.list) {
    print(Object.keys(faults).join('\n'));
    return 0;
  }
  if (kills > 0) {
    const ended = await campaign({ kills, lanes, embeddedLanes, seed: values.seed, minutes, print });
    return ended ? 0 : 1;
  }
  const planned = chosen.flatMap(fault => Array.from({ length: roundsEach }, (_, round) => ({ fault, round })));
  const shareable = planned.filter(({ fault }) => faults[fault]?.own.length === 0);
  const breaking = planned.filter(({ fault }) => faults[fault]?.own.length !== 0);
  if (shareable.length > 0) {
    await using services = await startServices();
    await Promise.all(Array.from({ length: lanes }, (_, i) => lane(shareable, services, `${i}-`)));
  }
  await lane(breaking, undefined, '');
  const found = `${failures} failed (${violated} with violations)`;
  print(`\n${rounds} rounds, ${found}; ${calls} calls, up to ${entries} entries in one log`);
  for (const [what, n] of [...done].sort(([a], [b]) => (a < b ? -1 : 1))) print(`  ${String(n).padStart(5)}  ${what}`);
  for (const what of impossible) print(`NOT done, ${what}`);
  const left = shareable.length + breaking.length;
  if (left > 0) print(`NOT done, ${left} rounds: --minutes ${minutes} are over`);
  return failures + left > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
