/**
 * What honest users keep of their throughput while one hostile client does its worst. wrk presses without pause on 64
 * connections, each time as another user; stretches with and without the hostile client take turns, many and short ones,
 * since such machines change their speed within a minute. It has an address of its own, one thread, and the lowest
 * priority: on a machine of its own it would take nothing of the server's processors. So that it takes nothing here
 * either, the clients have the last processor and the server the others, where there are two; and in the stretches
 * without it it does the same to a stand-in. (A simulator alone on the server's processor lost a tenth to a fifth of its
 * speed beside that, and 2 to 7 % beside a process that only used as much of the other one.)
 * The ratio of what was accepted a second is then what it takes of the server. The other ratio, by the server's CPU
 * time, is free of everything else that runs, but is kind to a server whose main thread is short of time and whose
 * others are not.
 */
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { treeUsed } from '../bench/cpu.ts';
import { haveLoadTool, load } from '../bench/load.ts';
import { alternate, type MedianRange, median, medianRange } from '../bench/rounds.ts';
import { find } from '../scripts/services/program.ts';
import { createClient } from '../src/client/index.ts';
import { shutOutMsMax } from '../src/http/limits.ts';
import { firewall, noFirewall } from './firewall.ts';
import { type Behaviour, comesInWaves, type Done, heldMin, isShutOut } from './hostile.ts';
import { startTarget, type TargetProfile } from './target.ts';

const connections = 64;
const stock = 10_000_000;
/** What it builds up before is not measured. */
const buildUpMs = 1_500;
/** The server with it alone. */
const coresMs = 4_000;
/** Nor what it does first when it goes on. */
const goOnMs = 150;
/** One that waits comes when what the server kept has ended, all at once: a stretch has whole waves, and not at its edge. */
const waveMs = shutOutMsMax;
const hostileMsMax = 60_000;
const processors = availableParallelism();
const apart = processors > 1 && find('taskset') !== undefined;

/** Of this process and those that it will start. */
function keepTo(cpus: string): void {
  if (apart) execFileSync('taskset', ['-acp', cpus, String(process.pid)]);
}
const toTheServers = () => keepTo(`0-${processors - 2}`);
const toTheClients = () => keepTo(String(processors - 1));

export interface ThroughputPlan {
  profile: TargetProfile;
  behaviours: readonly Behaviour[];
  rounds: number;
  seconds: number;
  /** Requests a second of the hostile client. */
  rate: number;
  /** Settings of the server by flag, without dashes. */
  flags: Record<string, string>;
  /** The rules of examples/firewall.nft stand in front of the server, and of the stand-in. */
  firewall: boolean;
  say(line: string): void;
}

interface Stretch {
  perSecond: number;
  p99Ms: number;
  /** Accepted in a second of the server's CPU time. */
  perCpu: number;
  /** Requests a second of the hostile client. */
  hostile: number;
  /** Connections that it had at the end. */
  held: number;
  /** Cores that it used. */
  besideCpu: number;
  stalledMs: number;
}

export interface Kept {
  behaviour: Behaviour;
  /** That the server uses for it when nobody else is there. */
  cores: number;
  /** With and without; medians. */
  perSecond: [beside: number, alone: number];
  p99Ms: [beside: number, alone: number];
  stalledMs: [beside: number, alone: number];
  /** Of the rounds' ratios. */
  byWall: MedianRange;
  byCpu: MedianRange;
  /** Requests a second that it sent; means. */
  hostile: [beside: number, alone: number];
  /** Connections that it had at the end of a stretch, at least. */
  held: number;
  /** Cores that it used. */
  besideCpu: [beside: number, alone: number];
  /** Cores that other processes used, at most. */
  others: number;
  /** What the server said and should not. */
  errors: readonly string[];
}

/** @throws when an honest user was refused or not answered. */
export async function throughput(plan: ThroughputPlan): Promise<Kept[]> {
  const { behaviours, say } = plan;
  await haveLoadTool(say);
  const why = plan.firewall ? await noFirewall(say) : undefined;
  if (why !== undefined) throw new Error(why);
  const whose = apart ? 'has processors of its own' : 'shares its processors with its clients';
  say(`the server ${whose}, of ${processors}`);
  const kept: Kept[] = [];
  // Each meets a server of its own: what one leaves behind, and a sale that has grown, is not the next one's.
  for (const name of behaviours) kept.push(await beside(name, plan));
  return kept;
}

