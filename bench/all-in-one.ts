import type { Measurement } from './bench.ts';
import { againstEcho } from './issued.ts';
import { startDibs } from './servers.ts';

export const allInOne: Measurement = {
  name: 'cluster',
  about: 'cluster, all roles in one process, all servers on this machine: fully issued per second / echo',
  seconds: 95,
  async run(bench) {
    const cluster = await bench.cluster();
    const flags = cluster.flags('issued');
    const dibs = await startDibs({ name: 'cluster', flags, profile: bench.profile('cluster') });
    try {
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
