/** Seeds one after the other, and the report of one that failed. */
import { checkNames, type Failure } from './checks/facts.ts';
import { planOf } from './plan.ts';
import { mix } from './random.ts';
import { run } from './run.ts';
import { shrink } from './shrink.ts';

export interface Share {
  from: number;
  seeds: number;
  /** Goes on after one that fails. */
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

export const nothing = (): Summary => ({ seeds: 0, steps: 0, lasted: 0, hash: 0, failed: [] });

export function add(sum: Summary, { seeds, steps, lasted, hash, failed }: Summary): void {
  sum.seeds += seeds;
  sum.steps += steps;
  sum.lasted += lasted;
  sum.hash = (sum.hash + hash) >>> 0;
  sum.failed.push(...failed);
}

/** Seeds from `from` on, until one fails or all of them. */
export async function runSeeds({ from, seeds, all }: Share): Promise<Summary> {
  const sum = nothing();
  for (let seed = from; seed < from + seeds && (all || sum.failed.length === 0); seed++) {
    const { failure, hash, steps, lasted } = await run(planOf(seed));
    add(sum, { seeds: 1, steps, lasted, hash: mix(seed, hash), failed: failure ? [{ seed, failure }] : [] });
  }
  return sum;
}

/** The seed that failed, made smaller: what is left of its plan, what happened in it, and how to see it again. */
export async function explain({ seed, failure: { check, detail } }: Failed): Promise<string> {
  const { plan, runs } = await shrink(planOf(seed), check);
  const { trace, failure } = await run(plan, { keepTrace: true });
  const { clients, operations, faults, instances, rates, spared, batchMax, applyMax, bounds, partitions, coupons } =
    plan;
  const left = [
    { partitions, instances, batchMax, applyMax, bounds },
    ...coupons,
    ...operations,
    ...clients,
    ...faults,
  ];
  return [
    `seed ${seed} fails ${check} (${checkNames[check]}): ${detail}`,
    `made smaller in ${runs} runs:`,
    ...[...left, { rates, spared: spared.length }].map(line => `  ${JSON.stringify(line)}`),
    ...trace,
    `${check}: ${failure?.detail}`,
    `again: npm run simulate -- --seed ${seed}`,
  ].join('\n');
}
