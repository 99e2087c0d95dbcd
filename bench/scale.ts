/**
 * The answers to the brief's section 4, measured: batch inserts, persist processes, API instances, and one hot coupon
 * against a hundred. `node bench/scale.ts`; below four minutes. The table goes to the terminal, all of it to bench/out.
 *
 *   --rounds <n>   of each part (3)     --only <a,b>   of inserts, consumers, instances, coupons (all)
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { optionsOf, someOf, wholeNumber } from '../scripts/usage.ts';
import type { CouponId, UserId } from '../src/coupon.ts';
import { encodeRequest, requestLog } from '../src/entry.ts';
import { createHost, randomKey } from '../src/host.ts';
import { createKafkaLog } from '../src/kafka/log.ts';
import { partitionOf } from '../src/operator.ts';
import { createPostgresStore } from '../src/postgres/store.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { Coupon } from './coupon.ts';
import { treeUsed } from './cpu.ts';
import { haveLoadTool, load } from './load.ts';
import { Rows } from './persist.ts';
import { machine, out } from './report.ts';
import { perSecond } from './reserve.ts';
import { alternate, type Pace, type Side, summary } from './rounds.ts';
import { type Dibs, startDibs } from './servers.ts';

const stock = 10_000_000;
const partitions = 4;
const insertMs = 1_000;
/** Winners of each coupon that wait for persist. */
const backlog = 50_000;
const loadSeconds = 3;
const connections = 128;
const hotCoupons = 100;
const gated = join(import.meta.dirname, 'gated.ts');

interface Answer {
  part: string;
  what: string;
  /** The median, and the smallest and largest round. */
  perSecond: number;
  from: number;
  to: number;
  note: string;
}

const { values } = optionsOf(import.meta.filename, {
  rounds: { type: 'string', default: '3' },
  only: { type: 'string' },
});
const chosen = someOf('only', values.only, ['inserts', 'consumers', 'instances', 'coupons']);
const say = (line: string): void => console.error(line);
const pace: Pace = { rounds: wholeNumber('rounds', values.rounds), triesMax: 1, spare: { ms: 0 }, say };

interface Rate {
  perSecond: number;
  note: string;
}

async function measure(part: string, sides: readonly Side<Rate>[]): Promise<Answer[]> {
  say(` ${sides.map(({ name }) => name).join(' | ')}`);
  const rounds = await alternate(sides, pace);
  return sides.map(({ name: what }, i) => {
    const { median, min, max } = summary(rounds, rates => rates[i]?.perSecond ?? 0);
    return { part, what, perSecond: median, from: min, to: max, note: rounds.at(-1)?.values[i]?.note ?? '' };
  });
}

