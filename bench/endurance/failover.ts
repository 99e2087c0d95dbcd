/**
 * Two API processes at half of what both carry, one killed with SIGKILL. A client whose request got no answer goes to
 * the other one at once, with the same key. What fails, and how long such clients are without an accepted answer.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../scripts/services/port.ts';
import { Coupon } from '../coupon.ts';
import { type Dibs, startDibs } from '../servers.ts';
import { arrive } from './arrivals.ts';
import { issueRequest, Lanes, Lost } from './lanes.ts';
import { type Endurance, k } from './number.ts';
import { rowsOf, Taken } from './taken.ts';

const stock = 10_000_000;
const connections = 64;
const fullMs = 4_000;
const beforeMs = 3_000;
const afterMs = 4_000;
const doneMsMax = 60_000;
/** A client tries both in turn this long. */
const triesMsMax = 10_000;
const againMs = 20;
const gapMsMax = 1_000;

interface Death {
  /** Sent to the one that was killed and never answered by it: under way there at the signal, or before its end. */
  lost: number;
  underWay: number;
  /** From the signal until it had ended: so long its connections stay open, and what is written on them is lost. */
  endMs: number;
  /** Lost at the other process, or at the killed one although sent after its end. */
  beyond: number;
  failed: number;
  gapMs: number;
  slowestMs: number;
  /** Who did not come: see arrivals.ts. */
  missed: number;
  /** Connections that the kernel turned away meanwhile: their clients try again after 1 s, and 2 s more. */
  turnedAway: number;
}

