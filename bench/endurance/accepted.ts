/**
 * A million accepted requests, half of them in each profile, the processes killed with SIGKILL in mid-run and started
 * again where their clients know them. Afterwards each task is asked for, and what it is told is held against the rows and against `verify`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../scripts/services/port.ts';
import { createClient } from '../../src/client/index.ts';
import { Coupon } from '../coupon.ts';
import { type Dibs, emptyFolder, secret, startDibs } from '../servers.ts';
import { issueRequest, Lanes, Lost } from './lanes.ts';
import { type Endurance, type Ground, k, type Reached, seconds } from './number.ts';
import { rowsOf, Taken } from './taken.ts';

/** Of each profile. */
const requests = 500_000;
const kills = 6;
const connections = 128;
/** Presses for one coupon, then for the next; of ten of them one is by the user before it, at once. */
const pressesOfCoupon = 10_000;
const stock = 8_500;
const backMsMax = 60_000;
const doneMsMax = 120_000;
const verifyMsMax = 5 * 60_000;

/** A server that is killed and comes back on its port. */
class Mortal {
  readonly lanes: Lanes;
  private readonly name: string;
  private readonly flags: Record<string, string>;
  private dibs: Promise<Dibs>;

  constructor(name: string, flags: Record<string, string>, port: number) {
    [this.name, this.flags, this.lanes] = [name, flags, new Lanes(port)];
    this.dibs = this.begin();
  }

  get up(): Promise<Dibs> {
    return this.dibs;
  }

  /** Resolves when it can accept again. */
  async die(): Promise<void> {
    const dibs = await this.dibs;
    await dibs.kill();
    this.dibs = this.begin();
    await this.dibs;
  }

  async end(): Promise<void> {
    this.lanes.close();
    await (await this.dibs).stop();
  }

  private begin(): Promise<Dibs> {
    return startDibs({ name: this.name, flags: this.flags, port: this.lanes.port });
  }
}

interface Pressed {
  taken: Taken;
  /** Other answers by status, and answers that never came. */
  others: Record<string, number>;
  kills: number;
  perSecond: number;
}

export const accepted: Endurance = {
  name: 'accepted',
  about: 'embedded: half a million accepted requests under kill -9, each task asked for afterwards',
  run: async ground => [await embedded(ground)],
};

export const acceptedByCluster: Endurance = {
  name: 'accepted-cluster',
  about: 'cluster: the other half, two processes killed by turns',
  run: async ground => [await cluster(ground)],
};

async function embedded(ground: Ground): Promise<Reached> {
  const flags = { data: emptyFolder('endurance'), secret };
  const servers = [new Mortal('endurance-embedded', flags, await freePort())];
  return run(ground, 'embedded, one process', flags, servers);
}

async function cluster(ground: Ground): Promise<Reached> {
  const flags = (await ground.cluster()).flags('endurance_accepted');
  const first = new Mortal('endurance-1', flags, await freePort());
  await first.up;
  const servers = [first, new Mortal('endurance-2', flags, await freePort())];
  return run(ground, 'cluster, two processes with all roles', flags, servers);
}

async function run(ground: Ground, what: string, flags: Record<string, string>, servers: Mortal[]): Promise<Reached> {
  const { say } = ground;
  try {
    const n = Math.round(requests * ground.scale);
    const pressed = await press(n, servers, say);
    const { taken } = pressed;
    say(
      ` ${what}: ${taken.tasks.length} accepted at ${k(pressed.perSecond)}/s; otherwise ${JSON.stringify(pressed.others)}`,
    );
    const askedFrom = performance.now();
    const unanswered = await taken.askAll(
      servers.map(({ lanes }) => lanes),
      doneMsMax + n / 5,
    );
    say(` all asked for in ${seconds(performance.now() - askedFrom)}: ${JSON.stringify(taken.counts())}`);
    const url = (await (servers[0] as Mortal).up).url;
    const report = await createClient({ baseUrl: url }).verify(undefined, { answerMsMax: verifyMsMax });
    const rows = await rowsOf(flags);
    const wrong = taken.contradictions(rows);
    for (const line of wrong.slice(0, 5)) say(`  ${line}`);
    const rowsInAll = [...rows.values()].reduce((sum, { size }) => sum + size, 0);
    const broken = unanswered + wrong.length + report.unanswered > 0 || !report.ok;
    const bound = (3 / taken.tasks.length).toExponential(1);
    return {
      number: `202s without their answer (${what}, ${pressed.kills} kills)`,
      toReach: '0 of 1,000,000, both profiles together',
      measured: `${unanswered} of ${taken.tasks.length}, so below ${bound} at 95 % (3/n); ${wrong.length} told otherwise than the ${rowsInAll} rows; verify ${report.ok ? 'ok' : 'NOT ok'} over ${report.checkedEntries} entries, ${report.unanswered} unanswered; ${JSON.stringify(taken.counts())}; at ${k(pressed.perSecond)}/s with the kills; not accepted: ${JSON.stringify(pressed.others)}`,
      reached: !broken && taken.tasks.length >= requests,
      broken,
    };
  } finally {
    for (const server of servers) await server.end();
  }
}

async function press(n: number, servers: readonly Mortal[], say: (line: string) => void): Promise<Pressed> {
  const taken = new Taken();
  const others: Record<string, number> = {};
  const note = (name: string) => {
    others[name] = (others[name] ?? 0) + 1;
  };
  const { url } = await (servers[0] as Mortal).up;
  for (const { up } of servers) await up;
  const coupons = Math.ceil((n * 1.5) / pressesOfCoupon);
  for (let i = 0; i < coupons; i++) await Coupon.create(url, `c-${i}`, stock);
  let [presses, done, failed] = [0, 0, false];
  const from = performance.now();
  const one = async (_: unknown, lane: number) => {
    const server = servers[lane % servers.length] as Mortal;
    while (taken.tasks.length < n && !failed) {
      const i = presses++;
      const couponId = `c-${Math.floor(i / pressesOfCoupon) % coupons}`;
      const userId = `u${i % 10 === 9 ? i - 1 : i}`;
      try {
        const { status, body } = await server.lanes.ask(issueRequest(couponId, userId));
        if (status === 202) taken.add(couponId, userId, body);
        else note(/"code":"(\w+)"/.exec(body)?.[1] ?? `${status}`);
        if (status === 503) await sleep(20);
      } catch (error) {
        if (!(error instanceof Lost)) throw error;
        note(error.sent ? 'lost with the process' : 'never sent');
        await within(backMsMax, server.up);
      }
    }
  };
  const killing = (async () => {
    while (done < kills && taken.tasks.length < n && !failed) {
      if (taken.tasks.length >= ((done + 0.5) * n) / kills) {
        await (servers[done % servers.length] as Mortal).die();
        say(`  kill ${++done} at ${taken.tasks.length} accepted`);
      }
      await sleep(5);
    }
  })();
  try {
    await Promise.all(Array.from({ length: connections }, one));
  } finally {
    failed = true;
    await killing;
  }
  return { taken, others, kills: done, perSecond: (taken.tasks.length * 1_000) / (performance.now() - from) };
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`a server did not come back within ${ms} ms`)), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
