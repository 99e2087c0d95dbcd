/** One cluster: the servers that all share, the processes, and what watches over them. */

import { Facts } from './checks/facts.ts';
import { RoadChecks } from './checks/roads.ts';
import { ToldChecks } from './checks/told.ts';
import { Groups } from './groups.ts';
import { hostOf, Instance } from './instance.ts';
import { SharedLog } from './log.ts';
import type { InstancePlan, Plan } from './plan.ts';
import { portsOf } from './ports.ts';
import { hashOf, mix, Random } from './random.ts';
import { type Life, Scheduler, type What } from './scheduler.ts';
import { SharedBoard, SharedLedger } from './servers.ts';
import { MemoryStore } from './store.ts';
import { Wire } from './wire.ts';

/** Where the clocks of a run begin, ms since 1970. */
const epoch = 1_700_000_000_000;
/** A process that could not start is tried again. */
const startAgainMs = 500;

/** Runs of one node process follow each other in one open database: opening takes longer than many a run. */
let openStore: MemoryStore | undefined;

export class World {
  readonly plan: Plan;
  readonly scheduler: Scheduler;
  readonly wire: Wire;
  readonly groups: Groups;
  readonly log: SharedLog;
  readonly ledger = new SharedLedger();
  readonly board = new SharedBoard();
  readonly store: MemoryStore;
  readonly facts: Facts;
  readonly checks: RoadChecks;
  readonly told: ToldChecks;
  /** ms that the clocks of their hosts are ahead. */
  readonly skewMs: number[];
  /** The processes of now, by their place in the plan. */
  readonly instances: (Instance | undefined)[];
  /** How to tell a process that its subscription broke. */
  readonly breaks = new Map<Life, () => void>();
  readonly random: Random;
  readonly epoch = epoch;
  /** Clients and operators that have not come to their end. */
  busy = 0;
  /** Calls that the core was asked for and has not settled; those of processes that were killed stay. */
  readonly serves = new Set<{ life: Life }>();
  private starts = 0;

  constructor(plan: Plan, keepTrace: boolean) {
    this.plan = plan;
    const scheduler = new Scheduler(plan.seed, keepTrace);
    this.scheduler = scheduler;
    this.random = new Random(mix(plan.seed, 2));
    this.wire = new Wire(plan, scheduler);
    this.wire.kill = life => this.kill(life, this.random.int(0, 1_500));
    const waits = new Random(mix(plan.seed, 3));
    this.groups = new Groups(plan.partitions, (life, ms, what, call) => scheduler.in(ms, life, what, call), {
      assign: () => waits.int(0, 50),
      revoke: () => (this.wire.isRough ? waits.pick([0, 20, 500, 3_000]) : 10),
      session: () => waits.int(500, 2_000),
      isCut: life => !this.wire.reaches(life, 'log'),
    });
    const clock = {
      now: () => epoch + scheduler.now,
      after: (ms: number, call: () => void) => {
        const planned = scheduler.in(ms, undefined, 'a read has waited', call);
        return () => {
          planned.off = true;
        };
      },
    };
    this.log = new SharedLog(clock, plan.partitions, 'the log of the run', this.groups);
    openStore ??= MemoryStore.open();
    openStore.empty();
    this.store = openStore;
    this.facts = new Facts(scheduler, plan.partitions, id => hashOf(id) % plan.partitions, epoch);
    this.checks = new RoadChecks(this.facts, this);
    this.told = new ToldChecks(this.facts, plan);
    this.log.appended = (log, partition, entries) => this.checks.appended(log, partition, entries);
    this.instances = plan.instances.map(() => undefined);
    this.skewMs = plan.instances.map(({ skewMs }) => skewMs);
  }

  start(): void {
    this.plan.instances.forEach((instance, place) => void this.startInstance(instance, place));
  }

  kill(life: Life, downMs: number): void {
    if (!life.alive) return;
    life.alive = false;
    const place = this.instances.findIndex(instance => instance?.life === life);
    const instance = this.instances[place];
    this.groups.lost(life);
    this.wire.heal(life);
    this.breaks.delete(life);
    if (!instance) return;
    this.instances[place] = undefined;
    instance.ended();
    this.scheduler.in(downMs, undefined, `${instance.plan.name} is started again`, () =>
      this.startInstance(instance.plan, place),
    );
  }

  /** A process that serves clients: the one asked for, or the next that does. */
  serving(place: number): Instance | undefined {
    const up = this.instances.filter(instance => instance?.up);
    return up[place % Math.max(1, up.length)];
  }

  /** `call`, which its process is busy with until it settles, whether or not anybody still waits for the answer. */
  served<T>({ life }: Instance, call: Promise<T>): Promise<T> {
    const one = { life };
    this.serves.add(one);
    const over = () => void this.serves.delete(one);
    call.then(over, over);
    return call;
  }

  sleep(ms: number, what: What): Promise<void> {
    return new Promise(resolve => void this.scheduler.in(ms, undefined, what, resolve));
  }

  /** What `ask` answers, or `lost`: after so long, or when the process that is asked is killed. */
  asked<T>(instance: Instance, patienceMs: number, what: What, lost: T, ask: (answer: (value: T) => void) => void) {
    return new Promise<T>(resolve => {
      const end = (value: T) => {
        waits.off = true;
        instance.onEnd.delete(breaks);
        resolve(value);
      };
      const breaks = () => {
        if (!instance.life.alive) end(lost);
      };
      const waits = this.scheduler.in(patienceMs, undefined, what, () => end(lost));
      instance.onEnd.add(breaks);
      ask(end);
    });
  }

  private startInstance(plan: InstancePlan, place: number): void {
    const life: Life = { name: `${plan.name}.${++this.starts}`, alive: true, pausedUntil: 0 };
    const now = () => epoch + this.scheduler.now + (this.skewMs[place] as number);
    const host = hostOf(life, now, this.plan.seed, this.scheduler);
    const instance = new Instance(plan, life, this.plan, portsOf(this, life), host, (level, message) => {
      this.scheduler.note(`${life.name} says: ${message}`);
      if (level === 'error') this.facts.fail('no_alarm', `${life.name}: ${message}`);
    });
    this.instances[place] = instance;
    instance.start().catch(error => {
      this.scheduler.note(`${life.name} does not start: ${error}`);
      this.kill(life, startAgainMs);
    });
  }
}
