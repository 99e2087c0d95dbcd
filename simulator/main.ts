/**
 * `npm run simulate -- --seeds 100000`: so many seeds, one after the other, until one fails. That one is made smaller
 * and printed.
 *
 *   --seeds <n>    how many (1000)          --from <n>   the first (1)
 *   --seed <n>     only this one            --trace      print what happened in it
 *   --jobs <n>     threads (1); the hash of the run is the same with any number of them
 *   Every 20 s it says on stderr how far it is: all seeds up to there, and their hash.
 *   --all          goes on after a seed that fails, and names each when it is found
 *   --json         nothing but the summary, for programs
 */

import { isMainThread, parentPort } from 'node:worker_threads';
import { optionsOf, wholeNumber } from '../scripts/usage.ts';
import { planOf } from './plan.ts';
import { run } from './run.ts';
import { explain, runSeeds, type Share, type Summary } from './seeds.ts';
import { runOnThreads } from './threads.ts';

/** How often a long run says how far it is: those seeds are a run of their own, with that hash. */
const tellMs = 20_000;

async function main(): Promise<number> {
  const { values } = optionsOf(import.meta.filename, {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    jobs: { type: 'string', default: '1' },
    trace: { type: 'boolean', default: false },
    all: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  });
  const number = (flag: 'seeds' | 'from' | 'jobs') => wholeNumber(flag, values[flag]);
  const [first, seeds, jobs] =
    values.seed === undefined
      ? [number('from'), number('seeds'), number('jobs')]
      : [wholeNumber('seed', values.seed), 1, 1];
  if (values.trace) {
    const { trace } = await run(planOf(first), { keepTrace: true });
    console.log(trace.join('\n'));
  }
  const startedAt = performance.now();
  let toldAt = startedAt;
  const lineOf = (total: Summary): string => {
    const s = (performance.now() - startedAt) / 1000;
    const hours = (total.lasted / 3_600_000).toFixed(1);
    return `${total.seeds} seeds in ${s.toFixed(1)} s (${(total.seeds / s).toFixed(0)} a second), ${total.steps} events, ${hours} hours of the clusters' time, hash ${hashOf(total)}`;
  };
  const share = { from: first, seeds, all: values.all };
  let named = 0;
  const total = await runOnThreads(share, jobs, new URL(import.meta.url), soFar => {
    if (values.all && !values.json) {
      for (const { seed, failure } of soFar.failed.slice(named))
        console.log(`seed ${seed} fails ${failure.check}: ${failure.detail}`);
      named = soFar.failed.length;
    }
    if (performance.now() - toldAt < tellMs) return;
    toldAt = performance.now();
    console.error(`${lineOf(soFar)}, ${soFar.failed.length} failed`);
  });
  const { steps, lasted, failed } = total;
  if (values.json) {
    console.log(JSON.stringify({ seeds: total.seeds, steps, lasted, hash: hashOf(total), failed }));
    return failed.length > 0 ? 1 : 0;
  }
  console.log(lineOf(total));
  if (!failed[0]) return 0;
  if (!values.all) console.log(`\n${await explain(failed[0])}`);
  return 1;
}

const hashOf = ({ hash }: Summary): string => hash.toString(16).padStart(8, '0');

if (isMainThread) process.exitCode = await main();
else parentPort?.on('message', (share: Share) => void runSeeds(share).then(sum => parentPort?.postMessage(sum)));
