import { Alarm, Unavailable } from '../errors.ts';
import type { ReadBatch } from '../ports.ts';
import type { Kafka, Topic } from './client.ts';
import { answered, cut, unavailable } from './errors.ts';
import { readerIdleMsMax, readerKeepMs, readersMax, tailWaitMsMax } from './limits.ts';
import { finished, Reader } from './reader.ts';
import { Tail } from './tail.ts';
import type { Watch } from './watch.ts';

/** Several stages read one partition at different places: each finds the reader that stands where it goes on. */
export class Readers {
  readonly tail = new Tail();
  #free = new Set<Reader>();
  #taken = new Set<Reader>();

  readonly #kafka: Kafka;
  readonly #topic: Topic;
  readonly #partition: number;
  readonly #watch: Watch;

  constructor(kafka: Kafka, topic: Topic, partition: number, watch: Watch) {
    this.#kafka = kafka;
    this.#topic = topic;
    this.#partition = partition;
    this.#watch = watch;
  }

  async read(from: number, max: number, waitMs: number, signal: AbortSignal | undefined): Promise<ReadBatch> {
    const reader = this.#take(from);
    try {
      const batch =
        (await this.#remembered(reader, max, waitMs, signal)) ?? (await this.#fetched(reader, max, waitMs, signal));
      this.#taken.delete(reader);
      this.#free.add(reader);
      reader.usedAt = performance.now();
      return batch;
    } catch (error) {
      this.#taken.delete(reader);
      this.#drop(reader);
      throw this.#meaning(error, from);
    }
  }

  /** Closes those that nobody used for a while. */
  sweep(): void {
    const since = performance.now() - readerIdleMsMax;
    for (const reader of this.#free) if (reader.usedAt < since) this.#drop(reader);
  }

  async close(): Promise<void> {
    const all = [...this.#free, ...this.#taken];
    this.#free.clear();
    await Promise.all(all.map(reader => reader.close().catch(() => {})));
  }

  async #fetched(reader: Reader, max: number, waitMs: number, signal: AbortSignal | undefined): Promise<ReadBatch> {
    const { link } = this.tail;
    // What it fetched earlier says nothing of what may have happened since.
    const asks = reader.empty && reader.idle;
    const batch = await reader.read(max, waitMs, signal);
    this.#watch.succeeded();
    if (asks && reader.atEnd) reader.link = link;
    return batch;
  }

  /** From the tail, for a reader that came there by reading the log. */
  async #remembered(
    reader: Reader,
    max: number,
    waitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<ReadBatch | undefined> {
    const { tail } = this;
    if (reader.link !== tail.link || !reader.empty || !reader.idle) return undefined;
    const growing = reader.at === tail.end ? tail.growing() : undefined;
    if (growing) await finished(growing, Math.min(waitMs, tailWaitMsMax), signal);
    const entries = reader.link === tail.link ? tail.from(reader.at, max) : undefined;
    if (!entries) return undefined;
    reader.seek(reader.at + entries.length);
    return { entries, next: reader.at, end: tail.end };
  }

  #take(from: number): Reader {
    const reader = this.#standingAt(from) ?? this.#longestUnused(readerKeepMs) ?? this.#another(from);
    if (reader.at !== from) {
      reader.seek(from);
      reader.link = undefined;
    }
    this.#free.delete(reader);
    this.#taken.add(reader);
    return reader;
  }

  #standingAt(from: number): Reader | undefined {
    for (const reader of this.#free) if (reader.at === from) return reader;
    return undefined;
  }

  #longestUnused(forMs: number): Reader | undefined {
    const since = performance.now() - forMs;
    const movable = [...this.#free].filter(reader => reader.idle && reader.usedAt <= since);
    return movable.sort((a, b) => a.usedAt - b.usedAt)[0];
  }

  #another(from: number): Reader {
    if (this.#free.size + this.#taken.size < readersMax) {
      return new Reader(this.#kafka, this.#topic, this.#partition, from);
    }
    const moved = this.#longestUnused(0);
    if (moved) return moved;
    throw new Unavailable(`${readersMax} reads of one partition are under way`);
  }

  #drop(reader: Reader): void {
    this.#free.delete(reader);
    reader.close().catch(() => {});
  }

  /** A topic made anew first fails as unavailable; the next reader learns its new id and raises the alarm. */
  #meaning(error: unknown, from: number): Alarm | Unavailable {
    if (error instanceof Alarm) return error;
    if (answered(error, 'OFFSET_OUT_OF_RANGE')) {
      return cut(`${this.#topic.name} partition ${this.#partition} has no offset ${from}`);
    }
    this.#watch.suspect();
    return unavailable(error);
  }
}
