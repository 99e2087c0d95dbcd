/** How many calls to the servers 1,000 issued coupons take under load, counted by the servers. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench, Measurement } from './bench.ts';
import type { Cluster } from './cluster.ts';
import { Coupon } from './coupon.ts';
import { load } from './load.ts';
import { alternate, median, summary } from './rounds.ts';
import { type Dibs, startDibs } from './servers.ts';

const connections = 256;
const stock = 10_000_000;
/** What is on its way when the load ends comes to its end in this time, without being asked about. */
const restMs = 300;

/** Calls for 1,000 issued. */
interface Calls {
  produce: number;
  fetch: number;
  redis: number;
  sql: number;
  issued: number;
}

export const calls: Measurement = {
  name: 'calls',
  about: 'produce requests + fetches + Redis commands + SQL statements per 1,000 issued',
  seconds: 35,
  async run(bench) {
    const cluster = await bench.cluster();
    const dibs = await startDibs({ name: 'calls', flags: cluster.flags('calls'), inside: true });
    try {
      const coupon = await Coupon.create(dibs.url, 'all-win', stock);
      const run = (round: number, seconds = bench.seconds) => stretch(bench, cluster, dibs, coupon, round, seconds);
      await run(-1, bench.warmSeconds);
      bench.say(` ${connections} connections`);
      const rounds = await alternate([{ name: 'calls', run: (round: number) => run(round) }], bench.pace);
      const of = (name: keyof Calls) => median(rounds.map(({ values: [calls] }) => calls?.[name] ?? 0)).toFixed(1);
      return {
        lines: [
          {
            what: `cluster: produces + fetches + Redis commands + SQL statements per 1,000 issued, ${connections} connections`,
            ...{ reach: 60, aim: 20, better: 'less', unit: '' },
            measured: summary(rounds, ([calls]) => (calls ? calls.produce + calls.fetch + calls.redis + calls.sql : 0)),
            note: `${of('produce')} + ${of('fetch')} + ${of('redis')} + ${of('sql')}`,
          },
        ],
        rounds,
      };
    } finally {
      await dibs.stop();
    }
  },
};

async function stretch(
  { withBody }: Bench,
  cluster: Cluster,
  dibs: Dibs,
  coupon: Coupon,
  round: number,
  seconds: number,
): Promise<Calls> {
  const { issued: before } = await coupon.drained(0);
  const body = withBody ? '{}' : '';
  let accepted = 0;
  const { produce, fetch, redis, sql } = await cluster.counted(dibs, async () => {
    const loaded = await load({ url: coupon.url, path: coupon.path, users: `r${round}-`, body, connections, seconds });
    accepted = loaded.answers - loaded.refused;
    await sleep(restMs);
  });
  const issued = (await coupon.drained(before + accepted)).issued - before;
  const per = (n: number) => (n * 1000) / issued;
  return { produce: per(produce), fetch: per(fetch), redis: per(redis), sql: per(sql), issued };
}
