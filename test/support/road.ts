/** What the scenarios of the whole road stand on: one profile, two of its instances, clients, and a fresh coupon each. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { App, Options } from '../../src/app.ts';
import { createNodeFetch } from '../../src/cli/node-fetch.ts';
import { type Client, createClient, type FetchLike, type NewCoupon } from '../../src/client/index.ts';
import type { Profile } from '../../src/config.ts';
import { type Answered, type CallOptions, call } from './calls.ts';
import { type Flags, type Ground, groundOf, notOwed } from './profiles.ts';
import { until } from './until.ts';

export interface Road {
  profile: Profile;
  ground: Ground;
  /** Two instances; of the scheduler profile only `a` runs the schedulers. `embedded` has one, which is both. */
  a: App;
  b: App;
  client: Client;
  /** Requests go to `a`; everything else, streams too, to `b`. */
  split: Client;
  /** POST /coupons/{couponId}/issue. */
  press(couponId: string, userId: string, options?: { key?: string; at?: App }): Promise<Answered>;
  /** A raw call of `a`. */
  call(what: string, options?: CallOptions): Promise<Answered>;
  /** Makes a coupon and answers its id. */
  coupon(stock: number, more?: Partial<NewCoupon>): Promise<string>;
  users(rows: readonly { userId: string }[]): string[];
  /** Verify finds nothing and misses nobody; where it is not owed it says so. */
  verified(couponId?: string, winners?: number): Promise<void>;
  close(): Promise<void>;
}

/** How a second instance is started beside the first. */
const seconds: Partial<Record<Profile, (ground: Ground) => Promise<App>>> = {
  scheduler: ground => ground.start({ roles: 'api' }),
  cluster: ground => ground.start(),
};

/** Connections of a crowd to one instance. */
const connections = 256;

export async function openRoad(profile: Profile, flags: Flags = {}, options: Options = {}): Promise<Road> {
  const ground = await groundOf(profile, flags);
  try {
    const a = await ground.start({}, options);
    const b = (await seconds[profile]?.(ground)) ?? a;
    const limits = { requestsMax: connections, streamsMax: 4 * connections };
    const [toA, toB] = [createNodeFetch(a.url, limits), createNodeFetch(b.url, limits)];
    const splitFetch: FetchLike = (url, init) =>
      init.method === 'POST' ? toA.fetch(url, init) : toB.fetch(url.replace(a.url, b.url), init);
    const client = createClient({ baseUrl: a.url, fetch: toA.fetch });
    return {
      ...{ profile, ground, a, b, client },
      split: createClient({ baseUrl: a.url, fetch: splitFetch }),
      press: (couponId, userId, { key, at = a } = {}) =>
        call(at.url, `POST /coupons/${couponId}/issue`, {
          headers: { 'x-user-id': userId, ...(key === undefined ? {} : { 'idempotency-key': key }) },
        }),
      call: (what, callOptions) => call(a.url, what, callOptions),
      async coupon(stock, more = {}) {
        const couponId = `c-${randomBytes(5).toString('hex')}`;
        await client.coupons.create({ couponId, name: 'a coupon of a test', stock, ...more });
        return couponId;
      },
      users: rows => rows.map(row => row.userId),
      async verified(couponId, winners) {
        if (notOwed[profile].verify !== undefined) {
          await assert.rejects(client.verify(couponId), { status: 501, code: 'NOT_OFFERED' });
          return;
        }
        const { coupons, ok, unanswered } = await client.verify(couponId);
        assert.deepEqual([ok, unanswered], [true, 0]);
        if (winners !== undefined)
          assert.deepEqual(
            coupons.map(coupon => [coupon.rows, coupon.winners]),
            [[winners, winners]],
          );
      },
      async close() {
        toA.close();
        toB.close();
        await ground.close();
      },
    };
  } catch (error) {
    await ground.close();
    throw error;
  }
}

/** Until everything that was asked for stands in the store and was counted: no stage has anything left to do. */
export async function settled(apps: readonly App[]): Promise<void> {
  for (const app of new Set(apps)) {
    const client = createClient({ baseUrl: app.url });
    await until(async () => (await client.lag()).stages.every(stage => stage.lagEntries === 0));
  }
}

/** Waits for a task's end by asking. */
export const ended = (client: Client, taskId: string) =>
  until(async () => {
    const task = await client.task(taskId);
    return task.state === 'done' && task;
  });

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