const parts: Record<(typeof chosen)[number], (cluster: Cluster) => Promise<Answer[]>> = {
  inserts: async cluster => {
    const store = await createPostgresStore({
      url: cluster.services.databaseUrl,
      schema: 'scale_inserts',
      log: () => {},
    });
    try {
      const sides: Side<Rate>[] = [];
      for (const [i, size] of [1, 10, 100, 1_000].entries()) {
        const rows = await Rows.of(store, i);
        await perSecond(insertMs / 4, () => rows.commit(size));
        const run = async () => ({ perSecond: await perSecond(insertMs, () => rows.commit(size)), note: '' });
        sides.push({ name: `${size} a statement`, run });
      }
      return await measure('rows inserted', sides);
    } finally {
      await store.close();
    }
  },

  consumers: cluster =>
    measure(
      'rows of a backlog written',
      [1, 2, 4].map(processes => ({
        name: `${processes} persist ${processes === 1 ? 'process' : 'processes'}, ${partitions} partitions and coupons`,
        run: round => drained(cluster, processes, `scale_c${round}`),
      })),
    ),

  instances: async cluster => {
    const flags = cluster.flags('scale_i');
    const worker = await startDibs({ name: 'scale-worker', flags: { ...flags, roles: 'reserve,persist' } });
    const apis = [1, 2].map(n => startDibs({ name: `scale-api-${n}`, flags: { ...flags, roles: 'api' } }));
    const [one, two] = (await Promise.all(apis)) as [Dibs, Dibs];
    const coupon = await Coupon.create(one.url, 'instances', stock);
    const side = (dibs: readonly Dibs[]): Side<Rate> => ({
      name: `${dibs.length} API ${dibs.length === 1 ? 'instance' : 'instances'}`,
      run: round => issued(cluster, 'scale_i', coupon.path, dibs, round),
    });
    try {
      await issued(cluster, 'scale_i', coupon.path, [one, two], -1);
      return await measure('fully issued', [side([one]), side([one, two])]);
    } finally {
      for (const dibs of [one, two, worker]) await dibs.stop();
    }
  },

  coupons: async cluster => {
    const dibs = await startDibs({ name: 'scale-hot', flags: cluster.flags('scale_h') });
    try {
      const hot = await Coupon.create(dibs.url, 'hot', stock);
      for (let i = 0; i < hotCoupons; i++) await Coupon.create(dibs.url, `of-many-${i}`, stock);
      const side = (name: string, path: string): Side<Rate> => ({
        name,
        run: round => issued(cluster, 'scale_h', path, [dibs], round),
      });
      const sides = [
        side('one hot coupon', hot.path),
        side(`${hotCoupons} coupons in ${partitions} partitions`, '/coupons/of-many-*/issue'),
      ];
      for (const one of sides) await one.run(-1);
      return await measure('fully issued', sides);
    } finally {
      await dibs.stop();
    }
  },
};

/** Rows of all coupons of a namespace. */
async function rowsOf(
  cluster: Cluster,
  namespace: string,
): Promise<{ count(): Promise<number>; close(): Promise<void> }> {
  const sql = new pg.Client({ connectionString: cluster.services.databaseUrl });
  await sql.connect();
  return {
    async count() {
      const { rows } = await sql.query(`select count(*)::int as n from dibs_${namespace}.user_coupon`);
      return rows[0].n as number;
    },
    close: () => sql.end(),
  };
}

let crowds = 0;

/** Everybody wins: rows a second, from the first request to the last row. */
async function issued(
  cluster: Cluster,
  namespace: string,
  path: string,
  dibs: readonly Dibs[],
  round: number,
): Promise<Rate> {
  const rows = await rowsOf(cluster, namespace);
  try {
    const before = await rows.count();
    const used = () => dibs.reduce((sum, { pid }) => sum + treeUsed(pid), 0);
    const [usedBefore, from] = [used(), performance.now()];
    const each = connections / dibs.length;
    const seconds = round < 0 ? 2 : loadSeconds;
    const loads = dibs.map(({ url }) => load({ url, path, users: `l${++crowds}-`, connections: each, seconds }));
    const accepted = (await Promise.all(loads)).reduce((sum, { answers, refused }) => sum + answers - refused, 0);
    let count = 0;
    do {
      await sleep(20);
      count = (await rows.count()) - before;
    } while (count < accepted);
    const cores = (used() - usedBefore) / ((performance.now() - from) / 1_000);
    return {
      perSecond: (count * 1_000) / (performance.now() - from),
      note: `${cores.toFixed(2)} cores of API processes`,
    };
  } finally {
    await rows.close();
  }
}

