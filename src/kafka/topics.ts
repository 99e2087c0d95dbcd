import { Admin, ConfigResourceTypes } from '@platformatic/kafka';
import { changeLog, type LogName, logNames, requestLog } from '../entry.ts';
import { Refused, Unavailable } from '../errors.ts';
import { clientOptions, guard, type Kafka, type Topics } from './client.ts';
import { answered, whyOf } from './errors.ts';
import { adminRequestMsMax, batchBytesMax, startMsMax, startRetryMsMax, startRetryMsMin } from './limits.ts';

export interface TopicOptions {
  partitions: number;
  replication: number;
  minInsync: number;
  /** Topics that are missing are refused, not made. */
  mustExist?: boolean | undefined;
}

/** At least as much as a batch of ours may have. */
const sizeMax = 'max.message.bytes';

/** A log must keep everything, in order, with the broker's clock: other settings are refused. */
const required = (log: LogName, options: TopicOptions): Record<string, string> => ({
  'message.timestamp.type': 'LogAppendTime',
  'retention.ms': '-1',
  'retention.bytes': '-1',
  'cleanup.policy': 'delete',
  'unclean.leader.election.enable': 'false',
  'min.insync.replicas': String(options.minInsync),
  // A batch of somebody else's is measured as it is read: what unpacks to more than fits could not be quoted.
  'compression.type': 'uncompressed',
  [sizeMax]: String(batchBytesMax[log]),
});

/**
 * Creates the topics that are missing and checks them all. Two processes may do so at once.
 * @throws Refused naming the setting that differs. @throws Unavailable after startMsMax.
 */
export async function openTopics(kafka: Kafka, options: TopicOptions): Promise<{ topics: Topics; identity: string }> {
  if (options.minInsync > options.replication) {
    throw new Refused(
      `min.insync.replicas is ${options.minInsync} but topics have ${options.replication} replicas, so no append could succeed: lower it or raise the replication.`,
    );
  }
  const until = performance.now() + startMsMax;
  for (let pause = startRetryMsMin; ; pause = Math.min(pause * 2, startRetryMsMax)) {
    try {
      return await withAdmin(kafka, admin => tryOpen(kafka, admin, options));
    } catch (error) {
      if (error instanceof Refused) throw error;
      if (performance.now() + pause > until) throw giveUp(kafka, options, error);
      kafka.log('debug', `waiting for Kafka: ${whyOf(error)}`);
      await kafka.host.delay(pause);
    }
  }
}

async function withAdmin<T>(kafka: Kafka, use: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = guard(new Admin({ ...clientOptions(kafka), retries: 0, requestTimeout: adminRequestMsMax }));
  try {
    return await use(admin);
  } finally {
    admin.close().catch(() => {});
  }
}

function giveUp(kafka: Kafka, options: TopicOptions, error: unknown): Refused | Unavailable {
  if (answered(error, 'INVALID_REPLICATION_FACTOR')) {
    return new Refused(
      `Topics shall have ${options.replication} replicas but there are fewer brokers at ${kafka.brokers.join(',')}: start more brokers or lower the replication.`,
    );
  }
  return new Unavailable(
    `Kafka at ${kafka.brokers.join(',')} was not ready within ${startMsMax / 1000} s: ${whyOf(error)}`,
  );
}

async function tryOpen(
  kafka: Kafka,
  admin: Admin,
  options: TopicOptions,
): Promise<{ topics: Topics; identity: string }> {
  const there = new Set(await admin.listTopics());
  const missing = logNames.filter(log => !there.has(kafka.prefix + log));
  if (options.mustExist && missing.length > 0) {
    throw new Refused(
      `There is no topic ${kafka.prefix}${missing[0]} at ${kafka.brokers.join(',')}: name the brokers of a server with DIBS_KAFKA_BROKERS.`,
    );
  }
  for (const log of missing) await createTopic(kafka, admin, log, options);
  const names = logNames.map(log => kafka.prefix + log);
  const metadata = await admin.metadata({ topics: [...names], forceUpdate: true });
  const found = logNames.map(log => {
    const name = kafka.prefix + log;
    const topic = metadata.topics.get(name);
    // A send to a partition that has no leader yet may fail for good.
    if (topic?.partitions.some(p => p.leader < 0) !== false) throw new Unavailable(`${name} has no leaders yet`);
    return { log, name, id: topic.id, partitions: topic.partitions };
  });
  for (const topic of found) assertShape(topic.name, topic.partitions, options);
  await assertConfigs(kafka, admin, found, options);
  const topics = Object.fromEntries(found.map(({ log, name, id }) => [log, { log, name, id }])) as Topics;
  return { topics, identity: `kafka:${metadata.id}:${topics[requestLog].id}:${topics[changeLog].id}` };
}

async function createTopic(kafka: Kafka, admin: Admin, log: LogName, options: TopicOptions): Promise<void> {
  try {
    await admin.createTopics({
      topics: [kafka.prefix + log],
      partitions: options.partitions,
      replicas: options.replication,
      configs: Object.entries(required(log, options)).map(([name, value]) => ({ name, value })),
    });
    kafka.log('info', `created topic ${kafka.prefix}${log}`);
  } catch (error) {
    if (!answered(error, 'TOPIC_ALREADY_EXISTS')) throw error;
  }
}

function assertShape(name: string, partitions: { replicas: number[] }[], options: TopicOptions): void {
  if (partitions.length !== options.partitions) {
    throw new Refused(
      `Topic ${name} has ${partitions.length} partitions but ${options.partitions} are configured: configure ${partitions.length}, or stop every instance and add partitions to all four topics alike.`,
    );
  }
  const replicas = Math.min(...partitions.map(p => p.replicas.length));
  if (replicas < options.minInsync) {
    throw new Refused(
      `Topic ${name} has ${replicas} replicas but min.insync.replicas is ${options.minInsync}, so no append could succeed: add replicas or lower it.`,
    );
  }
}

async function assertConfigs(
  kafka: Kafka,
  admin: Admin,
  topics: readonly { log: LogName; name: string }[],
  options: TopicOptions,
): Promise<void> {
  const described = await admin.describeConfigs({
    resources: topics.map(({ log, name }) => ({
      resourceType: ConfigResourceTypes.TOPIC,
      resourceName: name,
      configurationKeys: Object.keys(required(log, options)),
    })),
  });
  const differences: string[] = [];
  const commands: string[] = [];
  for (const { log, name: topic } of topics) {
    const wanted = required(log, options);
    const there = described.find(({ resourceName }) => resourceName === topic)?.configs ?? [];
    const has = new Map(there.map(({ name, value }) => [name, value]));
    const isWrong = (name: string): boolean =>
      has.has(name) &&
      (name === sizeMax ? Number(has.get(name)) < Number(wanted[name]) : has.get(name) !== wanted[name]);
    const wrong = Object.keys(wanted).filter(isWrong);
    if (wrong.length === 0) continue;
    differences.push(`${topic} has ${wrong.map(name => `${name}=${has.get(name)}`).join(', ')}`);
    const settings = wrong.map(name => `${name}=${wanted[name]}`).join(',');
    commands.push(
      `kafka-configs.sh --bootstrap-server ${kafka.brokers.join(',')} --alter --entity-type topics --entity-name ${topic} --add-config ${settings}`,
    );
  }
  if (differences.length === 0) return;
  throw new Refused(`Topics are not as a log needs them (${differences.join('; ')}): ${commands.join(' && ')}`);
}
