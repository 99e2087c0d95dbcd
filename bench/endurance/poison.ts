/**
 * What one entry in a hundred that nobody can read costs. Once under the load tool, counted in rows as the other benches
 * do, poison written straight to the log beside the requests; and once without the front door, from a filled log.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { CouponId } from '../../src/coupon.ts';
import { changeLog, requestLog } from '../../src/entry.ts';
import { createHost } from '../../src/host.ts';
import { createKafkaLog } from '../../src/kafka/log.ts';
import { partitionOf } from '../../src/operator.ts';
import type { Cluster } from '../cluster.ts';
import { Coupon } from '../coupon.ts';
import { treeUsed } from '../cpu.ts';
import { load } from '../load.ts';
import { alternate, medianRange, type Round, type Side, summary } from '../rounds.ts';
import { startDibs } from '../servers.ts';
import { type Endurance, type Ground, k, type Reached } from './number.ts';
import { Road, requestsOf } from './road.ts';

const share = 0.01;
const lessThan = 0.05;
const stock = 10_000_000;
const connections = 256;
const loadSeconds = 2;
/** Short and many: what else the machine does then hits both sides of more pairs alike. */
const roundsTimes = 3;
const poisonMs = 25;
const filled = 30_000;
const partitions = 4;
const couponId = 'poisoned' as CouponId;

interface Rate {
  perSecond: number;
  /** us of a core that dibs and its servers used for one request. */
  cpuUs: number;
}

const poisonOf = (n: number): string => `{"v":1,"type":"request","couponId":"POISON ${n}`;

export const poison: Endurance = {
  name: 'poison',
  about: '1 % of entries that nobody can read: what they cost in throughput',
  async run(ground) {
    return [await underLoad(ground), await fromLog(ground)];
  },
};

const poisoned = (values: readonly string[]): string[] => {
  const every = Math.round(1 / share);
  return values.flatMap((value, i) => (i % every === every - 1 ? [value, poisonOf(i)] : [value]));
};

const usedBy = (cluster: Cluster, pid: number): number =>
  Object.values(cluster.used()).reduce((sum, one) => sum + one, treeUsed(pid));

async function fromLog({ cluster: clusterOf, say, scale, rounds: n }: Ground): Promise<Reached> {
  const cluster = await clusterOf();
  const road = await Road.open(cluster, 'endurance_poison_log');
  try {
    const [reserve, persist] = [road.reserve(), road.persist()];
    await road.create(couponId, stock);
    const count = Math.round(filled * scale);
    const side = (name: string, spoil: (values: readonly string[]) => readonly string[]): Side<Rate> => ({
      name,
      async run() {
        await road.append(spoil(requestsOf(couponId, count)));
        const used = () =>
          Object.values(cluster.used()).reduce(
            (sum, one) => sum + one,
            process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6,
          );
        const [from, usedBefore] = [performance.now(), used()];
        await road.drain(reserve, requestLog);
        await road.drain(persist, changeLog);
        return {
          perSecond: (count * 1_000) / (performance.now() - from),
          cpuUs: ((used() - usedBefore) * 1e6) / count,
        };
      },
    });
    const sides = [side('clean', values => values), side('poisoned', poisoned)];
    for (const one of sides) await one.run(-1);
    say(`  a filled log decided and stored, requests a second: clean | with ${share * 100} % poison`);
    return line(
      `the stages, from a log of ${count}`,
      await alternate(sides, { rounds: n * roundsTimes, triesMax: 1, spare: { ms: 0 }, say }),
      '',
    );
  } finally {
    await road.close();
  }
}

