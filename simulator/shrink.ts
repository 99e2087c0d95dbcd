/** Makes a failing plan smaller: whatever can go while the same check still fails goes. */
import type { CheckName } from './checks/facts.ts';
import type { Plan, Rates } from './plan.ts';
import { run } from './run.ts';

const runsMax = 1_500;

export async function shrink(failing: Plan, check: CheckName): Promise<{ plan: Plan; runs: number }> {
  let plan = failing;
  let runs = 0;
  const attempt = async (smaller: Plan): Promise<boolean> => {
    if (runs >= runsMax) return false;
    runs++;
    if ((await run(smaller)).failure?.check !== check) return false;
    plan = smaller;
    return true;
  };
  /** Leaves out parts of one list, halves first, then single ones. */
  const thin = async <T>(list: () => readonly T[], without: (left: T[]) => Plan): Promise<void> => {
    for (let size = Math.ceil(list().length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let from = 0; from < list().length; ) {
        const gone = await attempt(without(list().filter((_, i) => i < from || i >= from + size)));
        if (!gone) from += size;
      }
    }
  };
  const lists = async (): Promise<void> => {
    await thin(
      () => plan.faults,
      faults => ({ ...plan, faults }),
    );
    await thin(
      () => plan.clients,
      clients => ({ ...plan, clients }),
    );
    await thin(
      () => plan.operations,
      operations => ({ ...plan, operations }),
    );
  };
  for (let before = -1; before !== sizeOf(plan); ) {
    before = sizeOf(plan);
    await lists();
    for (const rate of Object.keys(plan.rates) as (keyof Rates)[]) {
      if (plan.rates[rate] > 0) await attempt({ ...plan, rates: { ...plan.rates, [rate]: 0 } });
    }
    if (plan.instances.length > 1)
      await thin(
        () => plan.instances,
        instances => (instances.length > 0 ? { ...plan, instances } : plan),
      );
    if (plan.callMsMax > 0) await attempt({ ...plan, callMsMax: 0 });
    await thinCalls();
  }
  return { plan, runs };

  /** Spares calls the faults that the failure does not need. */
  async function thinCalls(): Promise<void> {
    const { happened } = await run(plan);
    const left = () => happened.filter(name => !plan.spared.includes(name));
    await thin(left, needed => ({
      ...plan,
      spared: [...plan.spared, ...left().filter(name => !needed.includes(name))],
    }));
  }
}

const sizeOf = ({ clients, operations, faults, instances, spared, rates }: Plan): number =>
  clients.length +
  operations.length +
  faults.length +
  instances.length +
  Object.values(rates).filter(Boolean).length -
  spared.length;