export const failover: Endurance = {
  name: 'failover',
  about: 'two API processes at half load, one killed: what fails beyond its requests in flight, and the gap',
  async run({ cluster: clusterOf, say, rounds }) {
    const flags = (await clusterOf()).flags('endurance_failover');
    const work = await startDibs({ name: 'endurance-work', flags: { ...flags, roles: 'reserve,persist,stats' } });
    const api = (n: number, port: number) =>
      startDibs({ name: `endurance-api-${n}`, flags: { ...flags, roles: 'api' }, port });
    const lanes = [new Lanes(await freePort()), new Lanes(await freePort())] as const;
    const apis: [Dibs, Dibs] = [await api(0, lanes[0].port), await api(1, lanes[1].port)];
    const taken = new Taken();
    let users = 0;
    try {
      const coupon = await Coupon.create(apis[0].url, 'failover', stock);
      const issue = (user: string) => issueRequest(coupon.id, user, user);
      /** Accepted answers a second, both together, as fast as they come. */
      const fullLoad = async () => {
        const [from, before] = [performance.now(), taken.tasks.length];
        const one = async (lane: Lanes) => {
          while (performance.now() - from < fullMs) {
            const user = `u${users++}`;
            const { status, body } = await lane.ask(issue(user));
            if (status !== 202) throw new Error(`${user} was answered ${status} ${body}`);
            taken.add(coupon.id, user, body);
          }
        };
        await Promise.all(lanes.flatMap(lane => Array.from({ length: connections }, () => one(lane))));
        return ((taken.tasks.length - before) * 1_000) / (performance.now() - from);
      };
      await fullLoad();
      const full = await fullLoad();
      const rate = Math.round(full / 2);
      await coupon.drained(taken.tasks.length);
      say(`  full load ${k(full)}/s, half ${k(rate)}/s`);

      const deaths: Death[] = [];
      for (let round = 0; round < rounds; round++) {
        const victim = round % 2;
        const death: Death = {
          lost: 0,
          underWay: 0,
          endMs: 0,
          beyond: 0,
          failed: 0,
          gapMs: 0,
          slowestMs: 0,
          missed: 0,
          turnedAway: 0,
        };
        let [killedAt, endedAt, going] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, true];
        const acceptedAt: number[] = [];
        const crowd = arrive(
          rate,
          () => going,
          async () => {
            const user = `u${users++}`;
            const [from, home] = [performance.now(), users % 2];
            for (let turn = home; performance.now() - from < triesMsMax; turn++) {
              const [at, sentAt] = [turn % 2, performance.now()];
              try {
                const { status, body } = await (lanes[at] as Lanes).ask(issue(user));
                if (status !== 202) {
                  // A retry whose first try has won already is told so at the door: its coupon, and no task.
                  if (turn === home || ![200, 409].includes(status)) death.failed++;
                } else taken.add(coupon.id, user, body);
                if (home === victim) {
                  acceptedAt.push(performance.now());
                  if (sentAt >= killedAt || turn > home)
                    death.slowestMs = Math.max(death.slowestMs, performance.now() - from);
                }
                return;
              } catch (error) {
                if (!(error instanceof Lost)) throw error;
                if (error.sent) {
                  death.lost++;
                  if (at !== victim || sentAt > endedAt) death.beyond++;
                }
                if (turn > home) await sleep(againMs);
              }
            }
            death.failed++;
          },
        );
        await sleep(beforeMs);
        death.underWay = (lanes[victim] as Lanes).underWay;
        const turnedAwayBefore = turnedAway();
        killedAt = performance.now();
        await (apis[victim] as Dibs).kill();
        endedAt = performance.now();
        death.endMs = endedAt - killedAt;
        await sleep(afterMs);
        going = false;
        death.missed = (await crowd).missed;
        death.turnedAway = turnedAway() - turnedAwayBefore;
        death.gapMs = longestGap(acceptedAt, killedAt);
        deaths.push(death);
        say(`  death ${round + 1}: ${JSON.stringify(death)}`);
        apis[victim] = await api(victim, (lanes[victim] as Lanes).port);
      }
      const unanswered = await taken.askAll(lanes, doneMsMax);
      const rows = await rowsOf(flags);
      const wrong = taken.contradictions(rows);
      const all = (of: (death: Death) => number) => deaths.map(death => of(death).toFixed(0)).join(', ');
      const broken = unanswered + wrong.length > 0;
      const bad = deaths.reduce((sum, { beyond, failed, missed }) => sum + beyond + failed + missed, 0);
      const withoutRow = users - (rows.get(coupon.id)?.size ?? 0);
      return [
        {
          number: 'two API processes, one killed at half load: what fails beyond the requests in flight on it',
          toReach: '0',
          measured: `${all(d => d.beyond)} lost beyond those in flight (lost in flight: ${all(d => d.lost)}; ${all(d => d.underWay)} of them under way at the signal, the others written on connections that stayed open until its end, ${all(d => d.endMs)} ms later), ${all(d => d.failed)} failed for good, ${all(d => d.missed)} did not come since too many waited, in ${rounds} kills at ${k(rate)}/s (full: ${k(full)}/s); ${unanswered} of ${taken.tasks.length} 202s without an answer, ${wrong.length} told otherwise, ${withoutRow} of ${users} users without a row`,
          reached: !broken && bad + withoutRow === 0,
          broken,
        },
        {
          number: 'the same: longest time without an accepted answer for clients of the killed process',
          toReach: `below ${gapMsMax} ms`,
          measured: `${all(d => d.gapMs)} ms; their slowest answer after ${all(d => d.slowestMs)} ms; connections turned away: ${all(d => d.turnedAway)}`,
          reached: deaths.every(({ gapMs }) => gapMs < gapMsMax),
        },
      ];
    } finally {
      for (const lane of lanes) lane.close();
      for (const dibs of [...apis, work]) await dibs.stop();
    }
  },
};

/** Connections that came when as many as may waited to be taken in, on the whole machine since it started. */
function turnedAway(): number {
  const [names = '', counts = ''] = readFileSync('/proc/net/netstat', 'utf8').split('\n');
  return Number(counts.split(' ')[names.split(' ').indexOf('ListenOverflows')]);
}

/** Between two neighbours of which the later came after `since`. */
function longestGap(times: readonly number[], since: number): number {
  const sorted = [...times].sort((a, b) => a - b);
  let gap = 0;
  for (let i = 1; i < sorted.length; i++) {
    if ((sorted[i] as number) >= since) gap = Math.max(gap, (sorted[i] as number) - (sorted[i - 1] as number));
  }
  return gap;
}
