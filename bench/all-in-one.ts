import type { Bench, Measurement } from './bench.ts';
import { Coupon } from './coupon.ts';
import { againstEcho } from './issued.ts';
import { load } from './load.ts';
import { type Dibs, startDibs } from './servers.ts';

export const allInOne: Measurement = {
  name: 'cluster',
  about: 'cluster, all roles in one process, all servers on this machine: fully issued per second / echo',
  seconds: 110,
  async run(bench) {
    const cluster = await bench.cluster();
    const flags = cluster.flags('issued');
    const dibs = await startDibs({ name: 'cluster', flags, profile: bench.profile('cluster') });
    try {
      await warmUp(bench, dibs);
      return await againstEcho(
        bench,
        dibs,
        'cluster: fully issued per second / echo',
        [
          { connections: 64, reach: 0.25, aim: 0.4 },
          { connections: 256, reach: 0.33, aim: 0.5 },
        ],
        () => cluster.used(),
      );
    } finally {
      await dibs.stop();
    }
  },
};

/** The broker's compiler takes half a core for its first seconds under load; an operator's has run for weeks. */
async function warmUp({ say }: Bench, { url }: Dibs): Promise<void> {
  say(` ${brokerWarmSeconds} s of load for the broker's compiler`);
  const { path } = await Coupon.create(url, 'warm-up', 10_000_000);
  await load({ url, path, users: 'warm-up-', connections: 64, seconds: brokerWarmSeconds });
}

const brokerWarmSeconds = 15;
