/** How long an embedded server with a long history takes from its start until it can accept. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { CouponId } from '../src/coupon.ts';
import type { Measurement } from './bench.ts';
import { fill } from './fill.ts';
import { alternate, median, summary } from './rounds.ts';
import { emptyFolder, secret, startDibs } from './servers.ts';

const entries = 1_000_000;
const couponId = 'filled' as CouponId;
const cli = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

export const start: Measurement = {
  name: 'start',
  about: 'embedded: ready after start with 1,000,000 entries in the log, 1,000,000 holders',
  seconds: 60,
  async run(bench) {
    const [data, none] = [emptyFolder('start'), emptyFolder('start-empty')];
    bench.say(` filling the file with ${entries} requests`);
    await fill(join(data, 'dibs.db'), couponId, entries);
    const ready = async (folder: string, profile?: string): Promise<number> => {
      const dibs = await startDibs({ name: 'start', flags: { data: folder, secret }, profile });
      await dibs.stop();
      return dibs.readyMs;
    };
    await verified(data);
    await ready(none);
    bench.say(' ms until ready: with all of it | with an empty file');
    const sides = [
      { name: 'filled', run: () => ready(data, bench.profile('start')) },
      { name: 'empty', run: () => ready(none) },
    ];
    const rounds = await alternate(sides, bench.pace);
    const empty = median(rounds.map(({ values }) => values[1] ?? 0)) / 1000;
    return {
      lines: [
        {
          what: 'embedded: ready after start, 1,000,000 entries in the log, 1,000,000 holders',
          ...{ reach: 4, aim: 2, better: 'less', unit: 's' },
          measured: summary(rounds, ([filled]) => (filled ?? 0) / 1000),
          note: `${empty.toFixed(2)} s with an empty file`,
        },
      ],
      rounds,
    };
  },
};

/** The file holds what a server would have made of it. */
async function verified(data: string): Promise<void> {
  const dibs = await startDibs({ name: 'start', flags: { data, secret } });
  try {
    // It exits with 1, and this throws, when anything is not as it must be.
    const { stdout } = await promisify(execFile)(process.execPath, [cli, 'verify', '--url', dibs.url, '--json']);
    const { checkedEntries } = JSON.parse(stdout) as { checkedEntries: number };
    if (checkedEntries < entries) throw new Error(`only ${checkedEntries} entries were verified`);
  } finally {
    await dibs.stop();
  }
}
