/** One run: a plan from its first moment until all has come to rest, or the first check that fails. */
import { messageOf } from '../src/errors.ts';
import { checkEnd, unrest } from './checks/end.ts';
import type { Failure } from './checks/facts.ts';
import { Crowd } from './clients.ts';
import { planFaults } from './faults.ts';
import { Operators } from './operators.ts';
import type { Plan } from './plan.ts';
import { World } from './world.ts';

/** After the faults everything comes to its end within this time, ms of the run: waits and retries are bounded. */
const restMsMax = 40_000;
const lookMs = 250;

export interface Run {
  failure: Failure | undefined;
  /** Of everything that happened. */
  hash: number;
  steps: number;
  /** ms of the run. */
  lasted: number;
  /** Faults of calls that happened, by name. */
  happened: string[];
  trace: string[];
}

export async function run(plan: Plan, { keepTrace = false }: { keepTrace?: boolean } = {}): Promise<Run> {
  const world = new World(plan, keepTrace);
  const { scheduler, facts, wire } = world;
  const crowd = new Crowd(world);
  const crashed = (error: unknown) => facts.fail('no_crash', error instanceof Error ? `${error.stack}` : String(error));
  process.on('unhandledRejection', crashed);
  // Most errors here are those that a wire makes up; where one came from is told by the run that keeps its trace.
  const { stackTraceLimit } = Error;
  if (!keepTrace) Error.stackTraceLimit = 0;
  let ended = false;
  try {
    planFaults(world);
    world.start();
    crowd.start();
    new Operators(world).start();
    toTheEnd(world, crowd).then(() => {
      ended = true;
    }, crashed);
    await scheduler.run(() => {
      if (scheduler.now > plan.calmAt + 2 * restMsMax)
        facts.fail('comes_to_rest', 'the last questions are not answered');
      return ended || facts.failure !== undefined;
    });
  } catch (error) {
    crashed(error);
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
    await new Promise(setImmediate);
    process.off('unhandledRejection', crashed);
  }
  const { hash, steps, now, trace = [] } = scheduler;
  return { failure: facts.failure, hash, steps, lasted: now, happened: wire.happened, trace };
}

async function toTheEnd(world: World, crowd: Crowd): Promise<void> {
  const { plan, scheduler, facts } = world;
  await world.sleep(plan.calmAt, 'the faults are over');
  for (;;) {
    const why = await unrest(world);
    if (why === undefined) break;
    if (scheduler.now > plan.calmAt + restMsMax) return facts.fail(world.busy > 0 ? 'answered' : 'comes_to_rest', why);
    redriveWhatWaits(world);
    await world.sleep(lookMs, 'a look at what is left');
  }
  await askEverywhere(world, crowd);
  await checkEnd(world, crowd);
}

/** An operator looks after what was set aside: its clients wait for it. */
function redriveWhatWaits(world: World): void {
  if (!world.store.letters().some(letter => letter.slot !== null)) return;
  const failed = (error: unknown) => world.scheduler.note(`redrive failed: ${messageOf(error)}`);
  const instance = world.serving(0);
  if (instance) world.served(instance, instance.operator.redrive(undefined)).catch(failed);
}

/** Every task, at every instance: whoever asks is told the same, and it is final. */
async function askEverywhere(world: World, { tasks }: Crowd): Promise<void> {
  const asked = world.instances.flatMap(instance =>
    instance?.up
      ? tasks.map(async task => {
          const { life } = instance;
          const asked = { name: life.name, at: world.scheduler.now };
          const { status } = await instance.status.read(task);
          world.told.answered(task, status, asked);
          world.facts.expect(
            status.state === 'done',
            'answered',
            () => `${life.name} says ${JSON.stringify(status)} of ${JSON.stringify(task)}`,
          );
        })
      : [],
  );
  await Promise.all(asked);
}
