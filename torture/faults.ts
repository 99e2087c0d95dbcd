/** The nemesis: what is broken in a round, by name. Whatever a fault leaves broken is healed after it. */
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import type { ServerName, ServiceHandle } from '../scripts/services.ts';
import { cutTails } from '../test/support/cut-tails.ts';
import { eventually } from '../test/support/sale.ts';
import { frozenMs, type Pair, pairs, type Slot } from './arena.ts';
import { controllerAlone, type PartitionState, partitionState } from './brokers.ts';
import { canMount, onSmallDisk } from './disk.ts';
import { assertShut } from './judge.ts';
import { allPoints, killed } from './kill.ts';
import { type Mode, modes } from './proxy.ts';
import { type Context, extent, type Fault } from './round.ts';

const wait = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));
const preload = join(import.meta.dirname, '../test/support/shifted-clock.ts');
const tenMinutesMs = 10 * 60_000;
/** A session of 3 s, an election, and catching up, on a busy machine. */
const leaderMsMax = 60_000;
/** Times that a proxy spoils something in a round, and for how long: a server once beyond every bound of its clients. */
const spoils = 4;
const spoiltMs = 1_500;
/** A process that noticed that the log was cut takes nothing more; what was under way then it may have to ask about. */
const noticedMs = 2_000;

/** Frozen for longer than the group's session, so that another owner takes over; then it wakes up. */
const frozen = (slot: Slot): Fault => ({
  own: [],
  async run({ arena, crowd, did }) {
    using _ = crowd.pressing(40);
    const first = arena.node(slot);
    first.pause();
    did(`SIGSTOP ${slot}`);
    const frozenAt = performance.now();
    const second = slot.startsWith('api') ? undefined : await arena.cluster.node(slot);
    await wait(frozenMs - (performance.now() - frozenAt));
    first.resume();
    crowd.press(50);
    await wait(500);
    await second?.kill();
  },
});

const clock = (offMs: number): Fault => ({
  own: [],
  window: { opensInMs: 4_000, closesInMs: 60_000 },
  async run({ arena, crowd, did }) {
    // Both API processes, so that nobody is saved by the other.
    const env = { DIBS_TEST_CLOCK_MS: String(offMs) };
    await Promise.all([arena.restart('api1', { preload, env }), arena.restart('api2', { preload, env })]);
    did(`clock ${offMs / 60_000} min off`);
    crowd.press(40);
    await wait(4_000);
    crowd.press(60);
    await crowd.answeredAtLeast(crowd.size);
  },
});

const serverFault = (
  name: ServerName,
  what: string | (() => string),
  run: (context: Context) => Promise<void>,
): Fault => ({
  own: [name],
  async run(context) {
    using _ = context.crowd.pressing(25);
    await run(context);
    context.did(`${name} ${typeof what === 'string' ? what : what()}`);
  },
});

const restarted = (name: ServerName): Fault =>
  serverFault(name, 'kill -9', async ({ arena, crowd }) => {
    for (let i = 0; i < 2; i++) {
      crowd.press(40);
      await arena.server(name).kill();
      await wait(200);
      await arena.server(name).start();
      await wait(500);
    }
  });

const gone = (name: ServerName): Fault =>
  serverFault(
    name,
    () => `away for ${extent.awayMs / 1_000} s`,
    async ({ arena }) => {
      await arena.server(name).kill();
      await wait(extent.awayMs);
      await arena.server(name).start();
    },
  );

const paused = (name: ServerName): Fault =>
  serverFault(name, 'paused', async ({ arena, crowd }) => {
    arena.server(name).pause();
    crowd.press(40);
    await wait(4_000);
    arena.server(name).resume();
  });

type Log = 'coupon-issued' | 'coupon-issued-success';

/** The state of the partition where the crowd's coupon is. */
async function couponPartition({ arena, crowd }: Context, log: Log): Promise<PartitionState> {
  const [coupon] = await arena.cluster.sql<{ partition: number }>('select partition from coupon where coupon_id = $1', [
    crowd.couponId,
  ]);
  const topic = `${arena.cluster.namespace}.${log}`;
  return partitionState(arena.services.kafkaBrokers, topic, (coupon as { partition: number }).partition);
}

