/**
 * How many requests a second are fully issued, held against the echo: durable, committed, told. Counted are the rows
 * of the store, from the first request until the last row is committed, so a backlog that is worked off after the
 * load has ended costs its time. Everyone wins.
 */
import type { Bench, Found } from './bench.ts';
import { Coupon } from './coupon.ts';
import { treeUsed } from './cpu.ts';
import { load } from './load.ts';
import type { Line } from './report.ts';
import { alternate, median, type Round, type Side, summary } from './rounds.ts';
import type { Dibs, Measured } from './servers.ts';

const stock = 10_000_000;
const body = '{"couponId":"welcome"}';

export interface Stretch {
  perSecond: number;
  /** To the answer of the request, as the load tool saw it. */
  p50Ms: number;
  p99Ms: number;
  /** us of a core that each of ours used for one of them. */
  cpuUs: Record<string, number>;
}

/** What else works for dibs, for the split of the CPU time: s used so far, by name. */
export type Helpers = () => Record<string, number>;

export async function warmEcho(bench: Bench, connections: number): Promise<void> {
  const { url } = await bench.echo();
  await load({ url, path: '/', users: 'warm', body, connections, seconds: bench.warmSeconds });
}

export const echoSide = (echo: Measured, seconds: number, connections: number): Side<Stretch> => ({
  name: 'echo',
  async run(round) {
    const before = treeUsed(echo.pid);
    const loaded = await load({ url: echo.url, path: '/', users: `e${round}-`, body, connections, seconds });
    if (loaded.broken > 0 || loaded.refused > 0) throw new Error(`the echo failed: ${JSON.stringify(loaded)}`);
    const { answers, p50Ms, p99Ms } = loaded;
    const used = treeUsed(echo.pid) - before;
    return { perSecond: answers / loaded.seconds, p50Ms, p99Ms, cpuUs: { echo: (used * 1e6) / answers } };
  },
});

export function dibsSide(
  { withBody, seconds }: Pick<Bench, 'withBody' | 'seconds'>,
  dibs: Dibs,
  coupon: Coupon,
  connections: number,
  helpers: Helpers = () => ({}),
): Side<Stretch> {
  return {
    name: 'dibs',
    async run(round) {
      const { issued: before } = await coupon.drained(0);
      const usedBefore = { dibs: treeUsed(dibs.pid), ...helpers() };
      const from = performance.now();
      const users = `r${round}-`;
      const loaded = await load({
        ...{ url: coupon.url, path: coupon.path, users, connections, seconds },
        ...(withBody ? { body: '{}' } : {}),
      });
      const accepted = loaded.answers - loaded.refused;
      const { issued, at } = await coupon.drained(before + accepted);
      const rows = issued - before;
      // Those whose answer the load tool did not wait for any more have a row too.
      if (loaded.broken > 0 || loaded.refused > 0 || rows > accepted + connections) {
        throw new Error(`not everyone was issued one: ${rows} rows, ${JSON.stringify(loaded)}`);
      }
      const usedAfter: Record<string, number> = { dibs: treeUsed(dibs.pid), ...helpers() };
      const cpuUs = Object.fromEntries(
        Object.entries(usedBefore).map(([name, used]) => [name, (((usedAfter[name] ?? 0) - used) * 1e6) / rows]),
      );
      const wholeSeconds = at === undefined ? loaded.seconds : Math.max(loaded.seconds, (at - from) / 1000);
      return { perSecond: rows / wholeSeconds, p50Ms: loaded.p50Ms, p99Ms: loaded.p99Ms, cpuUs };
    },
  };
}

export interface Goal {
  connections: number;
  reach: number;
  aim: number;
}

/** The line of each goal, one coupon each. */
export async function againstEcho(
  bench: Bench,
  dibs: Dibs,
  what: string,
  goals: readonly Goal[],
  helpers?: Helpers,
): Promise<Found> {
  const echo = await bench.echo();
  const lines: Line[] = [];
  const all: unknown[] = [];
  for (const { connections, reach, aim } of goals) {
    bench.say(` ${connections} connections: dibs | echo`);
    const coupon = await Coupon.create(dibs.url, `all-win-${connections}`, stock);
    await assertTold(coupon, 'before');
    await dibsSide({ ...bench, seconds: bench.warmSeconds }, dibs, coupon, connections).run(-1);
    await warmEcho(bench, connections);
    const sides = [dibsSide(bench, dibs, coupon, connections, helpers), echoSide(echo, bench.seconds, connections)];
    const rounds = await alternate(sides, bench.pace);
    await assertTold(coupon, 'after');
    all.push(...rounds.map(round => ({ connections, ...round })));
    const measured = summary(rounds, ratioOf);
    const note = `${thousands(rounds, 0)} of ${thousands(rounds, 1)} k/s; CPU us: ${cpuNote(rounds)}`;
    lines.push({ what: `${what}, ${connections} connections`, reach, aim, better: 'more', unit: '', measured, note });
  }
  return { lines, rounds: all };
}

export const ratioOf = ([ours, echo]: Stretch[]): number => (ours?.perSecond ?? 0) / (echo?.perSecond ?? 1);

export const thousands = (rounds: readonly Round<Stretch>[], side: number): string =>
  (median(rounds.map(({ values }) => values[side]?.perSecond ?? 0)) / 1000).toFixed(1);

export function cpuNote(rounds: readonly Round<Stretch>[]): string {
  const names = rounds[0]?.values.flatMap(({ cpuUs }) => Object.keys(cpuUs)) ?? [];
  const used = (name: string) =>
    median(rounds.map(({ values }) => values.find(({ cpuUs }) => name in cpuUs)?.cpuUs[name] ?? 0));
  return names.map(name => `${name} ${used(name).toFixed(0)}`).join(', ');
}

async function assertTold(coupon: Coupon, user: string): Promise<void> {
  const outcome = await coupon.claim(user);
  if (outcome !== 'issued') throw new Error(`${user} was told ${outcome}`);
}
