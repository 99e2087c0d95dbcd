/**
 * A stage is a named consumer of one log. This loop polls, hands over, retries, drains and reports lag for all of
 * them; a handler only answers with a verdict. Stages meet through logs, never by calling each other.
 *
 * One partition's loop is a small state machine:
 *   begin ──place──▶ read ──entries──▶ handle ──done──▶ read ...
 *     ▲               │ empty: idle        ├─ go_back: read from there
 *     └── back-off ◀──┴── error ───────────┴─ alarm: stopped, for an operator
 */

import { type LogEntry, type LogName, logNames } from './entry.ts';
import { Alarm, messageOf, Refused } from './errors.ts';
import type { Host } from './host.ts';
import { drainMsMax, groupCommitMs, idleTickMs, pollMsMax, statsBatchMax } from './limits.ts';
import type { Log, Metrics } from './metrics.ts';
import type { Assignment, CouponStore, EventLog } from './ports.ts';
import { backoffMs, within } from './retry.ts';

export interface Batch {
  partition: number;
  from: number;
  /** Where the batch after this one begins. */
  next: number;
  /** End of the log when it was read. */
  end: number;
  entries: readonly LogEntry[];
}

export type Verdict =
  /** Handled up to batch.next. */
  | { kind: 'done' }
  /** The truth is elsewhere: read from `to`. */
  | { kind: 'go_back'; to: number }
  /** Going on would do harm. The partition stops until the process is started again. */
  | { kind: 'alarm'; why: string };

export const done: Verdict = { kind: 'done' };

export interface Stage {
  /** Lower-case; also the name of its consumer group and its label in metrics. */
  name: string;
  log: LogName;
  /** Entries of one batch at most. */
  batchMax: number;
  /** Having read all there is, waits this long so that the next batch grows: 0 for none. */
  gatherMs: number;
  /** Only after a batch of so many entries (1): under a light load everything is handled at once. */
  gatherBatchMin?: number;
  /** A stage that ticks takes one batch in this time, however much there is; without, as fast as it can. */
  tickMs?: number;
  /** Where to go on, read from the truth. Called at the start and after every error. */
  begin(partition: number): Promise<number>;
  /** Entries may come again; what was handled must then change nothing. Throw to have the same batch retried. */
  handle(batch: Batch): Promise<Verdict>;
  /** About once a second while there is nothing to read. */
  idle?(partition: number, next: number): Promise<Verdict>;
}

export interface StageDefinition {
  name: string;
  /** `coupon-issued` (requests) or `coupon-issued-success` (what they changed). */
  log: LogName;
  batchMax?: number;
  gatherMs?: number;
  /** Entries come in order, at least once: a batch that was handled may come again after a crash. Throw to retry. */
  handle(batch: Batch): Promise<void>;
}

export interface StageTools {
  store: Pick<CouponStore, 'place' | 'savePlace'>;
}

/**
 * A consumer that keeps its place in the store under its own name: the way to add one without touching the others.
 * @throws Refused
 */
export function defineStage(definition: StageDefinition): (tools: StageTools) => Stage {
  const { name, log, batchMax = statsBatchMax, gatherMs = 0, handle } = definition;
  const shown = `stage ${JSON.stringify(name)}`;
  if (!/^[\w][\w.-]{0,199}$/.test(name))
    throw new Refused(`${shown}: its name cannot be that of a consumer group: give up to 200 of a-z A-Z 0-9 . _ -`);
  if (!logNames.includes(log))
    throw new Refused(`${shown}: there is no log ${log}: give one of ${logNames.join(', ')}`);
  if (!Number.isSafeInteger(batchMax) || batchMax < 1)
    throw new Refused(`${shown}: batchMax ${batchMax} is no number of entries: give a whole number from 1 on`);
  if (!(gatherMs >= 0 && gatherMs < Number.POSITIVE_INFINITY))
    throw new Refused(`${shown}: gatherMs ${gatherMs} is no time: give ms from 0 on`);
  /** A store that went back (a backup, a failover) lost what was handled since, too: it is handled again. */
  const unlessElsewhere = (place: number, next: number): Verdict =>
    place === next ? done : { kind: 'go_back', to: place };
  return ({ store }) => ({
    name,
    log,
    batchMax,
    gatherMs,
    begin: partition => store.place(name, partition),
    async handle(batch) {
      await handle(batch);
      return unlessElsewhere(await store.savePlace(name, batch.partition, batch.from, batch.next), batch.next);
    },
    idle: async (partition, next) => unlessElsewhere(await store.place(name, partition), next),
  });
}

