/** The stages that decide and store, on real servers but in this process, so that each can be driven by itself. */

import type { CouponId, UserId } from '../../src/coupon.ts';
import { type changeLog, encodeEntry, encodeRequest, requestLog } from '../../src/entry.ts';
import { createHost, randomKey } from '../../src/host.ts';
import { createKafkaLog, type KafkaLog } from '../../src/kafka/log.ts';
import { noMetrics } from '../../src/metrics.ts';
import { persistStage } from '../../src/persist.ts';
import { createPostgresStore, type PostgresStore } from '../../src/postgres/store.ts';
import { createRedisBoard, type RedisBoard } from '../../src/redis/board.ts';
import { createRedisLedger, type RedisLedger } from '../../src/redis/ledger.ts';
import { reserveStage } from '../../src/reserve.ts';
import { PartitionLoop } from '../../src/stage.ts';
import type { Cluster } from '../cluster.ts';

export const partition = 0;
const waitMs = 1_000;
const appendMax = 1_000;
const host = createHost();

export class Road {
  readonly log: KafkaLog;
  readonly ledger: RedisLedger;
  readonly store: PostgresStore;
  private readonly board: RedisBoard;

  private constructor(log: KafkaLog, ledger: RedisLedger, store: PostgresStore, board: RedisBoard) {
    [this.log, this.ledger, this.store, this.board] = [log, ledger, store, board];
  }

  static async open({ services }: Cluster, namespace: string): Promise<Road> {
    const say = () => {};
    const store = await createPostgresStore({ url: services.databaseUrl, schema: `dibs_${namespace}`, log: say });
    const log = await createKafkaLog({
      ...{ brokers: services.kafkaBrokers.split(','), topicPrefix: `${namespace}.`, partitions: 1 },
      ...{ replication: 1, minInsync: 1, host, log: say },
    });
    const redis = { url: services.redisUrl, prefix: `dibs:${namespace}`, host, log: say };
    return new Road(log, createRedisLedger(redis), store, createRedisBoard(redis));
  }

  private get tools() {
    const { log, ledger, store, board } = this;
    return { log, ledger, store, board, host, metrics: noMetrics, say() {} };
  }

  /** A new one each time, as of a process that begins. */
  reserve(): PartitionLoop {
    return new PartitionLoop(reserveStage(this.tools), partition, this.tools);
  }

  persist(): PartitionLoop {
    return new PartitionLoop(persistStage(this.tools), partition, this.tools);
  }

  async create(couponId: CouponId, stock: number): Promise<void> {
    const body = { name: couponId, stock, opensAt: null, closesAt: null, validUntil: null, discount: null };
    await this.store.createCoupon({ couponId, partition, body, createdAt: host.now() });
    await this.append([encodeEntry({ type: 'opened', couponId, stock, opensAt: null, closesAt: null })]);
  }

  async append(values: readonly string[]): Promise<void> {
    for (let i = 0; i < values.length; i += appendMax)
      await this.log.append(requestLog, partition, values.slice(i, i + appendMax));
  }

  /** Steps until all that is in its log now is handled. */
  async drain(loop: PartitionLoop, log: typeof requestLog | typeof changeLog): Promise<void> {
    const end = await this.log.end(log, partition);
    while ((loop.place ?? -1) < end) await loop.step(waitMs);
  }

  async close(): Promise<void> {
    for (const one of [this.log, this.ledger, this.board, this.store]) await one.close();
  }
}

let users = 0;

/** Of users who never came before, in no order, as users come. */
export const requestsOf = (couponId: CouponId, n: number): string[] =>
  Array.from({ length: n }, () => {
    const userId = `user-${Math.imul(++users, 0x9e3779b1) >>> 0}` as UserId;
    return encodeRequest(couponId, userId, randomKey(host));
  });
