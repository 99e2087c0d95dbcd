import { Consumer, type ConsumerOptions, type GroupAssignment } from '@platformatic/kafka';
import { Unavailable } from '../errors.ts';
import { within } from '../retry.ts';
import { atMost, clientOptions, guard, type Kafka, type Topic } from './client.ts';
import { whyOf } from './errors.ts';
import {
  groupRequestMsMax,
  heartbeatMs,
  heartbeatStallMsMax,
  joinMsMax,
  joinRetryMs,
  lastCommitMsMax,
  leaveMsMax,
  rebalanceMsMin,
} from './limits.ts';
import { assigner } from './share.ts';

export interface On {
  assigned(partition: number): void;
  revoked(partition: number): void;
}

/** Makes the client of one member. */
export type OpenMember = (options: ConsumerOptions<Buffer, Buffer, Buffer, Buffer>) => Consumer;

/**
 * One membership in a consumer group. It only says who reads which partition. What is held is kept while brokers are
 * away: nobody else can take over then, and who does afterwards does no harm.
 */
export class Membership {
  #consumer: Consumer;
  #held = new Set<number>();
  /** Places to note, by partition; one commit is under way at a time. */
  #places = new Map<number, number>();
  #committing: Promise<void> | undefined;
  #joining = false;
  #closing = new AbortController();

  readonly #kafka: Kafka;
  readonly #group: string;
  readonly #topic: Topic;
  readonly #on: On;
  readonly #open: OpenMember;

  constructor(kafka: Kafka, group: string, topic: Topic, on: On, open: OpenMember = options => new Consumer(options)) {
    this.#kafka = kafka;
    this.#group = kafka.prefix + group;
    this.#topic = topic;
    this.#on = on;
    this.#open = open;
    this.#consumer = this.#connect();
    void this.#join();
  }

  commit(partition: number, next: number): void {
    if (this.#closing.signal.aborted) return;
    this.#places.set(partition, next);
    this.#committing ??= this.#commitAll().finally(() => {
      this.#committing = undefined;
    });
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    if (this.#committing) await atMost(lastCommitMsMax, this.#committing);
    await leave(this.#consumer);
    this.#hold(new Set());
  }

  #connect(): Consumer {
    const { sessionMs } = this.#kafka;
    const consumer = this.#open({
      ...clientOptions(this.#kafka),
      groupId: this.#group,
      autocommit: false,
      sessionTimeout: sessionMs,
      rebalanceTimeout: Math.max(sessionMs, rebalanceMsMin),
      heartbeatInterval: Math.min(heartbeatMs, Math.floor(sessionMs / 3)),
      heartbeatStallTimeout: heartbeatStallMsMax,
      protocols: [{ name: 'cooperative-sticky', version: 3 }],
      partitionAssigner: assigner,
      retryDelay: joinRetryMs,
      requestTimeout: groupRequestMsMax,
    });
    consumer.topics.track(this.#topic.name);
    // Emitted when a rejoin in the background failed; nothing tries again by itself.
    guard(consumer, error => this.#rejoin(consumer, error));
    consumer.on('consumer:heartbeat:stalled', () => this.#replace(consumer));
    // In the cooperative protocol a member gives up partitions first, at this event, and then joins again.
    consumer.on('consumer:group:rebalance', () => this.#giveUp(consumer));
    consumer.on('consumer:group:join', ({ assignments }) => {
      if (consumer === this.#consumer) this.#hold(this.#ours(assignments));
    });
    return consumer;
  }

  #rejoin(consumer: Consumer, error: Error): void {
    if (consumer !== this.#consumer || this.#closing.signal.aborted) return;
    this.#kafka.log('debug', `group ${this.#group}: ${whyOf(error)}`);
    void this.#join();
  }

  #replace(consumer: Consumer): void {
    if (consumer !== this.#consumer || this.#closing.signal.aborted) return;
    this.#kafka.log('warn', `group ${this.#group}: nothing was heard of it for a while, joining anew`);
    this.#consumer = this.#connect();
    void leave(consumer);
    void this.#join();
  }

  /** Until it is in, however long the brokers are away. */
  async #join(): Promise<void> {
    if (this.#joining) return;
    this.#joining = true;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const consumer = this.#consumer;
      try {
        await within(consumer.joinGroup({}), this.#kafka.sessionMs + joinMsMax, 'the group');
        if (consumer === this.#consumer) break;
      } catch (error) {
        this.#kafka.log('debug', `group ${this.#group}: join failed: ${whyOf(error)}`);
        // Of a connection that breaks under a request the client at times never tells, and would wait for ever.
        if (error instanceof Unavailable) this.#replace(consumer);
        await this.#kafka.host.delay(joinRetryMs, signal);
      }
    }
    this.#joining = false;
  }

  #giveUp(consumer: Consumer): void {
    if (consumer !== this.#consumer || !consumer.assignments) return;
    const kept = this.#ours(consumer.assignments);
    this.#hold(new Set([...this.#held].filter(partition => kept.has(partition))));
  }

  #ours(assignments: GroupAssignment[] | null | undefined): Set<number> {
    return new Set(assignments?.find(a => a.topic === this.#topic.name)?.partitions);
  }

  #hold(wanted: Set<number>): void {
    const before = this.#held;
    this.#held = wanted;
    for (const partition of before) if (!wanted.has(partition)) this.#on.revoked(partition);
    for (const partition of wanted) if (!before.has(partition)) this.#on.assigned(partition);
  }

  async #commitAll(): Promise<void> {
    while (this.#places.size > 0) {
      const { name: topic } = this.#topic;
      const offsets = [...this.#places]
        .filter(([partition]) => this.#held.has(partition))
        .map(([partition, next]) => ({ topic, partition, offset: BigInt(next), leaderEpoch: -1 }));
      this.#places.clear();
      if (offsets.length === 0 || !this.#consumer.memberId) return;
      try {
        await this.#consumer.commit({ offsets });
      } catch (error) {
        // Lag tools show an older place until the next commit.
        this.#kafka.log('debug', `group ${this.#group}: commit failed: ${whyOf(error)}`);
        return;
      }
    }
  }
}

/**
 * Leaving comes first: a client that is closed while it joins takes up heartbeats afterwards, and their timer keeps the
 * process alive for ever. A member whose leaving does not get through is dropped at its session timeout.
 */
async function leave(consumer: Consumer): Promise<void> {
  await atMost(leaveMsMax, new Promise(resolve => consumer.leaveGroup(true, resolve)));
  await consumer.close(true).catch(() => {});
}