export interface StageLag {
  stage: string;
  log: LogName;
  partition: number;
  next: number;
  end: number;
  lagEntries: number;
  /** Age of the oldest entry that is not handled, ms; 0 when there is none. */
  lagMs: number;
  state: 'running' | 'retrying' | 'stopped';
  error?: string;
}

export interface StageTooling {
  log: EventLog;
  host: Host;
  metrics: Metrics;
  say: Log;
}

/** One partition of one stage. `step` is one turn of the loop; `run` turns until stopped. */
export class PartitionLoop {
  place: number | undefined;
  /** Between these the log holds nothing for us: a batch still begins at `from`, the read goes on at `to`. */
  private skipped = { from: -1, to: 0 };
  /** The last place that was known, for the report of a lag while it is not. */
  private lastPlace: number | undefined;
  private end = 0;
  /** One look at a time, which nobody waits for: the log may be what is away. */
  private looking: Promise<void> | undefined;
  private oldestAt = 0;
  private attempt = 0;
  /** Batches in a row that were sent back; more than one and the loop waits between them. */
  private goBacks = 0;
  /** Entries that the last step handled. */
  private handled = 0;
  private committedAt = Number.NEGATIVE_INFINITY;
  private committedPlace = -1;
  private idleAt = Number.NEGATIVE_INFINITY;
  private error: string | undefined;
  private stopped = false;

  private readonly stage: Stage;
  readonly partition: number;
  private readonly tools: StageTooling;

  constructor(stage: Stage, partition: number, tools: StageTooling) {
    this.stage = stage;
    this.partition = partition;
    this.tools = tools;
  }

