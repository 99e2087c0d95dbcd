/**
 * The log that all processes of a run share. As Kafka's: what is acknowledged stays, a call's entries are appended
 * together, and each partition stamps them by the clock of its broker, which may step back.
 */
import {
  changeDeadLetters,
  changeLog,
  type LogEntry,
  type LogName,
  requestDeadLetters,
  requestLog,
} from '../src/entry.ts';
import { Alarm, NotAccepted, Unavailable } from '../src/errors.ts';
import type { Host } from '../src/host.ts';
import type { Assignment, EventLog, ReadBatch } from '../src/ports.ts';
import { Groups } from './groups.ts';

export type Value = string | Uint8Array;
export const logNames: readonly LogName[] = [requestLog, changeLog, requestDeadLetters, changeDeadLetters];
export type Appended = (log: LogName, partition: number, entries: readonly LogEntry[]) => void;

export class SharedLog implements EventLog {
  readonly identity: string;
  readonly partitions: number;
  /** ms that the clock of each partition's broker is ahead. */
  readonly skewMs: number[];
  /** Hears of every append as it happens. */
  appended: Appended = () => {};
  private readonly host: Pick<Host, 'now' | 'after'>;
  private readonly groups: Groups;
  private readonly lists: Record<LogName, LogEntry[][]>;
  private waiting: { log: LogName; partition: number; end(): void }[] = [];
  private closed = false;

  constructor(
    host: Pick<Host, 'now' | 'after'>,
    partitions: number,
    identity: string,
    groups = new Groups(partitions, (_, ms, __, call) => void host.after(ms, call), noWaits),
  ) {
    this.host = host;
    this.partitions = partitions;
    this.identity = identity;
    this.groups = groups;
    this.skewMs = Array.from({ length: partitions }, () => 0);
    this.lists = Object.fromEntries(
      logNames.map(log => [log, this.skewMs.map(() => [])]),
    ) as unknown as typeof this.lists;
  }

  async append(log: LogName, partition: number, values: readonly string[]): Promise<number> {
    if (this.closed) throw new NotAccepted('the log is closed');
    return this.put(log, partition, values);
  }

  /** Appends as any other producer would, whatever it is. */
  put(log: LogName, partition: number, values: readonly Value[]): number {
    const list = this.of(log, partition);
    const base = list.length;
    const at = this.host.now() + (this.skewMs[partition] as number);
    for (const value of values) {
      const place = { offset: list.length, at };
      list.push(typeof value === 'string' ? { ...place, text: value } : { ...place, text: '', bytes: value });
    }
    this.appended(log, partition, list.slice(base));
    this.wake(reader => reader.log === log && reader.partition === partition);
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
    if (this.closed) throw new Unavailable('the log is closed');
    const list = this.of(log, partition);
    if (from > list.length || from < 0) throw new Alarm(`${log} has no place ${from}, it ends at ${list.length}`);
    if (from === list.length && waitMs > 0) await this.wait(log, partition, waitMs, signal);
    const entries = signal?.aborted ? [] : list.slice(from, from + max);
    return { entries, next: from + entries.length, end: list.length };
  }

  async end(log: LogName, partition: number): Promise<number> {
    return this.of(log, partition).length;
  }

  async assign(group: string, log: LogName, on: Parameters<EventLog['assign']>[2]): Promise<Assignment> {
    return this.groups.join(group, log, on, undefined);
  }

  async commit(): Promise<void> {}

  reachable(): boolean {
    return !this.closed;
  }

  async close(): Promise<void> {
    this.closed = true;
    this.wake(() => true);
  }

  /** The entries themselves. */
  of(log: LogName, partition: number): LogEntry[] {
    const list = this.lists[log][partition];
    if (!list) throw new Error(`partition ${partition} is not one of ${this.partitions}`);
    return list;
  }

  private wait(log: LogName, partition: number, waitMs: number, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) return Promise.resolve();
    return new Promise(resolve => {
      const reader = {
        log,
        partition,
        end: () => {
          off();
          signal?.removeEventListener('abort', reader.end);
          this.waiting = this.waiting.filter(other => other !== reader);
          resolve();
        },
      };
      const off = this.host.after(waitMs, reader.end);
      signal?.addEventListener('abort', reader.end, { once: true });
      this.waiting.push(reader);
    });
  }

  private wake(whom: (reader: { log: LogName; partition: number }) => boolean): void {
    for (const reader of this.waiting.filter(whom)) reader.end();
  }
}

const noWaits = { assign: () => 0, revoke: () => 0, session: () => 0, isCut: () => false };
