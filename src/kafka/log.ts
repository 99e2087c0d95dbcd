import { Admin } from '@platformatic/kafka';
import type { LogName } from '../entry.ts';
import { NotAccepted } from '../errors.ts';
import type { Host } from '../host.ts';
import type { Assignment, EventLog, ReadBatch } from '../ports.ts';
import { within } from '../retry.ts';
import { Appender } from './append.ts';
import { atMost, type Counts, clientOptions, guard, type Kafka, type Level, type Topics } from './client.ts';
import { unavailable } from './errors.ts';
import { Membership, type On } from './group.ts';
import { adminRequestMsMax, closeMsMax, endMsMax, readerIdleMsMax } from './limits.ts';
import { Readers } from './readers.ts';
import { openTopics } from './topics.ts';
import { Watch } from './watch.ts';

export interface KafkaOptions {
  brokers: string[];
  clientId?: string;
  /** Stands before the names of topics and groups. */
  topicPrefix?: string;
  partitions: number;
  replication: number;
  minInsync: number;
  /** Topics that are missing are refused, not made. */
  mustExist?: boolean | undefined;
  /** A process that died leaves its partitions to others after this long. */
  sessionMs?: number;
  host: Host;
  log: (level: Level, message: string) => void;
}

export interface KafkaLog extends EventLog {
  /** Requests sent since the start. */
  readonly counts: Readonly<Counts>;
}

/** @throws Refused when a topic differs from what a log needs. @throws Unavailable after startMsMax. */
export async function createKafkaLog(options: KafkaOptions): Promise<KafkaLog> {
  const kafka: Kafka = {
    brokers: options.brokers,
    clientId: options.clientId ?? 'dibs',
    prefix: options.topicPrefix ?? '',
    host: options.host,
    log: options.log,
    counts: { produce: 0, fetch: 0 },
    sessionMs: options.sessionMs ?? sessionMsUsual,
  };
  const { topics, identity } = await openTopics(kafka, options);
  return new Log(kafka, topics, identity, options.partitions, options.minInsync);
}

class Log implements KafkaLog {
  readonly identity: string;
  readonly partitions: number;
  readonly counts: Counts;
  #appenders = new Map<string, Appender>();
  #readers = new Map<string, Readers>();
  #memberships = new Set<Membership>();
  /** By group and log, for commits. */
  #books = new Map<string, Membership>();
  #watch: Watch;
  #admin: Admin;
  #sweeping: NodeJS.Timeout;
  #closed: Promise<void> | undefined;

  readonly #kafka: Kafka;
  readonly #topics: Topics;

  constructor(kafka: Kafka, topics: Topics, identity: string, partitions: number, minInsync: number) {
    this.#kafka = kafka;
    this.#topics = topics;
    this.identity = identity;
    this.partitions = partitions;
    this.counts = kafka.counts;
    this.#watch = new Watch(kafka, topics, minInsync);
    this.#admin = guard(new Admin({ ...clientOptions(kafka), requestTimeout: adminRequestMsMax, retries: 0 }));
    this.#sweeping = setInterval(() => this.#sweep(), readerIdleMsMax).unref();
  }

  async append(log: LogName, partition: number, values: readonly string[], keys?: readonly string[]): Promise<number> {
    const key = this.#place(log, partition);
    if (values.length === 0) throw new RangeError('nothing to append');
    if (this.#closed) throw new NotAccepted('the log is closed');
    let appender = this.#appenders.get(key);
    if (!appender) {
      appender = new Appender(
        this.#kafka,
        this.#topics[log],
        partition,
        this.#watch,
        () => this.#readers.get(key)?.tail,
      );
      this.#appenders.set(key, appender);
    }
    return appender.append(values, keys);
  }

  async read(
    log: LogName,
    partition: number,
    from: number,
    max: number,
    waitMs: number,
    signal?: AbortSignal,
  ): Promise<ReadBatch> {
    const key = this.#place(log, partition);
    if (!Number.isSafeInteger(from) || from < 0) throw new RangeError(`no offset: ${from}`);
    if (!(max >= 1)) throw new RangeError(`at least one entry must be wanted: ${max}`);
    if (this.#closed) throw unavailable(new Error('the log is closed'));
    let readers = this.#readers.get(key);
    if (!readers) {
      readers = new Readers(this.#kafka, this.#topics[log], partition, this.#watch);
      this.#readers.set(key, readers);
    }
    return readers.read(from, max, waitMs, signal);
  }

  async end(log: LogName, partition: number): Promise<number> {
    this.#place(log, partition);
    const { name } = this.#topics[log];
    try {
      const asking = this.#admin.listOffsets({
        topics: [{ name, partitions: [{ partitionIndex: partition, timestamp: latest }] }],
        isolationLevel: 0,
      });
      const [topic] = await within(asking, endMsMax, 'the log', this.#kafka.host);
      const found = topic?.partitions[0];
      if (found?.partitionIndex !== partition) throw new Error(`no end of ${name} partition ${partition}`);
      this.#watch.succeeded();
      return Number(found.offset);
    } catch (error) {
      this.#admin.clearMetadata();
      this.#watch.suspect();
      throw unavailable(error);
    }
  }

  async assign(group: string, log: LogName, on: On): Promise<Assignment> {
    if (this.#closed) throw unavailable(new Error('the log is closed'));
    const membership = new Membership(this.#kafka, group, this.#topics[log], on);
    const book = bookOf(group, log);
    this.#memberships.add(membership);
    this.#books.set(book, membership);
    return {
      close: async () => {
        await atMost(closeMsMax, membership.close());
        this.#memberships.delete(membership);
        if (this.#books.get(book) === membership) this.#books.delete(book);
      },
    };
  }

  async commit(group: string, log: LogName, partition: number, next: number): Promise<void> {
    this.#books.get(bookOf(group, log))?.commit(partition, next);
  }

  reachable(): boolean {
    return this.#watch.reachable && !this.#closed;
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    clearInterval(this.#sweeping);
    const parts = [this.#watch, ...this.#memberships, ...this.#appenders.values(), ...this.#readers.values()];
    await atMost(closeMsMax, Promise.allSettled([...parts.map(part => part.close()), this.#admin.close()]));
  }

  #sweep(): void {
    for (const readers of this.#readers.values()) readers.sweep();
  }

  /** The client takes a partition that does not exist for another one, so it must never see one. */
  #place(log: LogName, partition: number): string {
    if (!this.#topics[log]) throw new RangeError(`no such log: ${log}`);
    if (!Number.isInteger(partition) || partition < 0 || partition >= this.partitions) {
      throw new RangeError(`no such partition: ${partition}`);
    }
    return `${log}:${partition}`;
  }
}

const latest = -1n;
const sessionMsUsual = 6_000;
const bookOf = (group: string, log: LogName): string => `${group}:${log}`;
