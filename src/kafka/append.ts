import type { LogEntry } from '../entry.ts';
import { Alarm, messageOf, NotAccepted, OutcomeUnknown } from '../errors.ts';
import { pollMsMax } from '../limits.ts';
import { clientOptions, guard, type Kafka, type Topic } from './client.ts';
import { answered, appendError, cut, noteTry } from './errors.ts';
import { produceRequestMsMax, produceRetryMsMax, produceRetryMsMin } from './limits.ts';
import { TimedProducer } from './produce.ts';
import { Reader } from './reader.ts';
import type { Tail } from './tail.ts';
import type { Watch } from './watch.ts';

/**
 * Appends to one partition, one send at a time. Each partition has a producer of its own: a producer sends one request
 * a broker at a time, and an error of one send makes it forget the sequence numbers of all its partitions.
 */
export class Appender {
  #producer: TimedProducer;
  #end = 0;
  /** The last entry of ours, at `#end - 1`. */
  #last: Pick<LogEntry, 'at' | 'text'> = { at: -1, text: '' };
  /** A broker was away since it was seen there: the log may have been cut. */
  #doubted = false;
  /** Whether every try of the send under way surely left nothing in the log. */
  #triesSure = true;
  #isCut = false;
  #closed = false;
  /** Settles when the append before has: an operator redrives beside the stage that appends here. */
  #before: Promise<unknown> = Promise.resolve();

  readonly #kafka: Kafka;
  readonly #topic: Topic;
  readonly #partition: number;
  readonly #watch: Watch;
  /** Of who reads this partition here. */
  readonly #tail: () => Tail | undefined;

  constructor(kafka: Kafka, topic: Topic, partition: number, watch: Watch, tail: () => Tail | undefined) {
    this.#kafka = kafka;
    this.#topic = topic;
    this.#partition = partition;
    this.#watch = watch;
    this.#tail = tail;
    this.#producer = guard(
      new TimedProducer({
        ...clientOptions(kafka),
        idempotent: true,
        requestTimeout: produceRequestMsMax,
        // The number of tries stays unbounded: giving up could leave a batch in the log that is said not to be there.
        retryDelay: (_client, _operation, attempt, _retries, error) => {
          const sure = noteTry(error);
          this.#triesSure &&= sure;
          this.#doubt();
          return Math.min(produceRetryMsMin * 2 ** (attempt - 1), produceRetryMsMax);
        },
        serializers: { key: bytesOf, value: bytesOf },
      }),
    );
    this.#producer.on('client:metadata', metadata => {
      const id = metadata.topics.get(topic.name)?.id;
      if (id !== undefined && id !== topic.id) this.#giveUp();
    });
    watch.follow(this.#producer);
    for (const event of ['client:broker:disconnect', 'client:broker:failed'] as const)
      this.#producer.on(event, () => this.#doubt());
  }

  append(values: readonly string[], keys: readonly string[] | undefined): Promise<number> {
    const appended = this.#before.then(() => this.#append(values, keys));
    this.#before = appended.catch(() => {
      // Whoever appended hears it; the next only waits for its end.
    });
    return appended;
  }

  async #append(values: readonly string[], keys: readonly string[] | undefined): Promise<number> {
    if (this.#closed) throw new NotAccepted('the log is closed');
    if (this.#isCut) throw new NotAccepted(this.#alarm().message);
    const base = await this.#send(values, keys);
    // The client looks the topic up by its name, so what is made anew under that name takes the entries too.
    if (base < this.#end) this.#giveUp();
    if (this.#isCut) throw this.#alarm();
    if (this.#doubted && this.#end > 0) await this.#prove();
    const { appendedAt } = this.#producer;
    this.#end = base + values.length;
    this.#last = { at: appendedAt, text: values.at(-1) ?? '' };
    this.#watch.succeeded();
    if (appendedAt >= 0) this.#tail()?.add(base, appendedAt, values);
    return base;
  }

  /**
   * A log that was cut may have grown beyond our last place by the entries of others. What was appended now stands in
   * it, but whoever was acknowledged before may not.
   */
  async #prove(): Promise<void> {
    this.#doubted = false;
    const { at, text } = this.#last;
    // Half of a surrogate pair is not written.
    const written = text.toWellFormed();
    // One of its own: what others read a moment ago says nothing.
    const reader = new Reader(this.#kafka, this.#topic, this.#partition, this.#end - 1);
    try {
      const [found] = (await reader.read(1, pollMsMax, undefined)).entries;
      if (!found) throw new Error(`entry ${this.#end - 1} is not given now`);
      if (found.offset === this.#end - 1 && found.text === written && (at < 0 || found.at === at)) return;
    } catch (error) {
      if (!answered(error, 'OFFSET_OUT_OF_RANGE') && !(error instanceof Alarm)) {
        this.#doubted = true;
        throw new OutcomeUnknown(`the log may have been cut: ${messageOf(error)}`);
      }
    } finally {
      reader.close().catch(() => {});
    }
    this.#giveUp();
    throw this.#alarm();
  }

  #doubt(): void {
    this.#doubted = true;
    this.#tail()?.break();
  }

  async #send(values: readonly string[], keys: readonly string[] | undefined): Promise<number> {
    const { name: topic } = this.#topic;
    const partition = this.#partition;
    const messages = keys
      ? values.map((value, i) => ({ topic, partition, value, key: keys[i] ?? '' }))
      : values.map(value => ({ topic, partition, value }));
    this.#kafka.counts.produce++;
    this.#triesSure = true;
    try {
      const { offsets } = await this.#producer.send({ messages, acks: -1 });
      const base = offsets?.[0];
      if (base?.partition !== partition) throw new Error('the acknowledgement names another partition');
      return Number(base.offset);
    } catch (error) {
      this.#doubt();
      throw appendError(error, this.#triesSure);
    }
  }

  #giveUp(): void {
    this.#isCut = true;
    this.#tail()?.break();
  }

  #alarm() {
    return cut(`topic ${this.#topic.name} has no longer what was appended`);
  }

  /** A send under way is rejected: its outcome is unknown. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#producer.close();
  }
}

const bytesOf = (text?: string): Buffer | undefined => (text === undefined ? undefined : Buffer.from(text));