async function underLoad({ cluster: clusterOf, say, rounds: n }: Ground): Promise<Reached> {
  const cluster = await clusterOf();
  const namespace = 'endurance_poison';
  const flags = cluster.flags(namespace);
  const dibs = await startDibs({ name: 'endurance-poison', flags });
  const log = await createKafkaLog({
    ...{ brokers: cluster.services.kafkaBrokers.split(','), topicPrefix: `${namespace}.`, partitions },
    ...{ replication: 1, minInsync: 1, host: createHost(), log: () => {} },
  });
  const sql = new pg.Client({ connectionString: cluster.services.databaseUrl });
  sql.on('error', () => {});
  await sql.connect();
  const letters = async () =>
    Number((await sql.query(`select count(*) as n from dibs_${namespace}.set_aside`)).rows[0].n);
  const partition = partitionOf(couponId, partitions);
  try {
    const coupon = await Coupon.create(dibs.url, couponId, stock);
    let written = 0;
    /** As many as are a hundredth of what came since; without poison as many good requests, in the same way. */
    const poisoning = async (going: () => boolean, isPoison: boolean): Promise<number> => {
      const begin = await log.end(requestLog, partition);
      let ours = 0;
      for (; going(); await sleep(poisonMs)) {
        const due = Math.floor(((await log.end(requestLog, partition)) - begin) * share) - ours;
        if (due <= 0) continue;
        const bad = () => Array.from({ length: due }, () => poisonOf(++written));
        await log.append(requestLog, partition, isPoison ? bad() : requestsOf(couponId, due));
        ours += due;
      }
      return isPoison ? 0 : ours;
    };
    const side = (name: string, isPoison: boolean): Side<Rate> => ({
      name,
      async run(round) {
        const { issued: before } = await coupon.drained(0);
        const [from, poisonBefore, usedBefore] = [performance.now(), written, usedBy(cluster, dibs.pid)];
        let going = true;
        const writer = poisoning(() => going, isPoison);
        const users = `p${round}-${isPoison}-${process.pid}-${Math.random().toString(36).slice(2, 8)}-`;
        const loaded = await load({ url: dibs.url, path: coupon.path, users, connections, seconds: loadSeconds });
        going = false;
        const good = await writer;
        if (loaded.refused > 0 || loaded.broken > 0)
          throw new Error(`not everyone was accepted: ${JSON.stringify(loaded)}`);
        const { issued, at } = await coupon.drained(before + loaded.answers + good);
        if (isPoison && written === poisonBefore) throw new Error('no poison was written');
        return {
          perSecond: ((issued - before) * 1_000) / Math.max(loaded.seconds * 1_000, (at ?? 0) - from),
          cpuUs: ((usedBy(cluster, dibs.pid) - usedBefore) * 1e6) / (issued - before),
        };
      },
    });
    const sides = [side('clean', false), side('poisoned', true)];
    for (const one of [...sides, ...sides]) await one.run(-1);
    say(`  fully issued a second, ${connections} connections: clean | with ${share * 100} % poison`);
    const rounds = await alternate(sides, { rounds: n * roundsTimes, triesMax: 1, spare: { ms: 0 }, say });
    const aside = await letters();
    if (aside !== written) throw new Error(`${written} were poison, ${aside} are set aside`);
    return line(`the whole, ${connections} connections`, rounds, `; all ${written} are set aside`);
  } finally {
    await sql.end();
    await log.close();
    await dibs.stop();
  }
}

function line(what: string, rounds: readonly Round<Rate>[], note: string): Reached {
  const pairs = rounds.map(({ values }) => values as [clean: Rate, spoilt: Rate]);
  const costs = medianRange(pairs.map(([clean, spoilt]) => 1 - spoilt.perSecond / clean.perSecond));
  const cpu = medianRange(pairs.map(([clean, spoilt]) => spoilt.cpuUs / clean.cpuUs - 1));
  const of = (side: number) => k(summary(rounds, values => values[side]?.perSecond ?? 0).median);
  const percent = (n: number) => `${(n * 100).toFixed(1)} %`;
  return {
    number: `${percent(share)} poison costs, of the throughput (${what})`,
    toReach: `below ${percent(lessThan)}`,
    measured: `${percent(costs.median)} (${percent(costs.low)} to ${percent(costs.high)}; ${pairs.length} rounds); ${of(1)} of ${of(0)}/s; CPU of dibs and its servers a request: ${percent(cpu.median)} more (${percent(cpu.low)} to ${percent(cpu.high)})${note}`,
    reached: costs.median < lessThan,
  };
}
