/** Who leads what among three brokers, and who has a copy. */
import { Admin } from '@platformatic/kafka';

const requestMsMax = 1_000;

export interface PartitionState {
  /** Id of the leader; below 0 while there is none. */
  leader: number;
  /** Ids of those that have all of it. */
  isr: readonly number[];
}

/** As the first of `brokers` that answers sees it. @throws when none does, or there is no such partition. */
export async function partitionState(brokers: string, topic: string, partition: number): Promise<PartitionState> {
  const admin = new Admin({
    clientId: 'dibs-torture',
    bootstrapBrokers: brokers.split(','),
    retries: 0,
    connectTimeout: requestMsMax,
    requestTimeout: requestMsMax,
  });
  admin.on('error', () => {});
  try {
    const { topics } = await admin.metadata({ topics: [topic], forceUpdate: true });
    const found = topics.get(topic)?.partitions[partition];
    if (!found) throw new Error(`${topic} has no partition ${partition}`);
    return { leader: found.leader, isr: found.isr };
  } finally {
    await admin.close().catch(() => {});
  }
}
