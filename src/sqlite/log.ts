/**
 * The event log as tables of the file, one a partition: offsets without holes, never rewritten. Nothing here waits,
 * except `read` when it is asked to wait for news.
 */
import type { StatementSync } from 'node:sqlite';
import type { Millis } from '../coupon.ts';
import { type Change, type LogEntry, type LogName, logNames } from '../entry.ts';
import { Alarm, messageOf, NotAccepted, OutcomeUnknown, Unavailable } from '../errors.ts';
import type { Host } from '../host.ts';
import type { Assignment, EventLog, ReadBatch } from '../ports.ts';
import { type Database, prepareAll } from './database.ts';
import { logTable } from './schema.ts';

/** Entries of one partition kept in memory after their append, so that a stage reads them without asking the file. */
const tailMax = 4_096;

/** One partition of one log. */
interface Lane {
  /** For messages. */
  name: string;
  sql: Record<'entries' | 'next' | 'first' | 'last' | 'insert', StatementSync>;
  /** What this connection appended last. Undefined: the places in the file are to be asked first. */
  tail: Tail | undefined;
}

/** Entries from `from` on, in order. */
interface Tail {
  from: number;
  entries: LogEntry[];
  lastAt: Millis;
}

/** The reading half: for any thread and any connection. Sees what is committed, and its own open transaction. */
export class SqliteLogReader implements Omit<EventLog, 'append'> {
  readonly identity: string;
  readonly partitions: number;
  protected readonly database: Database;
  protected readonly host: Host;
  protected readonly lanes: Record<LogName, Lane[]>;
  protected closed = false;
  private readonly waiting = new Set<() => void>();

  constructor(database: Database, host: Host) {
    this.identity = database.identity;
    this.partitions = database.partitions;
    this.database = database;
    this.host = host;
    this.lanes = Object.fromEntries(
      logNames.map(log => [log, Array.from({ length: database.partitions }, (_, p) => laneOf(database, log, p))]),
    ) as Record<LogName, Lane[]>;
  }

  async read(
    log: LogName,
    partition: number,
    from: number,
    max: number,
    waitMs: number,
    signal?: AbortSignal,
  ): Promise<ReadBatch> {
    let batch = this.readNow(log, partition, from, max);
    if (batch.entries.length > 0 || waitMs <= 0) return batch;
    const over = new AbortController();
    const stop = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
    let expired = stop.aborted;
    const timer = this.host.delay(waitMs, stop).then(() => {
      expired = true;
    });
    try {
      while (batch.entries.length === 0 && !expired && !this.closed) {
        const news = Promise.withResolvers<void>();
        this.waiting.add(news.resolve);
        await Promise.race([news.promise, timer]);
        this.waiting.delete(news.resolve);
        if (!this.closed) batch = this.readNow(log, partition, from, max);
      }
      return batch;
    } finally {
      over.abort();
    }
  }

  /** What is there, at once. @throws Alarm as `read` does. */
  readNow(log: LogName, partition: number, from: number, max: number): ReadBatch {
    const lane = this.lane(log, partition);
    const { tail } = lane;
    return tail && from >= tail.from
      ? readTail(lane, tail, from, max)
      : this.database.read(() => readFile(lane, from, max));
  }

  async end(log: LogName, partition: number): Promise<number> {
    const lane = this.lane(log, partition);
    return this.database.read(() => endOf(lane));
  }

  /** The file has one process that serves it: every group gets all partitions. */
  async assign(_group: string, _log: LogName, on: Parameters<EventLog['assign']>[2]): Promise<Assignment> {
    const held = new Set(Array.from({ length: this.partitions }, (_, partition) => partition));
    for (const partition of held) on.assigned(partition);
    return {
      async close() {
        for (const partition of held) {
          held.delete(partition);
          on.revoked(partition);
        }
      },
    };
  }

  /** Places are kept in the store; there is no other book of them here. */
  async commit(_group: string, _log: LogName, _partition: number, _next: number): Promise<void> {}

  reachable(): boolean {
    return !this.closed;
  }

  /** Something may have been committed: those who wait look again. For the thread that hears of the writer's commits. */
  wake(): void {
    for (const resolve of this.waiting) resolve();
    this.waiting.clear();
  }

  /** Wakes those who wait; the connection is the caller's to close. May be called twice. */
  async close(): Promise<void> {
    this.closed = true;
    this.wake();
  }

  protected lane(log: LogName, partition: number): Lane {
    if (this.closed) throw new Unavailable('the log is closed');
    const lane = this.lanes[log][partition];
    if (!lane) throw new RangeError(`${log} has ${this.partitions} partitions, there is no ${partition}`);
    return lane;
  }
}

/** The writing half; there is one, in the one writing thread. `append` belongs to the open transaction, if there is one. */
export class SqliteLog extends SqliteLogReader implements EventLog {
  constructor(database: Database, host: Host) {
    super(database, host);
    database.watch({ committed: () => this.wake(), rolledBack: () => this.rolledBack() });
  }

