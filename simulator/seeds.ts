/** Seeds one after the other, and the report of one that failed. */
import { checkNames, type Failure } from './checks/facts.ts';
import { planOf } from './plan.ts';
import { mix } from './random.ts';
import { run } from './run.ts';
import { shrink } from './shrink.ts';

export interface Share {
  from: number;
  seeds: number;
  /** Every so many seeds is ours. */
  step: number;
  all: boolean;
}

export interface Failed {
  seed: number;
  failure: Failure;
}

export interface Summary {
  seeds: number;
  steps: number;
  /** ms of all runs together. */
  lasted: number;
  /** Of all runs, whatever their order. */
  hash: number;
  failed: Failed[];
}

/** Seeds from `from` on, until one fails or all of them. */
export async function runSeeds({ from, seeds, step, all }: Share): Promise<Summary> {
  const summary: Summary = { seeds: 0, steps: 0, lasted: 0, hash: 0, failed: [] };
  for (let seed = from; seed < from + seeds * step; seed += step) {
    const { failure, hash, steps, lasted } = await run(planOf(seed));
    summary.seeds++;
    summary.steps += steps;
    summary.lasted += lasted;
    summary.hash = (summary.hash + mix(seed, hash)) >>> 0;
    if (!failure) continue;
    summary.failed.push({ seed, failure });
    if (!all) break;
  }
  return summary;
}

/** The seed that failed, made smaller: what is left of its plan, what happened in it, and how to see it again. */
export async function explain({ seed, failure: { check, detail } }: Failed): Promise<string> {
  const { plan, runs } = await shrink(planOf(seed), check);
  const { trace, failure } = await run(plan, { keepTrace: true });
  const { clients, operations, faults, instances, rates, spared, batchMax, partitions, coupons } = plan;
  const left = [{ partitions, instances, batchMax }, ...coupons, ...operations, ...clients, ...faults];
  return [
    `seed ${seed} fails ${check} (${checkNames[check]}): ${detail}`,
    `made smaller in ${runs} runs:`,
    ...[...left, { rates, spared: spared.length }].map(line => `  ${JSON.stringify(line)}`),
    ...trace,
    `${check}: ${failure?.detail}`,
    `again: npm run simulate -- --seed ${seed}`,
  ].join('\n');
}
