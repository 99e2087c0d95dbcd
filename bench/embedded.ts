import type { Measurement } from './bench.ts';
import { againstEcho } from './issued.ts';
import { emptyFolder, startDibs } from './servers.ts';

export const embedded: Measurement = {
  name: 'embedded',
  about: 'embedded: requests fully issued per second / echo',
  seconds: 90,
  async run(bench) {
    const flags = { data: emptyFolder('embedded') };
    const dibs = await startDibs({ name: 'embedded', flags, profile: bench.profile('embedded') });
    try {
      return await againstEcho(bench, dibs, 'embedded: fully issued per second / echo', [
        { connections: 64, reach: 0.4, aim: 0.6 },
        { connections: 256, reach: 0.55, aim: 0.8 },
      ]);
    } finally {
      await dibs.stop();
    }
  },
};
