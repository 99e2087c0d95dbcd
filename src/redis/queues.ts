/**
 * The log of the scheduler profile: a Redis list a log, as the architecture that this project replaced had them. What
 * is read is popped. Everything that a queue cannot promise is in the comment of `EventLog.unhandled`; on top of it,
 * Redis keeps all of this in memory: a queue dies with it, and so does what an append has acknowledged.
 */
import { changeLog, type LogEntry, type LogName } from '../entry.ts';
import { messageOf, NotAccepted, OutcomeUnknown, Refused, Unavailable } from '../errors.ts';
import { createHost, type Host } from '../host.ts';
import type { Assignment, EventLog, ReadBatch } from '../ports.ts';
import { type Connection, connect, type RedisCounts, type RedisSettings } from './connection.ts';
import type { Lease } from './lease.ts';
import { popMsMax, queuePollMs, startMsMax, startPollMs } from './limits.ts';

export interface QueueSettings extends RedisSettings {
  partitions: number;
  /**
   * Where a queue begins that has no counter of this run of Redis: behind every offset that was given out before Redis
   * lost it or came back with an older copy, so that no task of then is taken for one of now. 0 when there was none.
   */
  beginsAt(log: LogName, partition: number): Promise<number>;
  /** Once it is there, nothing is read and no change is appended when another process has taken it. */
  lease?(): Pick<Lease, 'key' | 'holder'> | undefined;
}

/** Resolves when Redis answers. @throws Refused when it does not for startMsMax. */
export async function createRedisQueues(settings: QueueSettings): Promise<RedisQueues> {
  const queues = new RedisQueues(settings);
  try {
    await queues.answers();
  } catch (error) {
    await queues.close();
    throw error;
  }
  return queues;
}

interface Queue {
  log: LogName;
  partition: number;
  key: string;
  /** The next entry's offset is at least this, as far as this process knows. */
  least: number;
  /** What was popped last: until a read begins behind it, nobody knows whether it was handled. */
  held: LogEntry[];
  /** Settles, never failing, when what is being popped is in `held`. */
  popping: Promise<unknown>;
}

export class RedisQueues implements EventLog {
  readonly identity: string;
  readonly partitions: number;
  readonly counts: RedisCounts = { commands: 0 };
  private readonly settings: QueueSettings;
  private readonly host: Host;
  private readonly connection: Connection;
  /** For pops alone: nothing else waits as long, or behind one that does. */
  private readonly popper: Connection;
  private readonly queues = new Map<string, Queue>();
  private closed = false;

  constructor(settings: QueueSettings) {
    this.settings = settings;
    this.host = settings.host ?? createHost();
    this.partitions = settings.partitions;
    // The same after Redis was emptied: restarts must go on.
    this.identity = `redis-queues:${settings.prefix ?? 'dibs'}`;
    this.connection = connect(settings, this.counts);
    this.popper = connect({ ...settings, commandMs: popMsMax, log: () => {} }, this.counts);
  }

  async answers(): Promise<void> {
    const until = this.host.elapsed() + startMsMax;
    for (;;) {
      try {
        await this.connection.run(redis => redis.ping());
        return;
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error;
        if (this.host.elapsed() > until) {
          throw new Refused(`DIBS_REDIS_URL: ${error.message}: start it, or give the address of one that answers`);
        }
        await this.host.delay(startPollMs);
      }
    }
  }

  async append(log: LogName, partition: number, values: readonly string[]): Promise<number> {
    const queue = this.queueOf(log, partition);
    if (values.length === 0) throw new RangeError('nothing to append');
    if (this.closed) throw new NotAccepted('the queues are closed');
    if (!this.reachable()) throw new NotAccepted(`Redis ${this.connection.address} is not connected`);
    const base = (await this.push(queue, values, false)) ?? (await this.begin(queue, values));
    queue.least = Math.max(queue.least, base + values.length);
    return base;
  }

  async read(
    log: LogName,
    partition: number,
    from: number,
    max: number,
    waitMs: number,
    signal?: AbortSignal,
  ): Promise<ReadBatch> {
    const queue = this.queueOf(log, partition);
    if (!Number.isSafeInteger(from) || from < 0) throw new RangeError(`no offset: ${from}`);
    if (!(max >= 1)) throw new RangeError(`at least one entry must be wanted: ${max}`);
    queue.least = Math.max(queue.least, from);
    queue.held = queue.held.filter(entry => entry.offset >= from);
    const until = this.host.elapsed() + waitMs;
    // Where the queue ended when it was seen to be empty. `least` will not do: an append may be answered before the pop
    // that came before it, and what it appended would be passed over.
    let emptyAt = from;
    while (queue.held.length === 0 && !signal?.aborted) {
      const popping = this.pop(queue, from, max);
      // Who waits for this pop only waits; that it failed is told here.
      queue.popping = popping.catch(() => {});
      emptyAt = (await popping) ?? emptyAt;
      const leftMs = until - this.host.elapsed();
      if (queue.held.length > 0 || leftMs <= 0) break;
      await this.host.delay(Math.min(queuePollMs, leftMs), signal);
    }
    const entries = queue.held.slice(0, max);
    const last = entries.at(-1);
    // Of an empty queue everything that is not here is gone: the next read goes on at its end.
    const next = last ? last.offset + 1 : emptyAt;
    return { entries, next, end: Math.max(queue.least, next) };
  }