/** A backlog is decided while the persist processes, which have joined, hold their commits; then they go on. */
async function drained(cluster: Cluster, processes: number, namespace: string): Promise<Rate> {
  const flags = { ...cluster.flags(namespace), partitions: String(partitions) };
  const decider = await startDibs({ name: 'scale-decider', flags: { ...flags, roles: 'api,reserve' } });
  const names = Array.from({ length: processes }, (_, i) => `scale-persist-${i}`);
  const persists = await Promise.all(
    names.map(name => startDibs({ name, flags: { ...flags, roles: 'persist' }, inside: true, program: gated })),
  );
  const rows = await rowsOf(cluster, namespace);
  const log = await createKafkaLog({
    ...{ brokers: cluster.services.kafkaBrokers.split(','), topicPrefix: `${namespace}.`, partitions },
    ...{ replication: 1, minInsync: 1, host: createHost(), log: () => {} },
  });
  try {
    for (const couponId of spread()) await Coupon.create(decider.url, couponId, stock);
    // Warm, and each with its share of the partitions.
    await fill(log, 500);
    while ((await rows.count()) < partitions * 500) await sleep(20);
    for (const dibs of persists) await dibs.ask('hold');
    const [before] = [await rows.count(), await fill(log, backlog)];
    await decided(decider);
    const used = () => persists.reduce((sum, { pid }) => sum + treeUsed(pid), 0);
    const [usedBefore, serverBefore] = [used(), cluster.used().postgres];
    const from = performance.now();
    await Promise.all(persists.map(dibs => dibs.ask('go')));
    while ((await rows.count()) - before < partitions * backlog) await sleep(10);
    const seconds = (performance.now() - from) / 1_000;
    const cores = (n: number) => (n / seconds).toFixed(2);
    return {
      perSecond: (partitions * backlog) / seconds,
      note: `${cores(used() - usedBefore)} cores of persist, ${cores(cluster.used().postgres - serverBefore)} of Postgres`,
    };
  } finally {
    await log.close();
    await rows.close();
    for (const dibs of [...persists, decider]) await dibs.stop();
  }
}

/** One coupon in each partition. */
function spread(): CouponId[] {
  const found = new Map<number, CouponId>();
  for (let i = 0; found.size < partitions; i++) {
    const couponId = `spread-${i}` as CouponId;
    if (!found.has(partitionOf(couponId, partitions))) found.set(partitionOf(couponId, partitions), couponId);
  }
  return [...found.values()];
}

const host = createHost();
let users = 0;

async function fill(log: Awaited<ReturnType<typeof createKafkaLog>>, each: number): Promise<void> {
  const chunk = 1_000;
  await Promise.all(
    spread().map(async couponId => {
      for (let n = 0; n < each; n += chunk) {
        const request = () => encodeRequest(couponId, `user-${++users}` as UserId, randomKey(host));
        const values = Array.from({ length: Math.min(chunk, each - n) }, request);
        await log.append(requestLog, partitionOf(couponId, partitions), values);
      }
    }),
  );
}

async function decided(dibs: Dibs): Promise<void> {
  for (;;) {
    const answer = await fetch(`${dibs.url}/admin/lag`);
    const { stages } = (await answer.json()) as { stages: { lagEntries: number; next: number }[] };
    const decidedAll = stages.reduce((sum, { next }) => sum + next, 0) >= partitions * (backlog + 500 + 1);
    if (decidedAll && stages.every(({ lagEntries }) => lagEntries === 0)) return;
    await sleep(10);
  }
}

async function main(): Promise<void> {
  await haveLoadTool(say);
  const cluster = await startCluster(say);
  const answers: Answer[] = [];
  try {
    for (const name of chosen) {
      say(name);
      answers.push(...(await parts[name](cluster)));
    }
  } finally {
    await cluster.stop();
  }
  mkdirSync(out, { recursive: true });
  writeFileSync(
    join(out, 'scale.json'),
    JSON.stringify({ at: new Date().toISOString(), machine: machine(), answers }, null, 1),
  );
  const k = (n: number) => (n / 1_000).toFixed(1);
  console.log(`${machine()}\n\n| | | per second | |\n|---|---|---|---|`);
  for (const { part, what, perSecond, from, to, note } of answers)
    console.log(`| ${part} | ${what} | ${k(perSecond)} k (${k(from)} to ${k(to)}) | ${note} |`);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? `scale: ${error.message}` : error);
  process.exitCode = 1;
}
