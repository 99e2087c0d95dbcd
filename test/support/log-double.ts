/** A log in memory, of as many partitions as a test wants, that loses and doubts appends when it is told to. */
import type { LogEntry, LogName } from '../../src/entry.ts';
import { Alarm, NotAccepted, OutcomeUnknown } from '../../src/errors.ts';
import type { Host } from '../../src/host.ts';
import type { Assignment, EventLog, ReadBatch } from '../../src/ports.ts';

/** `lose`: not appended, and said so. `doubt`: appended, but the answer is lost. `drop`: neither appended nor answered. */
export type AppendFault = 'lose' | 'doubt' | 'drop';

export class LogDouble implements EventLog {
  identity = 'log-double';
  readonly partitions: number;
  /** Every append in order. */
  readonly appends: { log: LogName; partition: number; values: readonly string[]; keys?: readonly string[] }[] = [];
  readonly commits: { group: string; partition: number; next: number }[] = [];
  /** Taken from the front, one an append to `faultsOf`. */
  readonly faults: (AppendFault | undefined)[] = [];
  faultsOf: LogName | undefined;
  /** Held back until the test lets go. */
  gate: Promise<unknown> | undefined;
  isReachable = true;
  /** Set: it says of itself that it is a queue, though it keeps what was read. */
  unhandled?: NonNullable<EventLog['unhandled']>;
  reads = 0;
  /** A read gives no more than this, whatever it was asked for. */
  readMax = Number.POSITIVE_INFINITY;
  /** What the group of a stage gets at once. */
  assigned: number[] = [0];
  on: Parameters<EventLog['assign']>[2] | undefined;
  appendsInFlight = 0;
  appendsInFlightMax = 0;
  private readonly host: Pick<Host, 'now'>;
  private readonly entries = new Map<string, LogEntry[]>();
  private readonly waiting = new Set<() => void>();

  constructor(host: Pick<Host, 'now'>, partitions = 1) {
    this.host = host;
    this.partitions = partitions;
  }

  of(log: LogName, partition = 0): LogEntry[] {
    const id = `${log} ${partition}`;
    let list = this.entries.get(id);
    if (!list) {
      list = [];
      this.entries.set(id, list);
    }
    return list;
  }

  async append(log: LogName, partition: number, values: readonly string[], keys?: readonly string[]): Promise<number> {
    this.appends.push({ log, partition, values, ...(keys ? { keys } : {}) });
    this.appendsInFlight++;
    this.appendsInFlightMax = Math.max(this.appendsInFlightMax, this.appendsInFlight);
    const fault = this.faultsOf === undefined || this.faultsOf === log ? this.faults.shift() : undefined;
    try {
      await this.gate;
    } finally {
      this.appendsInFlight--;
    }
    if (fault === 'lose') throw new NotAccepted('the log is away');
    if (fault === 'drop') throw new OutcomeUnknown('the log did not say');
    const base = this.put(log, partition, values);
    if (fault === 'doubt') throw new OutcomeUnknown('the log did not say');
    return base;
  }

  /** Appends as another producer would. */
  put(log: LogName, partition: number, values: readonly (string | Uint8Array)[]): number {
    const list = this.of(log, partition);
    const base = list.length;
    for (const value of values) {
      const place = { offset: list.length, at: this.host.now() };
      list.push(typeof value === 'string' ? { ...place, text: value } : { ...place, text: '', bytes: value });
    }
    this.wake();
    return base;
  }

  wake(): void {
    for (const resolve of this.waiting) resolve();
    this.waiting.clear();
  }

  async read(
    log: LogName,
    partition: number,
    from: number,
    max: number,
    waitMs: number,
    signal?: AbortSignal,
  ): Promise<ReadBatch> {
    this.reads++;
    const list = this.of(log, partition);
    if (from > list.length) throw new Alarm(`${log}: ${from} is beyond the end ${list.length}: it was cut`);
    if (from === list.length && waitMs > 0 && !signal?.aborted) {
      await new Promise<void>(resolve => {
        this.waiting.add(resolve);
        signal?.addEventListener('abort', () => resolve(), { once: true });
      });
    }
    const entries = list.slice(from, from + Math.min(max, this.readMax));
    return { entries, next: from + entries.length, end: list.length };
  }

  async end(log: LogName, partition: number): Promise<number> {
    return this.of(log, partition).length;
  }

  async assign(_group: string, _log: LogName, on: Parameters<EventLog['assign']>[2]): Promise<Assignment> {
    this.on = on;
    for (const partition of this.assigned) on.assigned(partition);
    return {
      close: async () => {
        this.on = undefined;
      },
    };
  }

  async commit(group: string, _log: LogName, partition: number, next: number): Promise<void> {
    this.commits.push({ group, partition, next });
  }

  reachable(): boolean {
    return this.isReachable;
  }

  async close(): Promise<void> {
    this.wake();
  }
}