  async end(log: LogName, partition: number): Promise<number> {
    const queue = this.queueOf(log, partition);
    const counter = await this.connection.run(redis => redis.get(`${queue.key}:next`));
    queue.least = Math.max(queue.least, Number(counter ?? 0));
    return queue.least;
  }

  async unhandled(log: LogName, partition: number): Promise<number> {
    const queue = this.queueOf(log, partition);
    const waiting = await this.connection.run(redis => redis.llen(queue.key));
    // That may be the length after a pop whose entries are not in our hands yet.
    await queue.popping;
    return waiting + queue.held.length;
  }

  /** All partitions at once: who may read is settled by the lease of the schedulers. */
  async assign(
    _group: string,
    _log: LogName,
    on: { assigned(partition: number): void; revoked(partition: number): void },
  ): Promise<Assignment> {
    const held = new Set(Array.from({ length: this.partitions }, (_, partition) => partition));
    for (const partition of held) on.assigned(partition);
    return {
      async close() {
        for (const partition of held) if (held.delete(partition)) on.revoked(partition);
      },
    };
  }

  /** There are no books: what is read is gone. */
  async commit(): Promise<void> {}

  reachable(): boolean {
    return !this.closed && this.connection.redis.status === 'ready';
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([this.connection.close(), this.popper.close()]);
  }

  private async begin(queue: Queue, values: readonly string[]): Promise<number> {
    try {
      queue.least = Math.max(queue.least, await this.settings.beginsAt(queue.log, queue.partition));
    } catch (error) {
      throw error instanceof Unavailable ? new NotAccepted(messageOf(error)) : error;
    }
    return (await this.push(queue, values, true)) as number;
  }

  /** Undefined, with nothing pushed, when the queue has no counter of this run and is not to begin. */
  private async push(queue: Queue, values: readonly string[], isBeginning: boolean): Promise<number | undefined> {
    const lease = queue.log === changeLog ? this.lease() : noLease;
    const args = [`${queue.least}`, isBeginning ? '1' : '', ...lease, ...values];
    let base: string | null;
    try {
      base = await this.connection.script<string | null>('queue_push', queue.key, args);
    } catch (error) {
      throw error instanceof Unavailable ? new OutcomeUnknown(messageOf(error)) : error;
    }
    if (base === '') throw new NotAccepted(takenOver);
    return base === null ? undefined : Number(base);
  }

  private lease(): readonly [key: string, holder: string] {
    const lease = this.settings.lease?.();
    return lease ? [lease.key, lease.holder] : noLease;
  }

  /** Takes entries in hand, but what is before `from`. Answers where the queue ended when there was none. */
  private async pop(queue: Queue, from: number, max: number): Promise<number | undefined> {
    const { least } = queue;
    const args = [`${max}`, `${from}`, ...this.lease()];
    const popped = await this.popper.script<[string, ...string[]] | null>('queue_pop', queue.key, args);
    if (!popped) throw new Unavailable(takenOver);
    const [counter, ...items] = popped;
    const entries = items.map(entryOf);
    queue.least = Math.max(queue.least, Number(counter), (entries.at(-1)?.offset ?? -1) + 1);
    // What is before `from` was decided before: it came back with an older copy of the queue.
    queue.held = entries.filter(entry => entry.offset >= from);
    if (entries.length > 0) return undefined;
    // A queue that Redis has lost begins anew behind all that was.
    return Math.max(from, counter === '' ? least : Number(counter));
  }

  private queueOf(log: LogName, partition: number): Queue {
    if (!Number.isInteger(partition) || partition < 0 || partition >= this.partitions) {
      throw new RangeError(`no such partition: ${partition}`);
    }
    const key = `${this.settings.prefix ?? 'dibs'}:{${partition}}:queue:${log}`;
    let queue = this.queues.get(key);
    if (!queue) {
      queue = { log, partition, key, least: 0, held: [], popping: Promise.resolve() };
      this.queues.set(key, queue);
    }
    return queue;
  }
}

const noLease = ['', ''] as const;
const takenOver = 'another process has taken over the lease, or Redis has lost it';

function entryOf(item: string): LogEntry {
  const [first, second] = [item.indexOf('|'), item.indexOf('|', item.indexOf('|') + 1)];
  return {
    offset: Number(item.slice(0, first)),
    at: Number(item.slice(first + 1, second)),
    text: item.slice(second + 1),
  };
}