/**
 * Of three brokers the one that leads the coupon's partition of `log` is struck. Another must lead, and people must be
 * told, while it is still out. Then it comes back and catches up, so that the next may be struck.
 */
async function strikeLeader(context: Context, log: Log, how: 'kill -9' | 'SIGSTOP'): Promise<void> {
  const { arena, crowd, did } = context;
  const { leader } = await couponPartition(context, log);
  const broker = arena.brokers[leader - 1] as ServiceHandle;
  crowd.press(40);
  if (how === 'SIGSTOP') broker.pause();
  else await broker.kill();
  await eventually(
    `another broker than ${leader} leads ${log}`,
    () => couponPartition(context, log),
    state => state.leader > 0 && state.leader !== leader,
    leaderMsMax,
  );
  const before = crowd.size;
  crowd.press(40);
  // All who pressed before, and as many as now: somebody of these at least was decided behind the new leader.
  await crowd.answeredAtLeast(before + 1);
  broker.resume();
  await broker.start();
  await eventually(
    `broker ${leader} has caught up with ${log}`,
    () => couponPartition(context, log),
    ({ isr }) => isr.length === arena.brokers.length,
    leaderMsMax,
  );
  did(`kafka leader of ${log} ${how}`);
}

/** Both leaders in turn, those of the requests and of the changes, twice. A sale that is sold out would tell without Kafka. */
const leaderStruck = (how: 'kill -9' | 'SIGSTOP'): Fault => ({
  own: 'brokers',
  stock: 100_000,
  async run(context) {
    using _ = context.crowd.pressing(25);
    for (const log of ['coupon-issued', 'coupon-issued-success', 'coupon-issued', 'coupon-issued-success'] as const)
      await strikeLeader(context, log, how);
  },
});

/** One of three has too few copies: nothing is accepted until a second is back. */
const minorityLeft: Fault = {
  own: 'brokers',
  stock: 100_000,
  async run(context) {
    const { arena, crowd, did } = context;
    using _ = crowd.pressing(40);
    const { leader } = await couponPartition(context, 'coupon-issued');
    const followers = arena.brokers.filter((_, i) => i !== leader - 1);
    await Promise.all(followers.map(broker => broker.kill()));
    // One of two controllers alone cannot say who is gone. It ends before it answers as a broker.
    const [controller] = followers as [ServiceHandle, ServiceHandle];
    const ended = controller.start({ args: await controllerAlone(controller) }).catch(() => {});
    await eventually(
      `broker ${leader} leads alone`,
      () => couponPartition(context, 'coupon-issued'),
      state => state.leader === leader && state.isr.length === 1,
      leaderMsMax,
    );
    const from = performance.now();
    await wait(extent.awayMs);
    assertShut('with one copy of three', crowd.history, from);
    await controller.kill();
    await ended;
    await Promise.all(followers.map(broker => broker.start()));
    did('kafka two of three brokers kill -9');
  },
};

/** What goes between these is spoilt for some seconds, one way after another. */
const spoilt = (between: readonly Pair[], choice: readonly Mode[]): Fault => ({
  own: 'proxied',
  async run({ arena, crowd, random, did }) {
    using _ = crowd.pressing(30);
    for (let i = 0; i < spoils; i++) {
      const pair = between[Math.floor(random() * between.length)] as Pair;
      const mode = choice[Math.floor(random() * choice.length)] as Mode;
      const proxies = arena.proxies(pair);
      for (const proxy of proxies) proxy.set(mode);
      await wait(i === 0 && pair !== 'crowd' ? frozenMs : spoiltMs);
      for (const proxy of proxies) proxy.set('pass');
      if (proxies.every(({ bytes }) => bytes === 0)) throw new Error(`nothing goes through the proxy of ${pair}`);
      did(`proxy ${pair} ${mode}`);
      await wait(300);
    }
  },
});

async function withRedis<T>({ arena }: Context, use: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(arena.services.redisUrl, { retryStrategy: () => 20 });
  redis.on('error', () => {});
  try {
    return await use(redis);
  } finally {
    redis.disconnect();
  }
}

/**
 * The broker comes back with half of a log: somebody must say so. `busy`: a crowd presses on, so that the log has grown
 * beyond its old end before anybody may have looked.
 */
