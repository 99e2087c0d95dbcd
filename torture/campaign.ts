/** Rounds of kills in lanes, side by side, until so many processes have died; a round that fails is named, and others go on. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Services, startServices } from '../scripts/services.ts';
import { embeddedPoints } from '../test/support/kill-at-commit.ts';
import { killPoints } from '../test/support/kill-points.ts';
import { testTiming } from '../test/support/sale.ts';
import { Arena, type Ring } from './arena.ts';
import { EmbeddedArena } from './embedded.ts';
import { Violated } from './judge.ts';
import { allPoints, anyMoment, killed, killedEmbedded } from './kill.ts';
import { randomOf } from './random.ts';
import { extent, type Fault, leftIn, runRound } from './round.ts';

export interface Plan {
  kills: number;
  /** Clusters, on one set of servers. */
  lanes: number;
  embeddedLanes: number;
  seed: string;
  minutes: number;
  print(line: string): void;
}

interface Kind<A extends Ring> {
  name: string;
  fault: Fault<A>;
  open(): Promise<A>;
}

/** An arena is made anew after so many rounds: a dump is of its whole log. */
const roundsOfArenaMax = 6;
/** A killed member's partitions are free after this long; the setting of operating.md. */
const groupSessionMs = '2000';
const pressEachMs = 150;
/** A crowd that knocks again at once at a door that is shut half of the time is half of the load. */
const timing = { ...testTiming, backoffMsMin: 600, backoffMsMax: 3_000 };
/** A lane whose arena cannot be opened so often in a row is given up. */
const failuresInRowMax = 5;
const embeddedChoice = [...embeddedPoints, anyMoment] as const;

class Tally {
  readonly kills = new Map<string, number>([...killPoints, ...embeddedChoice].map(point => [point, 0]));
  readonly failures: { round: string; violated: boolean; message: string }[] = [];
  readonly startedAt = performance.now();
  rounds = 0;
  calls = 0;
  frames = 0;
  entriesMax = 0;

  get all(): number {
    return [...this.kills.values()].reduce((sum, n) => sum + n, 0);
  }

  get minutes(): number {
    return (performance.now() - this.startedAt) / 60_000;
  }

  get violated(): number {
    return this.failures.filter(({ violated }) => violated).length;
  }

  line(): string {
    const { all, minutes, rounds, failures, violated, calls } = this;
    const pace = minutes > 0 ? Math.round(all / minutes) : 0;
    return `${minutes.toFixed(1)} min: ${all} kills (${pace} a minute), ${rounds} rounds ended, ${failures.length} failed (${violated} with violations), ${calls} calls`;
  }

  /** As docs/reliability.md shows it. */
  table(): string {
    const roles = Map.groupBy(this.kills, ([point]) => point.split(':')[0] as string);
    const rows = [...roles].map(([role, points]) => {
      const each = points.map(([point, n]) => `${point.slice(role.length + 1)} ${n}`).join(', ');
      return `| ${role} | ${each} | ${points.reduce((sum, [, n]) => sum + n, 0)} |`;
    });
    return ['| role | kills at each point | all |', '|---|---|---|', ...rows].join('\n');
  }
}

/** Answers whether so many died and no round failed. */
export async function campaign(plan: Plan): Promise<boolean> {
  const tally = new Tally();
  const until = performance.now() + plan.minutes * 60_000;
  extent.isOver = () => tally.all >= plan.kills || performance.now() >= until;
  extent.pressEachMs = pressEachMs;
  extent.timing = timing;
  const services = plan.lanes > 0 ? await startServices() : undefined;
  const told = setInterval(() => plan.print(tally.line()), 60_000);
  try {
    const clusters: Kind<Arena> = {
      name: 'kill',
      fault: killed(allPoints),
      open: () => Arena.open([], services as Services, { groupSessionMs }),
    };
    const embedded: Kind<EmbeddedArena> = {
      name: 'kill-embedded',
      fault: killedEmbedded(embeddedChoice),
      open: () => EmbeddedArena.open(),
    };
    await Promise.all([
      ...Array.from({ length: plan.lanes }, (_, i) => lane(clusters, i, plan, tally)),
      ...Array.from({ length: plan.embeddedLanes }, (_, i) => lane(embedded, i, plan, tally)),
    ]);
  } finally {
    clearInterval(told);
    await services?.stop();
  }
  await report(plan, tally);
  return tally.failures.length === 0 && tally.all >= plan.kills;
}

async function lane<A extends Ring>(kind: Kind<A>, number: number, plan: Plan, tally: Tally): Promise<void> {
  let arena: A | undefined;
  let failuresInRow = 0;
  for (let round = 0; !extent.isOver() && failuresInRow < failuresInRowMax; round++) {
    const name = `${kind.name}-${plan.seed}-${number}-${round}`;
    try {
      arena ??= await kind.open();
      const random = randomOf(name);
      const did = (point: string) => void tally.kills.set(point, (tally.kills.get(point) ?? 0) + 1);
      const { calls, frames, entries } = await runRound({ name, fault: kind.fault, arena, random, did });
      tally.rounds++;
      tally.calls += calls;
      tally.frames += frames;
      tally.entriesMax = Math.max(tally.entriesMax, entries);
      failuresInRow = 0;
      if (round % roundsOfArenaMax !== roundsOfArenaMax - 1) continue;
    } catch (error) {
      failuresInRow++;
      const { message } = error as Error;
      tally.failures.push({ round: name, violated: error instanceof Violated, message });
      plan.print(`FAILS ${name}: ${message}`);
    }
    await arena?.close();
    arena = undefined;
  }
  await arena?.close();
}

async function report({ kills: wanted, seed, print }: Plan, tally: Tally): Promise<void> {
  const { all, minutes, rounds, violated, calls, frames, entriesMax, failures } = tally;
  print(`\n${tally.line()}, up to ${entriesMax} entries in one log\n\n${tally.table()}`);
  if (all < wanted) print(`\n${wanted - all} of ${wanted} kills were not done`);
  await mkdir(leftIn, { recursive: true });
  const path = join(leftIn, `kills-${seed}.json`);
  const points = Object.fromEntries(tally.kills);
  const json = { wanted, kills: all, minutes, rounds, violated, calls, frames, entriesMax, points, failures };
  await writeFile(path, `${JSON.stringify(json, undefined, 2)}\n`);
  print(`as JSON: ${path}`);
}
