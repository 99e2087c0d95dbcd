/**
 * Thousands who follow their task with the project's client while every stream is cut 0.2 to 2 s after it was opened.
 * Nothing is decided until they have been cut for a while; then each is to hear one verdict, the one of its row.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createNodeFetch } from '../../src/cli/node-fetch.ts';
import type { FetchLike } from '../../src/client/http.ts';
import { type Claim, type ClaimOutcome, createClient } from '../../src/client/index.ts';
import { Coupon } from '../coupon.ts';
import { startDibs } from '../servers.ts';
import { type Endurance, seconds } from './number.ts';
import { rowsOf } from './taken.ts';

const watchers = 5_000;
const winners = 3_000;
const cutMs = { min: 200, max: 2_000 };
const undecidedMs = 20_000;
const toldMsMax = 90_000;
const requestsMax = 64;
const asksAtOnce = 50;

export const cuts: Endurance = {
  name: 'cuts',
  about: '5,000 watchers whose streams are cut every 0.2 to 2 s: each gets one verdict, its own',
  async run({ cluster: clusterOf, say, scale }) {
    const n = Math.round(watchers * scale);
    const stock = Math.round(winners * scale);
    const flags = (await clusterOf()).flags('endurance_cuts');
    const api = await startDibs({ name: 'endurance-cuts-api', flags: { ...flags, roles: 'api' } });
    const roadOf = () =>
      startDibs({ name: 'endurance-cuts-road', flags: { ...flags, roles: 'reserve,persist,stats' } });
    let road = await roadOf();
    const cutter = new Cutter(api.url, n);
    const claims: Claim[] = [];
    try {
      const coupon = await Coupon.create(api.url, 'cuts', stock);
      await road.stop();
      const client = createClient({ baseUrl: api.url, fetch: cutter.fetch });
      for (let i = 0; i < n; i++) claims.push(client.claim(coupon.id, { userId: `u${i}` }));
      const tasks = await Promise.all(claims.map(claim => claim.taskId));
      await sleep(undecidedMs * Math.max(scale, 0.25));
      const cutBefore = cutter.cuts;
      say(`  ${n} accepted, ${cutBefore} streams cut; now they are decided`);
      const from = performance.now();
      road = await roadOf();
      const told = await Promise.race([
        Promise.allSettled(claims.map(({ outcome }) => outcome)),
        sleep(toldMsMax, undefined, { ref: false }),
      ]);
      if (!told) throw new Error(`not everybody was told within ${toldMsMax} ms`);
      const toldMs = performance.now() - from;
      const rows = (await rowsOf(flags)).get(coupon.id) as Map<string, number>;
      const wrong: string[] = [];
      told.forEach((one, i) => {
        const why =
          one.status === 'rejected' ? String(one.reason) : contradiction(one.value, `u${i}`, tasks[i], rows, cutter);
        if (why) wrong.push(`u${i}: ${why}`);
      });
      // Asked again, each hears the same.
      for (let at = 0; at < n; at += asksAtOnce) {
        await Promise.all(
          tasks.slice(at, at + asksAtOnce).map(async (taskId, j) => {
            const [again, one] = [await client.task(taskId as string), told[at + j]];
            const first = one?.status === 'fulfilled' ? one.value : undefined;
            if (again.state !== 'done' || again.outcome !== first?.outcome)
              wrong.push(`u${at + j}: asked again ${JSON.stringify(again)}`);
          }),
        );
      }
      for (const line of wrong.slice(0, 5)) say(`  ${line}`);
      const broken = wrong.length > 0 || rows.size !== stock;
      const by = Object.entries(Object.groupBy(claims, ({ via }) => `${via}`)).map(
        ([via, some]) => `${some?.length} by ${via}`,
      );
      return [
        {
          number: `${n} watchers, streams cut every ${cutMs.min / 1_000} to ${cutMs.max / 1_000} s: other than one verdict, their own`,
          toReach: '0 of 5,000',
          measured: `${wrong.length} of ${n}; ${cutter.cuts} streams cut of ${cutter.opened} (${cutBefore} before anything was decided), ${cutter.frames} outcomes came on streams, ${rows.size} rows; ${by.join(', ')}; the last told ${seconds(toldMs)} after the stages were started`,
          reached: !broken && n >= watchers,
          broken,
        },
      ];
    } finally {
      for (const claim of claims) claim.abort();
      cutter.close();
      await Promise.all([api.stop(), road.stop()]);
    }
  },
};

function contradiction(
  end: ClaimOutcome,
  userId: string,
  taskId: string | undefined,
  rows: ReadonlyMap<string, number>,
  cutter: Cutter,
): string | undefined {
  const row = rows.get(userId);
  const isTrue =
    end.outcome === 'issued'
      ? end.slot === row
      : end.outcome === 'inactive' && end.reason === 'sold_out' && row === undefined;
  if (!isTrue || end.taskId !== taskId) return `told ${JSON.stringify(end)}, its row is ${row}`;
  const heard = cutter.heard.get(taskId as string) ?? [];
  const others = heard.filter(text => !text.includes(taskId as string) || text !== heard[0]);
  return others.length > 0 ? `heard ${heard.join(' and ')}` : undefined;
}

/** A fetch whose streams are cut, their sockets destroyed, and which keeps every outcome that came on one. */
class Cutter {
  readonly fetch: FetchLike;
  /** Data of `event: outcome` by the task whose stream it came on. */
  readonly heard = new Map<string, string[]>();
  readonly close: () => void;
  cuts = 0;
  opened = 0;
  frames = 0;

  constructor(baseUrl: string, streamsMax: number) {
    const node = createNodeFetch(baseUrl, { requestsMax, streamsMax });
    this.close = node.close;
    this.fetch = async (url, init) => {
      const answer = await node.fetch(url, init);
      const taskId = /\/tasks\/([^/]+)\/events$/.exec(url)?.[1];
      return taskId === undefined || answer.status !== 200 ? answer : { ...answer, body: this.cutting(taskId, answer) };
    };
  }

  private cutting(taskId: string, { body }: Awaited<ReturnType<FetchLike>>): { getReader(): Reader } {
    return {
      getReader: () => {
        const reader = (body as { getReader(): Reader }).getReader();
        const decoder = new TextDecoder();
        let text = '';
        this.opened++;
        const cut = () => {
          this.cuts++;
          void reader.cancel();
        };
        const timer = setTimeout(cut, cutMs.min + (cutMs.max - cutMs.min) * Math.random());
        return {
          read: async () => {
            const chunk = await reader.read().catch(error => {
              clearTimeout(timer);
              throw error;
            });
            if (chunk.value) text = this.hear(taskId, text + decoder.decode(chunk.value, { stream: true }));
            if (chunk.done) clearTimeout(timer);
            return chunk;
          },
          cancel: () => {
            clearTimeout(timer);
            return reader.cancel();
          },
        };
      },
    };
  }

  /** Answers what is left after the last whole event. */
  private hear(taskId: string, text: string): string {
    const events = text.split('\n\n');
    const rest = events.pop() as string;
    for (const event of events) {
      if (!/^event: outcome$/m.test(event)) continue;
      this.frames++;
      const data = /^data: (.*)$/m.exec(event)?.[1] ?? '';
      this.heard.set(taskId, [...(this.heard.get(taskId) ?? []), data]);
    }
    return rest;
  }
}

type Reader = NonNullable<Awaited<ReturnType<FetchLike>>['body']> extends { getReader(): infer R } ? R : never;
