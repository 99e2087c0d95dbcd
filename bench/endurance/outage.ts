/** Sixty seconds without Postgres under steady arrivals: what is refused meanwhile, and how fast the backlog drains. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { ServiceHandle } from '../../scripts/services.ts';
import { Coupon } from '../coupon.ts';
import { startDibs } from '../servers.ts';
import { arrive } from './arrivals.ts';
import { issueRequest, Lanes, Lost } from './lanes.ts';
import { type Endurance, k, seconds } from './number.ts';
import { rowsOf, Taken } from './taken.ts';

/** A tenth of what the whole of it carries on two quiet cores, the load tool on them too. */
const perSecond = 1_000;
const awayMs = 60_000;
const warmMs = 8_000;
const afterMs = 5_000;
const sampleMs = 50;
const drainMsMax = 120_000;
const stock = 10_000_000;
const couponId = 'outage';
/** What is under way at any time: drained is a backlog below half a second of arrivals. */
const restMax = perSecond / 2;
const drainsAtLeast = 3;

export const outage: Endurance = {
  name: 'outage',
  about: 'Postgres away for 60 s under steady arrivals: what is refused, and how fast the backlog drains',
  async run({ cluster: clusterOf, say, scale }) {
    const cluster = await clusterOf();
    const postgres = cluster.services.postgres as ServiceHandle;
    const flags = cluster.flags('endurance_outage');
    const dibs = await startDibs({ name: 'endurance-outage', flags });
    const lanes = new Lanes(Number(new URL(dibs.url).port));
    const taken = new Taken();
    const others: Record<string, number> = {};
    let going = true;
    try {
      await Coupon.create(dibs.url, couponId, stock);
      const arriving = arrive(
        perSecond,
        () => going,
        async n => {
          try {
            const { status, body } = await lanes.ask(issueRequest(couponId, `u${n}`));
            if (status === 202) return taken.add(couponId, `u${n}`, body);
            const what = `${status} ${/"code":"(\w+)"/.exec(body)?.[1]}`;
            others[what] = (others[what] ?? 0) + 1;
          } catch (error) {
            if (!(error instanceof Lost)) throw error;
            others[error.message] = (others[error.message] ?? 0) + 1;
          }
        },
      );
      const drain = { from: 0, backlog: 0, ms: 0, rows: 0 };
      let acceptedAway = 0;
      try {
        await sleep(warmMs * Math.max(scale, 0.5));
        const before = taken.tasks.length;
        await postgres.kill();
        say(`  Postgres is gone at ${before} accepted`);
        await sleep(awayMs * scale);
        acceptedAway = taken.tasks.length - before;
        await postgres.start();
        const sql = await connected(cluster.services.databaseUrl);
        const issued = async () =>
          Number(
            (await sql.query(`select issued from dibs_endurance_outage.coupon where coupon_id = '${couponId}'`)).rows[0]
              .issued,
          );
        drain.from = performance.now();
        const issuedBefore = await issued();
        drain.backlog = taken.tasks.length - issuedBefore;
        say(`  Postgres is back: ${drain.backlog} wait`);
        for (let rows = issuedBefore; taken.tasks.length - rows > restMax; rows = await issued()) {
          if (performance.now() - drain.from > drainMsMax) throw new Error(`not drained within ${drainMsMax} ms`);
          await sleep(sampleMs);
        }
        drain.rows = (await issued()) - issuedBefore;
        drain.ms = performance.now() - drain.from;
        await sql.end();
        await sleep(afterMs * scale);
      } finally {
        going = false;
        await arriving;
      }
      const unanswered = await taken.askAll([lanes], drainMsMax);
      const wrong = taken.contradictions(await rowsOf(flags));
      const { perSecond: came, missed } = await arriving;
      const times = (drain.rows * 1_000) / drain.ms / came;
      const refused = JSON.stringify(others);
      const broken = unanswered + wrong.length > 0 || taken.counts().issued !== taken.tasks.length;
      return [
        {
          number: `backlog after ${awayMs / 1_000} s without Postgres drains, in arrival rates (${k(came)}/s, going on)`,
          toReach: `${drainsAtLeast} or more`,
          measured: `${times.toFixed(1)}: ${drain.rows} rows in ${seconds(drain.ms)} (${k((drain.rows * 1_000) / drain.ms)}/s) from when Postgres answered, ${drain.backlog} waited`,
          reached: times >= drainsAtLeast && missed === 0,
        },
        {
          number: `202s of that run that were refused or are without their answer; requests not accepted`,
          toReach: '0',
          measured: `${unanswered} of ${taken.tasks.length} without an answer, ${wrong.length} told otherwise than the rows; ${acceptedAway} accepted while it was away; not accepted: ${refused}; ${missed} did not come since too many waited`,
          reached: !broken && refused === '{}' && missed === 0,
          broken,
        },
      ];
    } finally {
      lanes.close();
      await dibs.stop();
      await postgres.start();
    }
  },
};

async function connected(connectionString: string): Promise<pg.Client> {
  const sql = new pg.Client({ connectionString });
  sql.on('error', () => {});
  await sql.connect();
  return sql;
}
