/** Who leads what among three brokers, and who has a copy. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Admin } from '@platformatic/kafka';
import type { ServiceHandle } from '../scripts/services.ts';

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

/** Arguments with which it starts as one of the controllers only, so that these are enough to decide. */
export async function controllerAlone({ dataDir }: ServiceHandle): Promise<string[]> {
  const properties = await readFile(join(dataDir, '..', 'kafka.properties'), 'utf8');
  const [listener] = /CONTROLLER:\/\/[\d.:]+/.exec(properties) ?? [];
  const settings = ['process.roles=controller', `listeners=${listener}`, `advertised.listeners=${listener}`];
  return settings.flatMap(setting => ['--override', setting]);
}