  /**
   * Reads and handles one batch, waiting up to `waitMs` for it. Answers whether it handled entries.
   * Whatever the handler throws is thrown on; the next step begins from the truth again.
   */
  async step(waitMs: number, signal?: AbortSignal): Promise<boolean> {
    const { stage, partition, tools } = this;
    this.handled = 0;
    if (this.stopped) return false;
    try {
      this.place ??= await stage.begin(partition);
      const from = this.place;
      this.lastPlace = from;
      const readFrom = this.skipped.from === from ? this.skipped.to : from;
      const read = await tools.log.read(stage.log, partition, readFrom, stage.batchMax, waitMs, signal);
      const { entries, end } = read;
      this.end = end;
      // What was taken from a queue is handled: it is nowhere else.
      if (signal?.aborted && !tools.log.unhandled) return false;
      const last = entries[entries.length - 1];
      if (!last) {
        this.skipped = { from, to: read.next };
        this.oldestAt = 0;
        this.attempt = 0;
        this.error = undefined;
        await this.tick(from);
        await this.noteInGroup();
        return false;
      }
      this.oldestAt = entries[0]?.at ?? 0;
      const startedAt = tools.host.elapsed();
      // It ends with its last entry, not where the read ended: stages keep a hash of the entry before their place.
      const next = last.offset + 1;
      const verdict = await stage.handle({ partition, from, next, end, entries });
      this.attempt = 0;
      this.error = undefined;
      this.obey(verdict, next);
      this.handled = entries.length;
      tools.metrics.observe('batch_size', entries.length, stage.name);
      tools.metrics.observe('batch_ms', tools.host.elapsed() - startedAt, stage.name);
      if (this.place === end) this.oldestAt = 0;
      await this.noteInGroup();
      return true;
    } catch (error) {
      if (error instanceof Alarm) {
        this.stop(messageOf(error));
        return false;
      }
      this.place = undefined;
      this.attempt++;
      this.error = messageOf(error);
      tools.metrics.count('retries', 1, stage.name);
      throw error;
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    const { stage, tools } = this;
    while (!signal.aborted && !this.stopped) {
      const startedAt = tools.host.elapsed();
      try {
        await this.step(stage.tickMs === undefined ? pollMsMax : 0, signal);
        if (this.gathers()) await tools.host.delay(stage.gatherMs, signal);
        if (this.goBacks > 1) await tools.host.delay(backoffMs(this.goBacks - 1, tools.host), signal);
        const restMs = startedAt + (stage.tickMs ?? 0) - tools.host.elapsed();
        if (restMs > 0) await tools.host.delay(restMs, signal);
      } catch (error) {
        const [level, waitMs] = [this.attempt === 3 ? 'warn' : 'debug', backoffMs(this.attempt, tools.host)] as const;
        tools.say(level, `${stage.name} waits: ${messageOf(error)}`, {
          partition: this.partition,
          attempt: this.attempt,
        });
        this.looking ??= this.lookAtEnd().finally(() => {
          this.looking = undefined;
        });
        await tools.host.delay(waitMs, signal);
      }
    }
  }

  /** A step that fails before it reads would leave the lag as it was, for as long as a server is away. */
  private async lookAtEnd(): Promise<void> {
    const { stage, partition, tools } = this;
    if (this.lastPlace === undefined) return;
    // The end alone: what is read from a queue is gone from it.
    const end = await within(tools.log.end(stage.log, partition), pollMsMax, 'the log', tools.host).catch(() => 0);
    this.end = Math.max(this.end, end);
    if (this.oldestAt === 0 && this.lag().lagEntries > 0) this.oldestAt = tools.host.now();
  }

  /** The next step begins from the truth again. */
  restart(): void {
    this.place = undefined;
  }

  lag(): StageLag {
    const { name, log } = this.stage;
    const next = this.place ?? this.lastPlace ?? 0;
    const lagEntries = Math.max(0, this.end - (this.skipped.from === next ? this.skipped.to : next));
    const state = this.stopped ? 'stopped' : this.error ? 'retrying' : 'running';
    return {
      stage: name,
      log,
      partition: this.partition,
      next,
      end: this.end,
      lagEntries,
      lagMs: lagEntries > 0 && this.oldestAt > 0 ? Math.max(0, this.tools.host.now() - this.oldestAt) : 0,
      state,
      ...(this.error === undefined ? {} : { error: this.error }),
    };
  }

  private gathers(): boolean {
    const { gatherMs, gatherBatchMin = 1 } = this.stage;
    return gatherMs > 0 && this.handled >= gatherBatchMin && (this.place ?? 0) >= this.end;
  }

  private async tick(from: number): Promise<void> {
    const now = this.tools.host.elapsed();
    if (!this.stage.idle || now - this.idleAt < idleTickMs) return;
    this.idleAt = now;
    this.obey(await this.stage.idle(this.partition, from), from);
  }

  private obey(verdict: Verdict, next: number): void {
    switch (verdict.kind) {
      case 'done':
        this.place = next;
        this.goBacks = 0;
        return;
      case 'go_back':
        this.place = verdict.to;
        this.goBacks++;
        return;
      case 'alarm':
        this.stop(verdict.why);
        return;
    }
  }

  private stop(why: string): void {
    this.stopped = true;
    this.error = why;
    this.tools.say('error', `ALARM: ${this.stage.name} stopped: ${why}`, { partition: this.partition });
  }

  private async noteInGroup(): Promise<void> {
    const now = this.tools.host.elapsed();
    if (this.place === undefined || this.place === this.committedPlace || now - this.committedAt < groupCommitMs)
      return;
    this.committedAt = now;
    this.committedPlace = this.place;
    await this.tools.log.commit(this.stage.name, this.stage.log, this.partition, this.place);
  }
}

export interface RunningStage {
  readonly name: string;
  lag(): StageLag[];
  stop(): Promise<void>;
}

/** Runs a stage on the partitions that its group gives to this process, until stopped. */
export async function runStage(stage: Stage, tools: StageTooling): Promise<RunningStage> {
  const loops = new Map<number, { loop: PartitionLoop; abort: AbortController; ended: Promise<void> }>();
  const ending = new Set<Promise<void>>();
  const revoke = (partition: number) => {
    const running = loops.get(partition);
    if (!running) return;
    loops.delete(partition);
    running.abort.abort();
    ending.add(running.ended);
    void running.ended.finally(() => ending.delete(running.ended));
  };
  const assignment: Assignment = await tools.log.assign(stage.name, stage.log, {
    assigned(partition) {
      if (loops.has(partition)) return;
      const abort = new AbortController();
      const loop = new PartitionLoop(stage, partition, tools);
      loops.set(partition, { loop, abort, ended: loop.run(abort.signal) });
    },
    revoked: revoke,
  });
  return {
    name: stage.name,
    lag: () => [...loops.values()].map(({ loop }) => loop.lag()),
    async stop() {
      for (const partition of [...loops.keys()]) revoke(partition);
      // What cannot end (an append while the log is away) ends when the log is closed.
      await within(Promise.all(ending), drainMsMax, stage.name, tools.host).catch(error =>
        tools.say('warn', `stopped in the middle: ${messageOf(error)}`),
      );
      await assignment.close();
    },
  };
}
