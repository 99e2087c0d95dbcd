/** One crowd against one server: the same people at the same moments each time, and what became of each of them. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ClaimOutcome,
  type Client,
  type Coupon,
  createClient,
  type FetchLike,
  type LagReport,
  type Timing,
} from '../client/index.ts';
import { distributionOf } from './chart.ts';
import { type CrowdRun, seriesOf } from './compare-report.ts';
import { runCrowd } from './crowd.ts';
import { createNodeFetch } from './node-fetch.ts';

export interface Crowd {
  users: number;
  stock: number;
  /** Arrivals a second, at random moments, whether or not others were answered. */
  perSecond: number;
}

export const nameOf = ({ users, stock }: Crowd): string =>
  `${users.toLocaleString('en-US')} for ${stock.toLocaleString('en-US')}`;

/** A server that does not push is asked every second, give or take a tenth. */
const timing: Partial<Timing> = {
  ...{ pollMsMin: 890, pollMsMax: 890 },
  ...{ answerMsMax: 30_000, triesMax: 1_000, acceptMsMax: 60_000, backoffMsMax: 1_000, silenceMsMax: 600_000 },
};
const requestsMax = 1_000;
/** Issued is looked at this often: at first, and later on. */
const [sampleMsEarly, sampleMs, earlyMs] = [50, 250, 4_000];
const settleMsMax = 10_000;
/** Nothing that is still to come takes longer: a tick, a lease, a start. */
const silenceMsMax = 12_000;

/** The same moments for the same seed: a Poisson process (mulberry32). */
export function arrivals({ users, perSecond }: Crowd, seed: number): number[] {
  let state = Math.imul(seed + 1, 0x9e3779b9);
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  let at = 0;
  return Array.from({ length: users }, () => {
    at += (-Math.log(1 - random()) * 1_000) / perSecond;
    return at;
  });
}

export interface CrowdOptions {
  url: string;
  token?: string | undefined;
  seed: number;
  signal: AbortSignal;
  /** Called once, when so many are accepted: the moment at which something is broken on purpose. */
  strike?: { accepted: number; act(): Promise<void> };
}

/** How far persist is, all partitions together; undefined of a server that does not run it. */
function storedNext({ stages }: LagReport): number | undefined {
  const places = stages.filter(({ stage }) => stage === 'persist').map(({ next }) => next);
  return places.length === 0 ? undefined : places.reduce((sum, next) => sum + next, 0);
}

/** The opening has gone all its way into the store: what dies in the middle of a sale is not its beginning. */
async function settled(admin: Client, before: number | undefined): Promise<void> {
  if (before === undefined) return;
  for (const until = performance.now() + settleMsMax; performance.now() < until; await sleep(sampleMs)) {
    const lag = await admin.lag();
    const isStored = (storedNext(lag) ?? 0) > before;
    if (isStored && lag.stages.every(({ lagEntries }) => lagEntries === 0)) return;
  }
}

interface Person {
  acceptedMs?: number;
  endMs?: number;
  told?: ClaimOutcome;
}

/** Resolves when everybody was told, or nobody was for `silenceMsMax`. */
export async function crowdRun(crowd: Crowd, options: CrowdOptions): Promise<CrowdRun> {
  const { url, token, seed, signal, strike } = options;
  const { users, stock } = crowd;
  const pool = createNodeFetch(url, { requestsMax, streamsMax: users });
  let requests = 0;
  const counting: FetchLike = (address, init) => {
    requests++;
    return pool.fetch(address, init);
  };
  const [client, admin] = [{ fetch: counting }, {}].map(more => createClient({ baseUrl: url, token, timing, ...more }));
  if (!client || !admin) throw new Error('unreachable');
  const couponId = `compare-${randomBytes(4).toString('hex')}`;
  const before = storedNext(await admin.lag());
  await admin.coupons.create({ couponId, name: nameOf(crowd), stock });
  await settled(admin, before);
  const people: Person[] = Array.from({ length: users }, () => ({}));
  const dueMs = arrivals(crowd, seed);
  const begun = performance.now();
  const samples: [ms: number, issued: number][] = [[0, 0]];
  const look = () =>
    admin.coupons.get(couponId).then(({ issued }) => samples.push([performance.now() - begun, issued]));
  let isOver = false;
  const sampling = (async () => {
    while (!isOver) {
      await sleep(performance.now() - begun < earlyMs ? sampleMsEarly : sampleMs);
      // One that finds the server away leaves a gap in the picture, and nothing else.
      await look().catch(() => {});
    }
  })();
  let struck: Promise<void> | undefined;
  const tally = await runCrowd(
    { users, dueMs, connections: requestsMax, silenceMsMax },
    user => {
      const person = people[user] as Person;
      const claim = client.claim(couponId, { userId: `${couponId}.${user}` });
      const sinceDue = () => performance.now() - begun - (dueMs[user] as number);
      claim.taskId.then(
        taskId => {
          if (taskId !== undefined) person.acceptedMs = sinceDue();
        },
        // Whoever was not answered is counted by what is missing.
        () => {},
      );
      claim.outcome.then(
        told => Object.assign(person, { told, endMs: sinceDue() }),
        // As above.
        () => {},
      );
      return claim;
    },
    signal,
    ({ accepted }) => {
      if (strike && accepted >= strike.accepted) struck ??= strike.act();
    },
  );
  isOver = true;
  await Promise.all([struck, sampling]);
  await look();
  pool.close();
  if (strike && !struck)
    throw new Error(
      `nothing was struck: ${tally.accepted} of ${users} were accepted, and it was to be at ${strike.accepted}`,
    );
  return {
    ...told(people, await admin.coupons.get(couponId), dueMs),
    ...{ requestsPerUser: requests / users },
    users,
    stock,
    polled: tally.polled > 0,
    issuedOverTime: samples,
  };
}

function told(people: readonly Person[], coupon: Coupon, dueMs: readonly number[]) {
  const accepted = people.flatMap((p, i) =>
    p.acceptedMs === undefined ? [] : [{ ...p, at: (dueMs[i] as number) + p.acceptedMs }],
  );
  const ends = people.flatMap(({ endMs }) => endMs ?? []);
  const winners = people.flatMap(({ told, endMs }) =>
    told?.outcome === 'issued' ? [{ slot: told.slot, endMs: endMs as number }] : [],
  );
  const lastMs = accepted.reduce((last, { at }) => Math.max(last, at), 0);
  return {
    accepted: accepted.length,
    acceptedPerSecond: lastMs === 0 ? 0 : (accepted.length * 1_000) / lastMs,
    acceptedMs: distributionOf(accepted.map(({ acceptedMs }) => acceptedMs as number)),
    told: ends.length,
    resultMs: distributionOf(ends),
    issuedMs: distributionOf(winners.map(({ endMs }) => endMs)),
    resultSeries: seriesOf(ends),
    // One that is told to have been malformed or of no coupon was not decided either.
    lost: accepted.filter(({ told }) => told === undefined || told.outcome === 'refused').length,
    unanswered: people.length - ends.length,
    winners: winners.length,
    issued: coupon.issued,
    duplicates: winners.length - new Set(winners.map(({ slot }) => slot)).size,
    oversold: Math.max(0, coupon.issued - coupon.stock),
  };
}
