/**
 * What a waiting stream costs, and how fast a crowd is told. Two processes: one serves the API, the other decides and
 * stores. The second is stopped for a few seconds (SIGSTOP, shorter than its group would notice), so that what the
 * first accepts stays undecided and its streams wait; then it goes on, and everyone is told once.
 */
import { Agent } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { claimPath } from './arrivals.ts';
import type { Bench, Measurement } from './bench.ts';
import { Coupon } from './coupon.ts';
import { residentBytes } from './cpu.ts';
import { alternate, median, summary } from './rounds.ts';
import { type Dibs, startDibs } from './servers.ts';

const streams = 4_000;
const stock = 1_000_000;
/** Opened at once: more would overflow the listener's queue. */
const openingMax = 200;
const pressingMax = 64;
/** The memory of a process that was just busy sinks for a while. */
const settleMs = 500;
const toldMsMax = 20_000;
/** Shorter than the session of the consumer groups, 6 s: nobody may be thrown out. */
const stoppedMsMax = 5_500;

interface Told {
  bytesPerStream: number;
  heapPerStream: number;
  firstToLastMs: number;
  goOnToLastMs: number;
  stoppedMs: number;
}

export const waiting: Measurement = {
  name: 'streams',
  about: 'memory per idle stream; 4,000 streams told once each, time to the last',
  seconds: 45,
  async run(bench) {
    bench.say(` ${streams} streams: memory of each, and from the first that is told to the last`);
    const rounds = await alternate([{ name: 'streams', run: round => measure(bench, round) }], bench.pace);
    const fromGoOn = median(rounds.map(({ values: [told] }) => told?.goOnToLastMs ?? 0)).toFixed(0);
    const heap = median(rounds.map(({ values: [told] }) => told?.heapPerStream ?? 0)) / 1024;
    return {
      lines: [
        {
          what: 'memory per idle stream (resident)',
          ...{ reach: 16, aim: 8, better: 'less', unit: 'KiB' },
          measured: summary(rounds, ([told]) => (told?.bytesPerStream ?? 0) / 1024),
          note: `JavaScript heap ${heap.toFixed(1)} KiB`,
        },
        {
          what: `${streams} streams told once each, from the first to the last`,
          ...{ reach: 500, aim: 150, better: 'less', unit: 'ms' },
          measured: summary(rounds, ([told]) => told?.firstToLastMs ?? 0),
          note: `deciding and storing included; ${fromGoOn} ms from when the deciding process goes on`,
        },
      ],
      rounds,
    };
  },
};

async function measure(bench: Bench, round: number): Promise<Told> {
  const cluster = await bench.cluster();
  const flags = cluster.flags(`streams${round}`);
  const api = await startDibs({
    name: 'streams-api',
    flags: { ...flags, roles: 'api' },
    inside: true,
    profile: bench.profile('streams'),
  });
  const road = await startDibs({ name: 'streams-road', flags: { ...flags, roles: 'reserve,persist,stats' } });
  const agent = new Agent({ keepAlive: true, maxSockets: pressingMax });
  const open: Stream[] = [];
  try {
    const coupon = await Coupon.create(api.url, 'all-win', stock);
    // Both have done all of it before: what is compiled and loaded on the way belongs to no stream.
    const warm = await crowd(coupon, agent, 'w', openingMax);
    await Promise.all((await openAll(api, warm)).map(stream => stream.told));
    await coupon.drained(openingMax);
    const stoppedAt = performance.now();
    process.kill(road.pid, 'SIGSTOP');
    const paths = await crowd(coupon, agent, 'u', streams);
    const [resident, before] = await settled(api);
    open.push(...(await openAll(api, paths)));
    const [residentOpen, after] = await settled(api);
    const goOn = performance.now();
    if (goOn - stoppedAt > stoppedMsMax) {
      bench.say(`  opening took ${(goOn - stoppedAt).toFixed(0)} ms: the groups may have moved on meanwhile`);
    }
    process.kill(road.pid, 'SIGCONT');
    const times = await within(toldMsMax, Promise.all(open.map(stream => stream.told)));
    await coupon.drained(openingMax + streams);
    return {
      bytesPerStream: (residentOpen - resident) / streams,
      heapPerStream: (after.heapUsed - before.heapUsed) / streams,
      firstToLastMs: Math.max(...times) - Math.min(...times),
      goOnToLastMs: Math.max(...times) - goOn,
      stoppedMs: goOn - stoppedAt,
    };
  } finally {
    process.kill(road.pid, 'SIGCONT');
    for (const stream of open) stream.socket.destroy();
    agent.destroy();
    await Promise.all([api.stop(), road.stop()]);
  }
}

async function settled(api: Dibs): Promise<[resident: number, memory: NodeJS.MemoryUsage]> {
  await sleep(settleMs);
  const memory = await api.ask<NodeJS.MemoryUsage>('settle');
  return [residentBytes(api.pid), memory];
}

/** Presses for each of them; answers where their events are. */
async function crowd(coupon: Coupon, agent: Agent, prefix: string, n: number): Promise<string[]> {
  const paths: string[] = [];
  const press = async (k: number) => {
    for (let i = k; i < n; i += pressingMax) paths[i] = await claimPath(agent, coupon, `${prefix}${i}`, '');
  };
  await Promise.all(Array.from({ length: pressingMax }, (_, k) => press(k)));
  return paths;
}

interface Stream {
  socket: Socket;
  /** When the outcome came, by performance.now(). */
  told: Promise<number>;
}

/** Resolves when each has its head and its first event. */
async function openAll({ url }: Dibs, paths: readonly string[]): Promise<Stream[]> {
  const { port } = new URL(url);
  const opened: Stream[] = [];
  for (let i = 0; i < paths.length; i += openingMax) {
    const some = paths.slice(i, i + openingMax).map(path => openOne(Number(port), path));
    opened.push(...(await Promise.all(some)));
  }
  return opened;
}

/** On a bare socket: 4,000 clients of node:http would take more of the machine than the server. */
function openOne(port: number, path: string): Promise<Stream> {
  const { promise: told, resolve: tell, reject } = Promise.withResolvers<number>();
  // Of a stream that is given up nobody waits for the outcome.
  told.catch(() => {});
  return new Promise((resolve, fail) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`));
    let head = '';
    socket.setEncoding('latin1');
    socket.on('data', (chunk: unknown) => {
      const text = chunk as string;
      const at = performance.now();
      if (head === '' && !/^HTTP\/1.1 200 /.test(text)) fail(new Error(`a stream was refused: ${text}`));
      head = (head + text).slice(-2_000);
      if (head.includes('event: ')) resolve({ socket, told });
      if (!head.includes('event: outcome')) return;
      if (head.includes('"outcome":"issued"')) tell(at);
      else reject(new Error(`one was told: ${head}`));
      socket.destroy();
    });
    const lost = (error?: Error) => {
      const why = error ?? new Error('a stream ended without an outcome');
      reject(why);
      fail(why);
    };
    socket.on('error', lost);
    socket.on('close', () => lost());
  });
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`not everyone was told within ${ms} ms`)), ms);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
