/** What it costs to refuse the crowd of a sold-out coupon, and whom it disturbs. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench, Found, Measurement } from './bench.ts';
import type { Cluster, Counted } from './cluster.ts';
import { Coupon } from './coupon.ts';
import { treeUsed } from './cpu.ts';
import { cpuNote, echoSide, ratioOf, type Stretch, thousands, warmEcho } from './issued.ts';
import { load } from './load.ts';
import type { Line } from './report.ts';
import { alternate, type Side, summary } from './rounds.ts';
import { type Dibs, emptyFolder, startDibs } from './servers.ts';

const connections = 64;
const refusals = 100_000;
const soldOutStatus = 410;
/** Each is two stretches of several seconds. */
const countingRounds = 3;
/** Longer than a process takes to hear that a coupon is sold out. */
const latchedMs = 2_000;
/** One request in this time keeps a process following the coupon. */
const followMs = 500;
const restMs = 4_000;

export const refused: Measurement = {
  name: 'refusals',
  about: 'refusals per second of a sold-out coupon, no key / echo; calls to the servers during 100,000 of them',
  seconds: 80,
  async run(bench) {
    const flags = { data: emptyFolder('refusals') };
    const onFile = await speed(bench, 'embedded', flags, 'refusals');
    const cluster = await bench.cluster();
    const onCluster = await speed(bench, 'cluster', cluster.flags('refusals'), 'refusals-cluster');
    const disturbed = await disturbance(bench, cluster);
    return {
      lines: [...onFile.lines, ...onCluster.lines, ...disturbed.lines],
      rounds: [...onFile.rounds, ...onCluster.rounds, ...disturbed.rounds],
    };
  },
};

async function speed(bench: Bench, profile: string, flags: Record<string, string>, name: string): Promise<Found> {
  const echo = await bench.echo();
  const dibs = await startDibs({ name, flags, profile: bench.profile(name) });
  try {
    const coupon = await soldOut(dibs);
    bench.say(` ${profile}, ${connections} connections: dibs | echo`);
    await refuse(bench, coupon, -1, bench.warmSeconds);
    await warmEcho(bench, connections);
    const seconds = Math.min(2, bench.seconds);
    const side: Side<Stretch> = {
      name: 'dibs',
      async run(round) {
        const before = treeUsed(dibs.pid);
        const { answers, seconds: took, p50Ms, p99Ms } = await refuse(bench, coupon, round, seconds);
        const cpuUs = { dibs: ((treeUsed(dibs.pid) - before) * 1e6) / answers };
        return { perSecond: answers / took, p50Ms, p99Ms, cpuUs };
      },
    };
    const rounds = await alternate([side, echoSide(echo, seconds, connections)], bench.pace);
    const measured = summary(rounds, ratioOf);
    const note = `${thousands(rounds, 0)} of ${thousands(rounds, 1)} k/s; CPU us: ${cpuNote(rounds)}`;
    const what = `${profile}: refusals of a sold-out coupon per second / echo, ${connections} connections`;
    return { lines: [{ what, reach: 0.8, aim: 1, better: 'more', unit: '', measured, note }], rounds };
  } finally {
    await dibs.stop();
  }
}

async function soldOut(dibs: Dibs): Promise<Coupon> {
  const coupon = await Coupon.create(dibs.url, 'sold-out', 1);
  const outcome = await coupon.claim('winner');
  if (outcome !== 'issued') throw new Error(`the only unit was not issued but ${outcome}`);
  await coupon.drained(1);
  await latched(coupon);
  return coupon;
}

async function latched(coupon: Coupon): Promise<void> {
  await press(coupon);
  await sleep(latchedMs);
}

/** One more who comes too late. */
async function press(coupon: Coupon): Promise<void> {
  const res = await fetch(`${coupon.url}${coupon.path}`, { method: 'POST', headers: { 'x-user-id': 'late' } });
  if (res.status !== soldOutStatus) throw new Error(`a sold-out coupon was answered with ${res.status}`);
}

async function refuse({ withBody }: Bench, coupon: Coupon, round: number, seconds: number) {
  const body = withBody ? '{}' : '';
  const { url, path } = coupon;
  const users = `l${round}-`;
  const loaded = await load({ url, path, users, body, connections, seconds, expects: soldOutStatus });
  if (loaded.broken + loaded.others > 0) throw new Error(`not everyone was refused: ${JSON.stringify(loaded)}`);
  return loaded;
}

/**
 * A process that only serves the API, so that no stage polls: under load, then as long with one request now and then,
 * which is what its background reads cost. The difference is what the refusals cost.
 */
async function disturbance(bench: Bench, cluster: Cluster): Promise<Found> {
  const flags = { ...cluster.flags('refusals'), roles: 'api' };
  const dibs = await startDibs({ name: 'refusals-calls', flags, inside: true });
  try {
    // The same coupon: what the other process left.
    const coupon = await Coupon.create(dibs.url, 'sold-out', 1);
    await latched(coupon);
    await refuse(bench, coupon, -2, bench.warmSeconds);
    bench.say(` calls during ${refusals} refusals: under load | at rest for ${restMs / 1000} s`);
    const sides: Side<Counted>[] = [
      { name: 'load', run: round => cluster.counted(dibs, () => crowd(bench, coupon, round)) },
      { name: 'rest', run: () => cluster.counted(dibs, () => rest(coupon)) },
    ];
    const rounds = await alternate(sides, { ...bench.pace, rounds: Math.min(countingRounds, bench.pace.rounds) });
    const perSecond = summary(rounds, ([load]) => (load ? load.redis / load.seconds : 0)).median.toFixed(1);
    const line: Line = {
      what: `cluster: calls to Redis, log and store during ${refusals} refusals, beyond those at rest`,
      ...{ reach: 0, aim: 0, better: 'less', unit: '' },
      measured: summary(rounds, beyondRest),
      note: `Redis commands at any time ${perSecond} a second`,
    };
    return { lines: [line], rounds };
  } finally {
    await dibs.stop();
  }
}

/** As often as the load tool has to be run until all of them were refused. */
async function crowd(bench: Bench, coupon: Coupon, round: number): Promise<void> {
  let refused = 0;
  while (refused < refusals) refused += (await refuse(bench, coupon, round, 1)).answers;
}

async function rest(coupon: Coupon): Promise<void> {
  for (const until = performance.now() + restMs; performance.now() < until; ) {
    await press(coupon);
    await sleep(followMs);
  }
}

const total = ({ redis, produce, fetch, sql }: Counted): number => redis + produce + fetch + sql;

/** What the timers of a resting process make in the same time is taken off, and one stroke more: it may be early. */
function beyondRest([load, rest]: Counted[]): number {
  if (!load || !rest) return 0;
  return Math.max(0, total(load) - Math.ceil((total(rest) * load.seconds) / rest.seconds) - 1);
}
