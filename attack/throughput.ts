/**
 * What honest users keep of their throughput while one hostile client does its worst. wrk presses without pause on 64
 * connections, each time as another user; stretches with and without the hostile client take turns. All of them share
 * the machine, so two ratios are told: by the wall clock, in which the hostile client's own work on these processors is
 * contained, and by the server's own CPU time: what it still does for honest users with each second of a processor.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { treeUsed } from '../bench/cpu.ts';
import { haveLoadTool, load } from '../bench/load.ts';
import { alternate, median } from '../bench/rounds.ts';
import { createClient } from '../src/client/index.ts';
import type { Behaviour, Done } from './hostile.ts';
import { startTarget, type TargetProfile } from './target.ts';

const connections = 64;
const stock = 10_000_000;
/** What it builds up before is not measured. */
const buildUpMs = 1_500;
const hostileMsMax = 20_000;

export interface ThroughputPlan {
  profile: TargetProfile;
  behaviours: readonly Behaviour[];
  rounds: number;
  seconds: number;
  /** Requests a second of the hostile client. */
  rate: number;
  say(line: string): void;
}

interface Stretch {
  perSecond: number;
  p99Ms: number;
  /** Accepted in a second of the server's CPU time. */
  perCpu: number;
  hostile: number;
  /** Cores. */
  hostileCpu: number;
  stalledMs: number;
}

export interface Kept {
  behaviour: Behaviour;
  /** With and without; medians. */
  perSecond: [beside: number, alone: number];
  p99Ms: [beside: number, alone: number];
  stalledMs: [beside: number, alone: number];
  /** Medians of the rounds' ratios. */
  byWall: number;
  byCpu: number;
  /** Requests a second that it sent, and cores that it used. */
  hostile: number;
  hostileCpu: number;
  /** Cores that other processes used, at most. */
  others: number;
}

/** @throws when an honest user was refused or not answered. */
export async function throughput(plan: ThroughputPlan): Promise<Kept[]> {
  const { profile, behaviours, rounds, seconds, rate, say } = plan;
  await haveLoadTool(say);
  const target = await startTarget({ profile, auth: 'none' });
  try {
    await createClient({ baseUrl: target.url, userId: 'admin' }).coupons.create({
      couponId: 'sale',
      name: 'Sale',
      stock,
    });
    let n = 0;
    const press = async (forSeconds: number): Promise<Omit<Stretch, 'hostile' | 'hostileCpu'>> => {
      await target.stalled();
      const before = treeUsed(target.pid);
      const request = { url: target.url, path: '/coupons/sale/issue', users: `u${++n}-` };
      const { answers, refused, broken, p99Ms, ...took } = await load({ ...request, connections, seconds: forSeconds });
      if (refused + broken > 0) throw new Error(`${refused} honest users were refused, ${broken} not answered`);
      const perSecond = answers / took.seconds;
      const perCpu = answers / (treeUsed(target.pid) - before);
      return { perSecond, p99Ms, perCpu, stalledMs: (await target.stalled()).maxMs };
    };
    // A cold process does less.
    await press(4);
    const kept: Kept[] = [];
    for (const behaviour of behaviours) {
      say(` ${behaviour}: alone | beside it`);
      const found = await alternate<Stretch>(
        [
          { name: 'alone', run: async () => ({ ...(await press(seconds)), hostile: 0, hostileCpu: 0 }) },
          { name: 'beside', run: () => beside(target.port, behaviour, rate, seconds, press) },
        ],
        { rounds, triesMax: 2, spare: { ms: seconds * 2_500 }, say },
      );
      const pairs = found.map(({ values }) => values as [Stretch, Stretch]);
      const of = (pick: (s: Stretch) => number): [number, number] => [
        median(pairs.map(([, b]) => pick(b))),
        median(pairs.map(([a]) => pick(a))),
      ];
      kept.push({
        behaviour,
        perSecond: of(s => s.perSecond),
        p99Ms: of(s => s.p99Ms),
        stalledMs: of(s => s.stalledMs),
        byWall: median(pairs.map(([a, b]) => b.perSecond / a.perSecond)),
        byCpu: median(pairs.map(([a, b]) => b.perCpu / a.perCpu)),
        hostile: of(s => s.hostile)[0],
        hostileCpu: of(s => s.hostileCpu)[0],
        others: Math.max(...found.map(round => round.others)),
      });
    }
    if (target.errors.length > 0) throw new Error(`the server said: ${target.errors[0]}`);
    return kept;
  } finally {
    await target.stop();
  }
}

type Press = (seconds: number) => Promise<Omit<Stretch, 'hostile' | 'hostileCpu'>>;

async function beside(
  port: number,
  behaviour: Behaviour,
  rate: number,
  seconds: number,
  press: Press,
): Promise<Stretch> {
  const child = fork(join(import.meta.dirname, 'hostile.ts'), [String(port), behaviour, String(rate)]);
  try {
    const signal = AbortSignal.timeout(hostileMsMax);
    await once(child, 'message', { signal });
    const begin = performance.now();
    await sleep(buildUpMs);
    const before = treeUsed(child.pid as number);
    const found = await press(seconds);
    const hostileCpu = (treeUsed(child.pid as number) - before) / seconds;
    const took = (performance.now() - begin) / 1_000;
    child.send('stop');
    const [{ sent }] = (await once(child, 'message', { signal: AbortSignal.timeout(hostileMsMax) })) as [Done];
    return { ...found, hostile: sent / took, hostileCpu };
  } finally {
    child.kill('SIGKILL');
  }
}
