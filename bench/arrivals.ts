/**
 * People who come when they like: 500 a second at random moments, whether or not the others were answered. Measured
 * from the moment at which one was to come, so that a stall costs all who came during it, to the pushed outcome.
 */
import { Agent, type IncomingMessage, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Measurement } from './bench.ts';
import { Coupon } from './coupon.ts';
import { alternate, median, percentile, type Side, summary } from './rounds.ts';
import { startDibs } from './servers.ts';

const perSecond = 500;
const secondsMin = 4;
const stock = 10_000_000;
/** The last of a stretch may take this long. */
const answerMsMax = 10_000;

interface Waits {
  p50: number;
  p99: number;
  max: number;
}

export const arrivals: Measurement = {
  name: 'arrivals',
  about: 'cluster, arrivals at 500/s: request to pushed outcome, p50 and p99',
  seconds: 55,
  async run(bench) {
    const [cluster, echo] = [await bench.cluster(), await bench.echo()];
    const dibs = await startDibs({
      name: 'arrivals',
      flags: cluster.flags('arrivals'),
      profile: bench.profile('arrivals'),
    });
    const agent = new Agent({ keepAlive: true });
    try {
      const coupon = await Coupon.create(dibs.url, 'all-win', stock);
      const seconds = Math.max(secondsMin, bench.seconds);
      const ours = (round: number) =>
        crowd(seconds, round, n => claim(agent, coupon, `r${round}-${n}`, bench.withBody ? '{}' : ''));
      const theirs = (round: number) =>
        crowd(seconds, round, () => post(agent, echo.url, '/', 'e', '{"couponId":"welcome"}'));
      await ours(-1);
      await theirs(-1);
      bench.say(` ${perSecond} arrivals a second: dibs to the pushed outcome | echo to the answer, ms`);
      const sides: Side<Waits>[] = [
        { name: 'dibs', run: ours },
        { name: 'echo', run: theirs },
      ];
      const rounds = await alternate(sides, bench.pace);
      const echoP99 = median(rounds.map(({ values }) => values[1]?.p99 ?? 0)).toFixed(1);
      const common = { better: 'less', unit: 'ms' } as const;
      return {
        lines: [
          {
            what: `cluster, arrivals at ${perSecond}/s: request to pushed outcome, p50`,
            ...{ reach: 25, aim: 8, ...common },
            measured: summary(rounds, ([ours]) => ours?.p50 ?? 0),
          },
          {
            what: `cluster, arrivals at ${perSecond}/s: request to pushed outcome, p99`,
            ...{ reach: 150, aim: 40, ...common },
            measured: summary(rounds, ([ours]) => ours?.p99 ?? 0),
            note: `echo's p99 ${echoP99} ms`,
          },
        ],
        rounds,
      };
    } finally {
      agent.destroy();
      await dibs.stop();
    }
  },
};

/** Presses at random moments (a Poisson process) and waits for all. */
async function crowd(seconds: number, round: number, press: (n: number) => Promise<unknown>): Promise<Waits> {
  const random = randomOf(round + 2);
  const waits: number[] = [];
  const pressed: Promise<unknown>[] = [];
  const begin = performance.now();
  for (let due = begin, n = 0; due < begin + seconds * 1000; n++) {
    due += (-Math.log(1 - random()) * 1000) / perSecond;
    const from = due;
    // Timers are no finer than 1 ms; all that are due by then are pressed at once.
    while (performance.now() < from) await sleep(1);
    pressed.push(press(n).then(() => waits.push(performance.now() - from)));
  }
  await Promise.all(pressed);
  return { p50: percentile(waits, 0.5), p99: percentile(waits, 0.99), max: Math.max(...waits) };
}

/** The same moments in each run (mulberry32). */
function randomOf(seed: number): () => number {
  let a = seed * 0x9e3779b9;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function claim(agent: Agent, coupon: Coupon, user: string, body: string): Promise<void> {
  const path = await claimPath(agent, coupon, user, body);
  const outcome = await told(agent, `${coupon.url}${path}`);
  if (outcome !== 'issued') throw new Error(`${user} was told ${outcome}`);
}

/** Presses the button; answers where the events of the task are. */
export async function claimPath(agent: Agent, coupon: Coupon, user: string, body: string): Promise<string> {
  const answer = JSON.parse(await post(agent, coupon.url, coupon.path, user, body)) as { links: { events: string } };
  return answer.links.events;
}

function post(agent: Agent, url: string, path: string, user: string, body: string): Promise<string> {
  const headers = {
    'x-user-id': user,
    'content-length': body.length,
    ...(body === '' ? {} : { 'content-type': 'application/json' }),
  };
  return new Promise((resolve, reject) => {
    const req = request(`${url}${path}`, { method: 'POST', agent, headers, timeout: answerMsMax }, res => {
      textOf(res).then(text => ((res.statusCode ?? 500) < 300 ? resolve(text) : reject(new Error(text))), reject);
    });
    req.on('error', reject);
    req.on('timeout', () => req.destroy(new Error(`${path}: no answer in ${answerMsMax} ms`)));
    req.end(body);
  });
}

async function textOf(res: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of res) text += chunk;
  return text;
}

/** Resolves when the outcome arrives; the server ends the stream after it. */
function told(agent: Agent, url: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const req = request(url, { agent, timeout: answerMsMax }, res => {
      let text = '';
      res.setEncoding('latin1');
      res.on('data', (chunk: string) => {
        text += chunk;
        if (text.includes('event: outcome')) resolve(/"outcome":"(\w+)"/.exec(text)?.[1]);
      });
      res.on('end', () => reject(new Error(`a stream ended without an outcome: ${text}`)));
    });
    req.on('error', reject);
    req.on('timeout', () => req.destroy(new Error(`no outcome in ${answerMsMax} ms`)));
    req.end();
  });
}