const cut = (log: Log, busy: boolean): Fault => ({
  own: ['kafka'],
  alarms: log === 'coupon-issued' ? 'lost' : 'kept',
  async run({ arena, crowd, did }) {
    await crowd.answeredAtLeast(crowd.size);
    const server = arena.server('kafka');
    await server.kill();
    await cutTails(server.dataDir, `${arena.cluster.namespace}.${log}`);
    did(`tail of ${log} cut off${busy ? ' under a crowd' : ''}`);
    using _ = busy ? crowd.pressing(3) : undefined;
    await server.start();
    await eventually(
      'somebody says aloud that the log was cut',
      () => arena.alarms(),
      alarms => alarms.some(alarm => /cut|not the log/.test(alarm)),
      30_000,
    );
    if (log !== 'coupon-issued') return;
    // Both API processes have appended behind the place of the cut.
    crowd.press(20);
    await wait(noticedMs);
    const from = performance.now();
    crowd.press(20);
    await wait(noticedMs);
    assertShut('into a log that was cut', crowd.history, from);
  },
});

export const faults: Record<string, Fault> = {
  none: { own: [], run: async () => {} },
  kill: killed(allPoints),
  ...Object.fromEntries(
    Object.entries(allPoints).flatMap(([slot, points]) => points.map(point => [point, killed({ [slot]: [point] })])),
  ),
  'freeze-api': frozen('api1'),
  'freeze-reserve': frozen('reserve'),
  'freeze-persist': frozen('persist'),
  'freeze-stats': frozen('stats'),
  'clock-ahead': clock(tenMinutesMs),
  'clock-behind': clock(-tenMinutesMs),
  'two-owners': {
    own: [],
    async run({ arena, crowd, did }) {
      using _ = crowd.pressing(15);
      const env = { DIBS_TEST_OWNER: 'all' };
      const others = await Promise.all([
        arena.cluster.node('reserve,persist', { env }),
        arena.cluster.node('reserve,persist', { env }),
      ]);
      did('two more owners of each partition');
      crowd.press(100);
      await wait(2_500);
      crowd.press(60);
      await Promise.all(others.map(other => other.kill()));
    },
  },
  'redis-flushall': serverFault('redis', 'FLUSHALL', context =>
    withRedis(context, async redis => {
      for (let i = 0; i < 5; i++) {
        await redis.flushall();
        await wait(300 * context.random());
      }
    }),
  ),
  'redis-restart': restarted('redis'),
  'redis-away': gone('redis'),
  'redis-pause': paused('redis'),
  'redis-older': {
    ...serverFault('redis', 'back with data a second old', context =>
      withRedis(context, async redis => {
        const [, dir] = (await redis.config('GET', 'dir')) as [string, string];
        await redis.save();
        const older = join(dir, 'older.rdb');
        await copyFile(join(dir, 'dump.rdb'), older);
        await wait(1_000);
        const server = context.arena.server('redis');
        await server.kill();
        await copyFile(older, join(dir, 'dump.rdb'));
        await server.start();
        await wait(300);
      }),
    ),
    noRestock: true,
  },
  'postgres-restart': restarted('postgres'),
  'postgres-away': gone('postgres'),
  'postgres-pause': paused('postgres'),
  'postgres-full': {
    own: ['postgres'],
    impossible: canMount ? undefined : 'a mount needs root on Linux',
    async run({ arena, crowd, did }) {
      using _ = crowd.pressing(25);
      await onSmallDisk(arena.server('postgres'), async disk => {
        await disk.fill();
        crowd.press(60);
        await wait(5_000);
        await disk.empty();
        did('postgres disk full');
        await wait(1_000);
      });
    },
  },
  'kafka-restart': restarted('kafka'),
  'kafka-away': gone('kafka'),
  'kafka-pause': paused('kafka'),
  'kafka-leader': leaderStruck('kill -9'),
  'kafka-leader-pause': leaderStruck('SIGSTOP'),
  'kafka-minority': minorityLeft,
  proxy: spoilt(pairs, modes),
  ...Object.fromEntries(
    pairs.flatMap(pair => modes.map(mode => [`proxy:${pair}-${mode}`, spoilt([pair], [mode])] as const)),
  ),
  'log-cut': cut('coupon-issued', false),
  'log-cut-busy': cut('coupon-issued', true),
  'change-log-cut': cut('coupon-issued-success', false),
  'change-log-cut-busy': cut('coupon-issued-success', true),
};
