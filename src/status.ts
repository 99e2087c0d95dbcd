/**
 * Where tasks are, in batches: while one read of a partition is out, questions queue; when it returns, all that wait
 * are asked at once. Ledger and board answer; while they cannot, the store does, for what it holds.
 */
import { Unavailable } from './errors.ts';
import { statusBatchMax, statusQueueMax } from './limits.ts';
import { type Status, statusOf, type View } from './outcome.ts';
import type { CouponReader, LedgerReader, LedgerView, OutcomeBoard } from './ports.ts';
import type { Task } from './task.ts';

export interface Reading {
  status: Status;
  /** Undefined while it is not known how far the ledger is. */
  next: number | undefined;
  committedNext: number;
}

export interface StatusTools {
  ledger: LedgerReader;
  board: Pick<OutcomeBoard, 'read'>;
  store: Pick<CouponReader, 'read' | 'checkpoint'>;
}

interface Question {
  task: Task;
  resolve(reading: Reading): void;
  reject(error: unknown): void;
}

export class StatusReader {
  private readonly waiting = new Map<number, Question[]>();
  private readonly busy = new Set<number>();
  /** changeNext of what answered last, board or store, by partition: a board behind it would take outcomes back. */
  private readonly answeredAt = new Map<number, number>();
  private readonly tools: StatusTools;
  private readonly batchMax: number;

  /** `batchMax`: tasks of one read at most. */
  constructor(tools: StatusTools, batchMax = statusBatchMax) {
    this.tools = tools;
    this.batchMax = batchMax;
  }

  /** @throws Unavailable when neither ledger nor store answers, or too many wait for them. */
  read(task: Task): Promise<Reading> {
    const queue = this.waiting.get(task.partition) ?? [];
    if (queue.length >= statusQueueMax) return Promise.reject(new Unavailable('too many wait for a status'));
    return new Promise((resolve, reject) => {
      queue.push({ task, resolve, reject });
      this.waiting.set(task.partition, queue);
      if (!this.busy.has(task.partition)) {
        this.busy.add(task.partition);
        // What is asked in the same turn goes in one read.
        queueMicrotask(() => void this.pump(task.partition));
      }
    });
  }

  private async pump(partition: number): Promise<void> {
    for (let queue = this.waiting.get(partition); queue && queue.length > 0; queue = this.waiting.get(partition)) {
      const batch = queue.splice(0, this.batchMax);
      try {
        const readings = await this.readBatch(
          partition,
          batch.map(q => q.task),
        );
        batch.forEach(({ resolve, reject }, i) => {
          const reading = readings[i];
          if (reading instanceof Error) reject(reading);
          else resolve(reading as Reading);
        });
      } catch (error) {
        for (const q of batch) q.reject(error);
      }
    }
    this.waiting.delete(partition);
    this.busy.delete(partition);
  }

  private async readBatch(partition: number, tasks: readonly Task[]): Promise<(Reading | Error)[]> {
    // While ledger or board is away the store answers, for what it holds.
    const live = await fromLedger(partition, tasks, this.tools).catch(() => undefined);
    if (!live) return this.fromStore(partition, tasks);
    const { changeNext, readings } = live;
    if (changeNext >= (this.answeredAt.get(partition) ?? 0)) this.answeredAt.set(partition, changeNext);
    else if (readings.some(({ status }) => status.state !== 'done')) {
      const stored = await this.fromStore(partition, tasks).catch((error: Error) => error);
      return readings.map((reading, i) => {
        if (reading.status.state === 'done') return reading;
        if (stored instanceof Error) return stored;
        const other = stored[i] as Reading;
        return other.status.state === 'accepted' ? reading : other;
      });
    }
    return readings;
  }

  private async fromStore(partition: number, tasks: readonly Task[]): Promise<Reading[]> {
    const { store } = this.tools;
    const views = await store.read(partition, tasks);
    this.answeredAt.set(partition, (await store.checkpoint(partition)).changeNext);
    return tasks.map((task, i) => {
      const view = views[i] as View;
      return { status: statusOf(task, view), next: undefined, committedNext: view.committedNext };
    });
  }
}

/** Undefined when the ledger or the board has no state to answer from: both are rebuilt by their stages. */
async function fromLedger(
  partition: number,
  tasks: readonly Task[],
  tools: StatusTools,
): Promise<{ changeNext: number; readings: Reading[] } | undefined> {
  const seen = await tools.ledger.read(partition, tasks);
  if (seen.some(view => view === undefined)) return undefined;
  const views = seen as LedgerView[];
  const holders = [...new Set(views.flatMap(v => (v.holder ? [v.holder.offset] : [])))];
  // The board is read after the ledger: what is committed only grows.
  const board = await tools.board.read(partition, holders);
  if (!board) return undefined;
  const readings = views.map((view, i) => {
    const holderSetAside = view.holder !== undefined && board.setAside.has(view.holder.offset);
    const whole: View = { ...view, committedNext: board.committedNext, holderSetAside };
    return { status: statusOf(tasks[i] as Task, whole), next: view.next, committedNext: board.committedNext };
  });
  return { changeNext: board.changeNext, readings };
}

/** At most how many entries are in front of the one at `offset`; undefined while that is not known. */
export const aheadOf = (offset: number, next: number | undefined): number | undefined =>
  next === undefined ? undefined : Math.max(0, offset - next);
