/** Shares of a long run, handed to threads one after the other and summed up in the order of their seeds. */
import { Worker } from 'node:worker_threads';
import { add, nothing, runSeeds, type Share, type Summary } from './seeds.ts';

/** Seeds of one share: about a second's work, so that what is summed up is never far behind. */
const shareMax = 50;

/**
 * Runs shares of the seeds on so many threads until all are done or one has failed. `sum` hears of each share once all
 * before it are done: what was told so far is a run of its own, with its hash, whatever befalls the rest.
 */
export async function runOnThreads(
  { from, seeds, all }: Share,
  jobs: number,
  threadFile: URL,
  sum: (total: Summary) => void,
): Promise<Summary> {
  const total = nothing();
  const early = new Map<number, Summary>();
  let given = 0;
  let summed = 0;
  const runShares = async (runShare: (share: Share) => Promise<Summary>) => {
    while (given < seeds && goesOn(total, all)) {
      const place = given;
      const size = Math.min(shareMax, seeds - place);
      given += size;
      early.set(place, await runShare({ from: from + place, seeds: size, all }));
      for (let next = early.get(summed); next && goesOn(total, all); next = early.get(summed)) {
        early.delete(summed);
        summed += Math.min(shareMax, seeds - summed);
        add(total, next);
        sum(total);
      }
    }
  };
  const threads = jobs === 1 ? [] : Array.from({ length: jobs }, () => new Worker(threadFile));
  try {
    await Promise.all(
      jobs === 1 ? [runShares(runSeeds)] : threads.map(thread => runShares(share => ask(thread, share))),
    );
  } finally {
    await Promise.all(threads.map(thread => thread.terminate()));
  }
  return total;
}

const goesOn = ({ failed }: Summary, all: boolean): boolean => all || failed.length === 0;

function ask(thread: Worker, share: Share): Promise<Summary> {
  return new Promise((resolve, reject) => {
    thread.removeAllListeners();
    thread.once('message', resolve).once('error', reject);
    thread.postMessage(share);
  });
}
