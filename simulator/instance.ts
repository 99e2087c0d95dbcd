/** One process: the real core, composed as src/app.ts composes it, on ports that lead through the wire. */
import { randomBytes } from 'node:crypto';
import type { Ports } from '../src/app.ts';
import type { Host } from '../src/host.ts';
import { Hub } from '../src/hub.ts';
import { FrontDoor } from '../src/issue.ts';
import { type Log, noMetrics } from '../src/metrics.ts';
import { Operator } from '../src/operator.ts';
import { persistStage } from '../src/persist.ts';
import { reserveStage } from '../src/reserve.ts';
import { type RunningStage, runStage, type Stage } from '../src/stage.ts';
import { statsStage } from '../src/stats.ts';
import { StatusReader } from '../src/status.ts';
import { createSealer, type Sealer } from '../src/task.ts';
import type { InstancePlan, Plan } from './plan.ts';
import { hashOf, mix, Random } from './random.ts';
import type { Life, Scheduler } from './scheduler.ts';

/** Of all processes of all runs: making one takes longer than many an event, and nothing of a run depends on it. */
let sharedSealer: Sealer | undefined;
const sealerOf = (identity: string): Sealer => {
  sharedSealer ??= createSealer('the secret of the run', identity, randomBytes);
  return sharedSealer;
};

export class Instance {
  readonly plan: InstancePlan;
  readonly life: Life;
  readonly door: FrontDoor;
  readonly status: StatusReader;
  readonly hub: Hub;
  readonly operator: Operator;
  readonly sealer: Sealer;
  /** Called when its connections break: it ended. */
  readonly onEnd = new Set<() => void>();
  /** It serves clients. */
  up = false;
  private readonly ports: Ports;
  private readonly host: Host;
  private readonly say: Log;
  private readonly stages: Stage[];
  private running: RunningStage[] = [];

  constructor(
    plan: InstancePlan,
    life: Life,
    { batchMax, applyMax, bounds }: Pick<Plan, 'batchMax' | 'applyMax' | 'bounds'>,
    ports: Ports,
    host: Host,
    say: Log,
  ) {
    this.plan = plan;
    this.life = life;
    this.ports = ports;
    this.host = host;
    this.say = say;
    const tools = { ...ports, host, metrics: noMetrics, say };
    this.sealer = sealerOf(ports.log.identity);
    this.door = new FrontDoor(tools, bounds);
    this.status = new StatusReader(tools, bounds.statusBatchMax);
    this.hub = new Hub({ status: this.status, board: ports.board, host, say, broken: () => this.door.latch.drop() });
    this.operator = new Operator({ ...tools, door: this.door });
    const atMost = (role: keyof typeof batchMax) => Math.max(1, Math.floor(batchMax[role] * plan.batchPart));
    const made = {
      reserve: () => ({ ...reserveStage(tools, applyMax), batchMax: atMost('reserve') }),
      persist: () => ({ ...persistStage(tools), batchMax: atMost('persist') }),
      stats: () => ({ ...statsStage(ports.store)(ports), batchMax: atMost('stats') }),
    };
    this.stages = (['reserve', 'persist', 'stats'] as const)
      .filter(role => plan.roles.includes(role))
      .map(role => made[role]());
  }

  async start(): Promise<void> {
    const { ports, host, say } = this;
    await ports.store.claim({ log: ports.log.identity, secret: this.sealer.fingerprint });
    if (this.plan.roles.includes('api')) await this.hub.start();
    for (const stage of this.stages) {
      this.running.push(await runStage(stage, { log: ports.log, host, metrics: noMetrics, say }));
    }
    this.up = this.plan.roles.includes('api');
  }

  /** As a process is asked to end: what was taken in is answered, stages finish their batch. */
  async stop(): Promise<void> {
    this.up = false;
    this.ended();
    while (this.door.pending > 0) await this.host.delay(10);
    this.door.stop();
    await Promise.all(this.running.map(stage => stage.stop()));
    await this.hub.stop();
  }

  ended(): void {
    this.up = false;
    for (const end of [...this.onEnd]) end();
  }
}

/** A clock that is set by `now`, chance of its own, and timers that are events of the run. */
export function hostOf(life: Life, now: () => number, seed: number, scheduler: Scheduler): Host {
  const random = new Random(mix(seed, hashOf(life.name)));
  // Each process counts from a moment of its own.
  const elapsedFrom = hashOf(life.name) % 1_000_000;
  const every = (ms: number, call: () => void): (() => void) => {
    const turn = () => {
      planned = scheduler.in(ms, life, `${life.name} ticks`, turn);
      call();
    };
    let planned = scheduler.in(ms, life, `${life.name} ticks`, turn);
    return () => {
      planned.off = true;
    };
  };
  const after = (ms: number, call: () => void): (() => void) => {
    const planned = scheduler.in(ms, life, `${life.name} waited ${Math.round(ms)} ms`, call);
    return () => {
      planned.off = true;
    };
  };
  return {
    now,
    elapsed: () => elapsedFrom + scheduler.now,
    randomBytes: n => Buffer.alloc(n).map(() => random.int(0, 255)) as Buffer,
    delay: (ms, signal) =>
      new Promise(resolve => {
        if (signal?.aborted) return resolve();
        const end = () => {
          off();
          signal?.removeEventListener('abort', end);
          resolve();
        };
        const off = after(ms, end);
        signal?.addEventListener('abort', end, { once: true });
      }),
    after,
    every,
    soon: call => void scheduler.in(0, life, `${life.name} goes on`, call),
  };
}
