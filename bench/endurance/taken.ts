/** Every 202 of a run: afterwards each is asked for, and what it was told is held against the rows. */
import { setTimeout as sleep } from 'node:timers/promises';
import { openForReading } from '../../src/app.ts';
import { loadConfig } from '../../src/config.ts';
import { getRequest, type Lanes, Lost } from './lanes.ts';

const asksAtOnce = 128;
const againMs = 100;

interface Task {
  taskId: string;
  couponId: string;
  userId: string;
  outcome?: string;
  reason?: string;
  slot?: number;
}

/** Slots by user, by coupon. */
export type Rows = Map<string, Map<string, number>>;

export class Taken {
  readonly tasks: Task[] = [];

  /** `body` is that of a 202. */
  add(couponId: string, userId: string, body: string): void {
    const { taskId } = JSON.parse(body) as { taskId?: string };
    if (taskId === undefined) throw new Error(`a 202 without a task: ${body}`);
    this.tasks.push({ taskId, couponId, userId });
  }

  /** Asks for each until it is done. Answers how many were not within `msMax`. */
  async askAll(lanes: readonly Lanes[], msMax: number): Promise<number> {
    const until = performance.now() + msMax;
    let open = this.tasks;
    for (;;) {
      open = await askOnce(open, lanes, until);
      if (open.length === 0 || performance.now() > until) return open.length;
      await sleep(againMs);
    }
  }

  /** By outcome and reason. */
  counts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { outcome = 'none', reason } of this.tasks) {
      const name = reason ?? outcome;
      counts[name] = (counts[name] ?? 0) + 1;
    }
    return counts;
  }

  /** What was told and is not so, the first of them. */
  contradictions(rows: Rows): string[] {
    const found: string[] = [];
    const told = new Set<string>();
    for (const { couponId, userId, outcome, reason, slot } of this.tasks) {
      const row = rows.get(couponId)?.get(userId);
      const isTrue = outcome === 'issued' || outcome === 'duplicated' ? row === slot : row === undefined;
      if (!isTrue) found.push(`${userId} of ${couponId} was told ${reason ?? outcome} ${slot}, the row says ${row}`);
      if (outcome !== 'issued') continue;
      const unit = `${couponId} ${slot}`;
      if (told.has(unit)) found.push(`${unit} was told twice`);
      told.add(unit);
    }
    return found;
  }
}

/** Answers those that are not done. */
async function askOnce(tasks: readonly Task[], lanes: readonly Lanes[], until: number): Promise<Task[]> {
  const open: Task[] = [];
  let next = 0;
  const one = async () => {
    while (next < tasks.length && performance.now() < until) {
      const task = tasks[next] as Task;
      const lane = lanes[next++ % lanes.length] as Lanes;
      if (!(await isDone(task, lane))) open.push(task);
    }
  };
  await Promise.all(Array.from({ length: asksAtOnce }, one));
  return [...open, ...tasks.slice(next)];
}

async function isDone(task: Task, lanes: Lanes): Promise<boolean> {
  try {
    const { status, body } = await lanes.ask(getRequest(`/tasks/${task.taskId}`));
    if (status === 404) throw new Error(`a task that was given out is unknown: ${body}`);
    if (status !== 200) return false;
    const shown = JSON.parse(body) as Task & { state: string };
    if (shown.state !== 'done') return false;
    for (const name of ['outcome', 'reason', 'slot'] as const)
      if (shown[name] !== undefined) Object.assign(task, { [name]: shown[name] });
    return true;
  } catch (error) {
    if (error instanceof Lost) return false;
    throw error;
  }
}

/** `flags` as startDibs takes them. */
export async function rowsOf(flags: Record<string, string>): Promise<Rows> {
  const camel = Object.entries(flags).map(([name, value]) => [
    name.replace(/-(.)/g, (_, c: string) => c.toUpperCase()),
    value,
  ]);
  const ports = await openForReading(
    loadConfig({ flags: { ...Object.fromEntries(camel), auth: 'none', logLevel: 'silent' } }),
  );
  const rows: Rows = new Map();
  try {
    for (const { couponId } of await ports.store.listCoupons(Number.MAX_SAFE_INTEGER)) {
      const slots = new Map<string, number>();
      for await (const chunk of ports.store.rows(couponId))
        for (const { userId, slot } of chunk) slots.set(userId, slot);
      rows.set(couponId, slots);
    }
    return rows;
  } finally {
    await ports.close();
  }
}
