import { isUtf8 } from 'node:buffer';
import { Consumer, type KafkaRecord, type RecordsBatch } from '@platformatic/kafka';
import type { LogEntry } from '../entry.ts';
import type { ReadBatch } from '../ports.ts';
import { within } from '../retry.ts';
import { clientOptions, guard, type Kafka, type Topic } from './client.ts';
import { cut } from './errors.ts';
import { fetchBytesMax, fetchMsMax, fetchRequestMsMax, fetchWaitMsMax } from './limits.ts';

/**
 * Reads one partition from one place on. A fetch brings whole batches; what the caller did not ask for yet is kept,
 * decoded, for the next read. A long poll blocks its connection, so each reader has one of its own.
 */
export class Reader {
  /** What the next read begins with. */
  at: number;
  usedAt = performance.now();
  /** That of the tail when it last came to the end of the log by reading it. */
  link: object | undefined;
  #entries: LogEntry[] = [];
  /** How many of `#entries` are given out. */
  #given = 0;
  /** Where the next fetch begins. */
  #next: number;
  #end = 0;
  #fetching: Promise<void> | undefined;
  #consumer: Consumer;

  readonly #kafka: Kafka;
  readonly #topic: Topic;
  readonly #partition: number;

  constructor(kafka: Kafka, topic: Topic, partition: number, at: number) {
    this.#kafka = kafka;
    this.#topic = topic;
    this.#partition = partition;
    this.at = at;
    this.#next = at;
    this.#consumer = guard(
      new Consumer({
        ...clientOptions(kafka),
        // Fetching needs no group; the name only shows up in the brokers' request logs.
        groupId: `${kafka.prefix}${kafka.clientId}-reader`,
        retries: 0,
        requestTimeout: fetchRequestMsMax,
        // Nobody writes in transactions here. Filtering them would make what is read depend on where a fetch begins.
        isolationLevel: 0,
        minBytes: 1,
      }),
    );
    this.#consumer.topics.track(topic.name);
  }

  /** Whether it can be moved to another place at once. */
  get idle(): boolean {
    return this.#fetching === undefined;
  }

  /** Whether it has given out all that it read. */
  get empty(): boolean {
    return this.#next === this.at;
  }

  /** Whether there was nothing behind its place when it last read. */
  get atEnd(): boolean {
    return this.at === this.#end;
  }

  seek(at: number): void {
    this.at = at;
    this.#next = at;
    this.#entries = [];
    this.#given = 0;
    this.#end = 0;
  }

  /** After it threw, the reader is to be closed. */
  async read(max: number, waitMs: number, signal: AbortSignal | undefined): Promise<ReadBatch> {
    const until = performance.now() + waitMs;
    for (let first = true; ; first = false) {
      if (this.#next > this.at) return this.#give(max);
      const left = Math.max(0, until - performance.now());
      if (signal?.aborted || (left === 0 && !first)) return this.#nothing();
      const ours = this.#fetching === undefined;
      this.#fetching ??= this.#fetch(Math.min(left, fetchWaitMsMax));
      // One of an earlier read that was given up may wait longer than we do.
      if (!(await finished(this.#fetching, ours ? undefined : left, signal))) return this.#nothing();
    }
  }

  async close(): Promise<void> {
    await this.#consumer.close(true);
  }

  #nothing(): ReadBatch {
    return { entries: [], next: this.at, end: Math.max(this.#end, this.at) };
  }

  #give(max: number): ReadBatch {
    const rest = this.#entries.length - this.#given;
    const all = rest <= max;
    const whole = all && this.#given === 0;
    const entries = whole ? this.#entries : this.#entries.slice(this.#given, this.#given + Math.min(max, rest));
    this.#given += entries.length;
    this.at = all ? this.#next : (entries.at(-1)?.offset ?? this.at - 1) + 1;
    if (all) {
      this.#entries = [];
      this.#given = 0;
    }
    return { entries, next: this.at, end: Math.max(this.#end, this.#next) };
  }

  async #fetch(waitMs: number): Promise<void> {
    try {
      this.#kafka.counts.fetch++;
      // Of a connection that breaks under a request the client at times never tells.
      const response = await within(this.#ask(waitMs), fetchMsMax, 'the log');
      // A fetch session leaves out a partition of which nothing is new.
      const partition = response.responses[0]?.partitions[0];
      if (partition) this.#keep(partition);
    } finally {
      this.#fetching = undefined;
    }
  }

  async #ask(waitMs: number) {
    return this.#consumer.fetch({
      node: await this.#leader(),
      maxWaitTime: Math.round(waitMs),
      topics: [
        {
          topicId: this.#topic.id,
          partitions: [
            {
              partition: this.#partition,
              fetchOffset: BigInt(this.#next),
              currentLeaderEpoch: -1,
              lastFetchedEpoch: -1,
              partitionMaxBytes: fetchBytesMax,
            },
          ],
        },
      ],
    });
  }

  /** From what the client knows; it asks the brokers at first and every metadataAgeMsMax. */
  async #leader(): Promise<number> {
    const { name, id } = this.#topic;
    const topic = (await this.#consumer.metadata({ topics: [name] })).topics.get(name);
    if (topic?.id !== id) throw cut(`topic ${name} has another id than at start`);
    return topic.partitions[this.#partition]?.leader ?? -1;
  }

  #keep(partition: FetchedPartition): void {
    this.#end = Number(partition.highWatermark);
    for (const batch of partition.records ?? []) {
      const first = Number(batch.firstOffset);
      const next = first + batch.lastOffsetDelta + 1;
      if (next <= this.#next) continue;
      if (!(batch.attributes & controlBatch)) decode(batch, first, this.#next, this.#entries);
      this.#next = next;
    }
  }
}

type FetchedPartition = Awaited<ReturnType<Consumer['fetch']>>['responses'][number]['partitions'][number];

const controlBatch = 32;
const logAppendTime = 8;

/** A batch may begin before the place that was asked for. */
function decode(batch: RecordsBatch, first: number, from: number, into: LogEntry[]): void {
  const appendedAt = batch.attributes & logAppendTime ? Number(batch.maxTimestamp) : undefined;
  const firstAt = Number(batch.firstTimestamp);
  for (const record of batch.records) {
    const offset = first + record.offsetDelta;
    if (offset >= from) into.push(entryOf(record, offset, appendedAt ?? firstAt + Number(record.timestampDelta)));
  }
}

function entryOf({ value }: KafkaRecord, offset: number, at: number): LogEntry {
  if (value === null) return { offset, at, text: '' };
  const text = value.toString();
  // A copy: the value is a window into the whole response.
  return isUtf8(value) ? { offset, at, text } : { offset, at, text, bytes: new Uint8Array(value) };
}

/** False when `ms` passed or the signal fired first; the work goes on and its failure is nobody's. */
export async function finished(
  work: Promise<void>,
  ms: number | undefined,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (ms === undefined && signal === undefined) return work.then(() => true);
  const { promise: given, resolve: giveUp } = Promise.withResolvers<boolean>();
  const stop = () => giveUp(false);
  const timer = ms === undefined ? undefined : setTimeout(stop, ms);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    return await Promise.race([work.then(() => true), given]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}
