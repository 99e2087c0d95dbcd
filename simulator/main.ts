/**
 * `npm run simulate -- --seeds 100000`: so many seeds, one after the other, until one fails. That one is made smaller
 * and printed.
 *
 *   --seeds <n>    how many (1000)          --from <n>   the first (1)
 *   --seed <n>     only this one            --trace      print what happened in it
 *   --jobs <n>     threads (1); the hash of the run is the same with any number of them
 *   --all          goes on after a seed that fails, and names all of them
 *   --json         nothing but the summary, for programs
 */

import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { planOf } from './plan.ts';
import { run } from './run.ts';
import { explain, runSeeds, type Share, type Summary } from './seeds.ts';

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '1000' },
      from: { type: 'string', default: '1' },
      seed: { type: 'string' },
      jobs: { type: 'string', default: '1' },
      trace: { type: 'boolean', default: false },
      all: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  });
  const [first, seeds, jobs] = values.seed
    ? [Number(values.seed), 1, 1]
    : [values.from, values.seeds, values.jobs].map(Number);
  if (values.trace) {
    const { trace } = await run(planOf(first as number), { keepTrace: true });
    console.log(trace.join('\n'));
  }
  const startedAt = performance.now();
  const summaries = await Promise.all(
    sharesOf(first as number, seeds as number, jobs as number, values.all).map(inThread),
  );
  const s = (performance.now() - startedAt) / 1000;
  const sum = (name: 'seeds' | 'steps' | 'lasted' | 'hash') =>
    summaries.reduce((total, summary) => total + summary[name], 0);
  const hash = (sum('hash') >>> 0).toString(16).padStart(8, '0');
  const failed = summaries.flatMap(summary => summary.failed).sort((a, b) => a.seed - b.seed);
  if (values.json) {
    console.log(JSON.stringify({ seeds: sum('seeds'), steps: sum('steps'), lasted: sum('lasted'), hash, failed }));
    return failed.length > 0 ? 1 : 0;
  }
  const hours = (sum('lasted') / 3_600_000).toFixed(1);
  console.log(
    `${sum('seeds')} seeds in ${s.toFixed(1)} s (${(sum('seeds') / s).toFixed(0)} a second), ${sum('steps')} events, ${hours} hours of the clusters' time, hash ${hash}`,
  );
  if (!failed[0]) return 0;
  if (values.all)
    for (const { seed, failure } of failed) console.log(`seed ${seed} fails ${failure.check}: ${failure.detail}`);
  else console.log(`\n${await explain(failed[0])}`);
  return 1;
}

const sharesOf = (from: number, seeds: number, jobs: number, all: boolean): Share[] =>
  Array.from({ length: jobs }, (_, i) => ({ from: from + i, seeds: Math.ceil((seeds - i) / jobs), step: jobs, all }));

function inThread(share: Share, _: number, all: readonly Share[]): Promise<Summary> {
  if (all.length === 1) return runSeeds(share);
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: share });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

if (isMainThread) process.exitCode = await main();
else parentPort?.postMessage(await runSeeds(workerData as Share));
