import { Admin } from '@platformatic/kafka';
import { requestLog } from '../entry.ts';
import { within } from '../retry.ts';
import { clientOptions, guard, type Kafka, type Topics } from './client.ts';
import { probeMs, probeMsMax, probeRequestMsMax, probeTickMs } from './limits.ts';

/** Of a client that has connections to watch. */
interface Connected {
  on(event: 'client:broker:disconnect' | 'client:broker:failed', listener: () => void): unknown;
}

/**
 * Whether the brokers are there. A success of any kind says so; a connection that broke, or silence for probeMs, makes
 * it ask. Asking costs one small request, so a busy process never asks.
 */
export class Watch {
  reachable = true;
  #heardAt = performance.now();
  #asking = false;
  #askedAt = 0;
  #closed = false;
  #admin: Admin;
  #timer: NodeJS.Timeout;
  readonly #kafka: Kafka;
  readonly #topics: Topics;
  readonly #minInsync: number;

  constructor(kafka: Kafka, topics: Topics, minInsync: number) {
    this.#kafka = kafka;
    this.#topics = topics;
    this.#minInsync = minInsync;
    this.#admin = this.#connect();
    this.#timer = setInterval(() => {
      if (performance.now() - Math.max(this.#heardAt, this.#askedAt) >= probeMs) void this.#ask();
    }, probeTickMs).unref();
  }

  succeeded(): void {
    this.#heardAt = performance.now();
    if (!this.reachable) this.#say(true);
  }

  follow(client: Connected): void {
    client.on('client:broker:disconnect', () => this.suspect());
    client.on('client:broker:failed', () => this.suspect());
  }

  /** Something failed: ask now. */
  suspect(): void {
    void this.#ask();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#admin.close();
  }

  #say(reachable: boolean): void {
    this.reachable = reachable;
    this.#kafka.log(reachable ? 'info' : 'warn', reachable ? 'Kafka answers again' : 'Kafka does not answer');
  }

  /** One at a time. Never throws. */
  async #ask(): Promise<void> {
    if (this.#asking || this.#closed) return;
    this.#asking = true;
    const since = performance.now();
    this.#askedAt = since;
    try {
      // Of a connection that breaks under a request the client at times never tells.
      if (await within(this.#writable(), probeMsMax, 'the log')) this.succeeded();
      else if (this.reachable) this.#say(false);
    } catch {
      if (!this.#closed && this.reachable && this.#heardAt < since) this.#say(false);
      // A request that timed out still waits on its connection: the next one gets a new connection.
      const old = this.#admin;
      if (!this.#closed) this.#admin = this.#connect();
      old.close().catch(() => {});
    } finally {
      this.#asking = false;
    }
  }

  /** Whether at least one partition of the request log has enough replicas for an append to be acknowledged. */
  async #writable(): Promise<boolean> {
    const { name, id } = this.#topics[requestLog];
    const metadata = await this.#admin.metadata({ topics: [name], forceUpdate: true });
    const topic = metadata.topics.get(name);
    if (topic?.id !== id) return false;
    return topic.partitions.some(p => p.leader >= 0 && p.isr.length >= this.#minInsync);
  }

  #connect(): Admin {
    const admin = guard(
      new Admin({
        ...clientOptions(this.#kafka),
        connectTimeout: probeRequestMsMax,
        requestTimeout: probeRequestMsMax,
        // With several brokers a second try goes to another one.
        retries: this.#kafka.brokers.length > 1 ? 1 : 0,
        retryDelay: 1,
      }),
    );
    admin.on('client:broker:disconnect', () => {
      if (admin === this.#admin) this.suspect();
    });
    return admin;
  }
}