async function beside(
  behaviour: Behaviour,
  { profile, flags, firewall: walled, rounds, seconds: atLeast, rate, say }: ThroughputPlan,
): Promise<Kept> {
  const seconds = comesInWaves(behaviour) ? (Math.ceil((atLeast * 1_000) / waveMs) * waveMs) / 1_000 : atLeast;
  toTheServers();
  const target = await startTarget({ profile, flags, auth: 'none' });
  toTheClients();
  try {
    using standIn = await startStandIn(isShutOut[behaviour] ? 'shut' : 'open');
    using _rules = walled ? firewall([target.port, standIn.port]) : undefined;
    await createClient({ baseUrl: target.url, userId: 'admin' }).coupons.create({
      couponId: 'sale',
      name: 'Sale',
      stock,
    });
    let n = 0;
    const press: Press = async forSeconds => {
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
    say(` ${behaviour}: alone | beside it`);
    using itself = new Hostile(behaviour, target.port, rate, target.port);
    using elsewhere = new Hostile(behaviour, standIn.port, rate, target.port);
    const { found: cores } = await itself.during(async () => {
      const before = treeUsed(target.pid);
      await sleep(coresMs);
      return ((treeUsed(target.pid) - before) * 1_000) / coresMs;
    });
    const stretch = (hostile: Hostile) => async (): Promise<Stretch> => {
      const { found, ...did } = await hostile.during(() => press(seconds));
      return { ...found, ...did };
    };
    const found = await alternate<Stretch>(
      [
        { name: 'alone', run: stretch(elsewhere) },
        { name: 'beside', run: stretch(itself) },
      ],
      { rounds, triesMax: 2, spare: { ms: seconds * 2_500 }, say },
    );
    const pairs = found.map(({ values }) => values as [Stretch, Stretch]);
    const of = (pick: (s: Stretch) => number): [number, number] => [
      median(pairs.map(([, b]) => pick(b))),
      median(pairs.map(([a]) => pick(a))),
    ];
    return {
      ...{ behaviour, cores },
      perSecond: of(s => s.perSecond),
      p99Ms: of(s => s.p99Ms),
      stalledMs: of(s => s.stalledMs),
      byWall: medianRange(pairs.map(([a, b]) => b.perSecond / a.perSecond)),
      byCpu: medianRange(pairs.map(([a, b]) => b.perCpu / a.perCpu)),
      // What it may send comes in waves where it waits for answers.
      hostile: [mean(pairs.map(([, b]) => b.hostile)), mean(pairs.map(([a]) => a.hostile))],
      held: Math.min(...pairs.map(([, b]) => b.held)),
      besideCpu: of(s => s.besideCpu),
      others: Math.max(...found.map(round => round.others)),
      errors: target.errors,
    };
  } finally {
    await target.stop();
  }
}

const mean = (numbers: readonly number[]): number => numbers.reduce((sum, n) => sum + n, 0) / numbers.length;

async function startStandIn(door: 'shut' | 'open'): Promise<{ port: number } & Disposable> {
  const child = fork(join(import.meta.dirname, 'stand-in.ts'), [door]);
  const [port] = await once(child, 'message', { signal: AbortSignal.timeout(hostileMsMax) });
  return { port: port as number, [Symbol.dispose]: () => void child.kill('SIGKILL') };
}

type Press = (seconds: number) => Promise<Omit<Stretch, 'hostile' | 'held' | 'besideCpu'>>;

/**
 * A hostile client that acts during stretches only. In between it stands still; one that holds connections ends, and they
 * with it.
 */
class Hostile implements Disposable {
  readonly #args: readonly string[];
  readonly #heldMin: number;
  readonly #goOnMs: number;
  #child: ChildProcess | undefined;

  constructor(behaviour: Behaviour, port: number, rate: number, apiPort: number) {
    this.#args = [port, behaviour, rate, apiPort].map(String);
    this.#heldMin = heldMin[behaviour] ?? 0;
    this.#goOnMs = comesInWaves(behaviour) ? waveMs / 2 : goOnMs;
  }

  async during<T>(stretch: () => Promise<T>): Promise<{ found: T } & Pick<Stretch, 'hostile' | 'held' | 'besideCpu'>> {
    // Who is there stands still since the last stretch.
    this.#child?.stdin?.write('.');
    const child = this.#child ?? (await this.#start());
    await sleep(this.#goOnMs);
    const before = await askedOf<Done>(child, 'done');
    const found = await stretch();
    const after = await askedOf<Done>(child, 'done');
    if (this.#heldMin > 0) this[Symbol.dispose]();
    else child.send('pause');
    const tookS = (after.atMs - before.atMs) / 1_000;
    const [hostile, besideCpu] = [(after.sent - before.sent) / tookS, (after.cpuS - before.cpuS) / tookS];
    return { found, hostile, held: after.held, besideCpu };
  }

  async #start(): Promise<ChildProcess> {
    const child = fork(join(import.meta.dirname, 'hostile.ts'), this.#args, {
      stdio: ['pipe', 'inherit', 'inherit', 'ipc'],
    });
    this.#child = child;
    // Whether it is alive is seen when it is asked.
    child.stdin?.on('error', () => {});
    await once(child, 'message', { signal: AbortSignal.timeout(hostileMsMax) });
    const end = performance.now() + hostileMsMax;
    do {
      if (performance.now() > end) throw new Error('the hostile client did not get the connections that it is to hold');
      await sleep(buildUpMs);
    } while ((await askedOf<Done>(child, 'done')).held < this.#heldMin);
    return child;
  }

  [Symbol.dispose](): void {
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }
}

async function askedOf<T>(child: ChildProcess, question: string): Promise<T> {
  child.send(question);
  const [answer] = await once(child, 'message', { signal: AbortSignal.timeout(hostileMsMax) });
  return answer as T;
}