  async append(
    log: LogName,
    partition: number,
    values: readonly string[],
    _keys?: readonly string[],
    changes?: readonly Change[],
  ): Promise<number> {
    return this.appendNow(log, partition, values, changes);
  }

  /**
   * Inside an open transaction the entries are durable once that is committed; a rollback takes them back, and an
   * append that throws leaves it nothing but a rollback.
   * @throws NotAccepted: surely none is in the log. @throws OutcomeUnknown as Database.commit.
   */
  appendNow(log: LogName, partition: number, values: readonly string[], changes?: readonly Change[]): number {
    try {
      const lane = this.lane(log, partition);
      return this.database.write(() => insert(lane, values, changes, this.host.now()));
    } catch (error) {
      if (error instanceof OutcomeUnknown || error instanceof Alarm) throw error;
      throw new NotAccepted(messageOf(error), { cause: error });
    }
  }

  /** Forgets what an undone transaction appended. The Database calls it; harmless at any time. */
  rolledBack(): void {
    for (const lane of Object.values(this.lanes).flat()) lane.tail = undefined;
  }
}

function insert(lane: Lane, values: readonly string[], changes: readonly Change[] | undefined, now: Millis): number {
  lane.tail ??= loadTail(lane);
  const { tail } = lane;
  const base = tail.from + tail.entries.length;
  // The clock of the host may step back; the log's does not.
  const at = Math.max(now, tail.lastAt);
  let offset = base;
  for (const value of values) {
    // SQLite keeps UTF-8: the tail has to hold what a later reader will get.
    const text = value.isWellFormed() ? value : value.toWellFormed();
    lane.sql.insert.run(offset, at, text);
    const change = changes?.[offset - base];
    tail.entries.push(change ? { offset, at, text, change } : { offset, at, text });
    offset++;
  }
  tail.lastAt = at;
  if (tail.entries.length > 2 * tailMax) {
    tail.entries = tail.entries.slice(-tailMax);
    tail.from = offset - tailMax;
  }
  return base;
}

function loadTail({ sql }: Lane): Tail {
  const last = sql.last.get() as { offset: number; at: Millis } | undefined;
  return { from: last ? last.offset + 1 : 0, entries: [], lastAt: last?.at ?? 0 };
}

const endOf = ({ tail, sql }: Lane): number =>
  tail ? tail.from + tail.entries.length : (sql.next.get() as { offset: number }).offset;

const cutAt = (name: string, from: number, end: number): Alarm =>
  new Alarm(`${name}: ${from} was read before, but the log ends at ${end}: it was cut`);

function readTail(lane: Lane, tail: Tail, from: number, max: number): ReadBatch {
  const end = endOf(lane);
  if (from > end) throw cutAt(lane.name, from, end);
  const entries = tail.entries.slice(from - tail.from, from - tail.from + max);
  return { entries, next: from + entries.length, end };
}

function readFile(lane: Lane, from: number, max: number): ReadBatch {
  const { name, sql } = lane;
  const rows = sql.entries.all(from, max) as unknown as [offset: number, at: Millis, text: string][];
  const first = rows[0];
  if (!first) {
    const end = endOf(lane);
    if (from > end) throw cutAt(name, from, end);
    if (from < end && max > 0) throw new Alarm(`${name}: entries from ${from} to ${end} are gone: restore a backup`);
    return { entries: [], next: from, end };
  }
  if (first[0] !== from) {
    const { offset } = sql.first.get() as { offset: number };
    throw new Alarm(`${name}: entry ${from} is gone, the log begins at ${offset}: it was cut`);
  }
  const next = from + rows.length;
  const entries = rows.map(([offset, at, text]) => ({ offset, at, text }));
  if (entries[rows.length - 1]?.offset !== next - 1) throw new Alarm(`${name}: entries after ${from} are missing`);
  return { entries, next, end: rows.length < max ? next : endOf(lane) };
}

function laneOf({ db }: Database, log: LogName, partition: number): Lane {
  const table = `"${logTable(log, partition)}"`;
  const sql = prepareAll(db, {
    entries: `SELECT offset, at, text FROM ${table} WHERE offset >= ? ORDER BY offset LIMIT ?`,
    next: `SELECT coalesce(max(offset) + 1, 0) AS offset FROM ${table}`,
    first: `SELECT coalesce(min(offset), 0) AS offset FROM ${table}`,
    last: `SELECT offset, at FROM ${table} ORDER BY offset DESC LIMIT 1`,
    insert: `INSERT INTO ${table} (offset, at, text) VALUES (?, ?, ?)`,
  });
  sql.entries.setReturnArrays(true);
  return { name: `${log} ${partition}`, sql, tail: undefined };
}
