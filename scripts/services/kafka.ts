/** Kafka brokers, each with a controller in the same JVM, from the jars that Maven Central has. One, or three as one cluster. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Admin } from '@platformatic/kafka';
import { freePort } from './port.ts';
import { CACHE, find, install, type Log, retried, run, type ServerOptions, withLock } from './program.ts';
import { Server, type ServerSpec } from './server.ts';

const VERSION = '4.3.1';
const JAVA_MAJOR_MIN = 17;
const JRE_PACKAGE = 'openjdk-17-jre-headless';
const ANSWER_MS_MAX = 2_000;
/** Any will do; it marks the data as this cluster's. */
const CLUSTER_ID = '4L6g3nShT-eMCtK--X86sw';
const JVM = ['-Xmx256m', '-XX:+UseSerialGC', '-XX:-UsePerfData', '-XX:TieredStopAtLevel=1'];
const HOME = join(CACHE, `kafka-${VERSION}`);
const JARS = join(HOME, 'jars');

export interface KafkaOptions extends ServerOptions {
  controllerPort: number;
  /** Its place among the brokers of a cluster. One broker by itself when absent. */
  member?: { id: number; controllerPorts: readonly number[] };
  /** Further lines of server.properties. */
  properties?: readonly string[];
}

export const kafkaBrokers = (...ports: number[]): string => ports.map(port => `127.0.0.1:${port}`).join(',');

export async function kafkaSpec(options: KafkaOptions): Promise<ServerSpec> {
  const java = await javaProgram(options.log);
  const archive = await archiveOf(java, options.log);
  return brokerSpec(java, [`-XX:SharedArchiveFile=${archive}`, '-Xlog:cds=off', '-Xlog:cds+dynamic=off'], options);
}

async function brokerSpec(java: string, flags: readonly string[], options: KafkaOptions): Promise<ServerSpec> {
  const { dir, port, controllerPort, args, log } = options;
  const id = options.member?.id ?? 1;
  const dataDir = join(dir, 'kafka');
  const file = join(dir, 'kafka.properties');
  await mkdir(dir, { recursive: true });
  await writeFile(file, properties(dataDir, options));
  return {
    name: 'kafka',
    port,
    portsMore: [controllerPort],
    dir,
    dataDir,
    command: [java, ...JVM, ...flags, '-cp', classPath(), 'kafka.Kafka', file, ...args],
    mark: file,
    stopSignal: 'SIGTERM',
    user: undefined,
    layData: () => layData(dataDir, id, java, file, log),
    answers: () => kafkaAnswers(kafkaBrokers(port), id),
  };
}

/** Why each: short sessions let a killed broker come back in 3 s, not 12. */
function properties(dataDir: string, { port, controllerPort, member, properties: more = [] }: KafkaOptions): string {
  const voters = (member?.controllerPorts ?? [controllerPort]).map((each, i) => `${i + 1}@127.0.0.1:${each}`);
  return [
    'process.roles=broker,controller',
    `node.id=${member?.id ?? 1}`,
    `controller.quorum.voters=${voters.join(',')}`,
    `listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    `advertised.listeners=PLAINTEXT://127.0.0.1:${port}`,
    'controller.listener.names=CONTROLLER',
    `log.dirs=${dataDir}`,
    ...factors(voters.length),
    'offsets.topic.num.partitions=1',
    'transaction.state.log.num.partitions=1',
    'group.initial.rebalance.delay.ms=0',
    'group.min.session.timeout.ms=500',
    'auto.create.topics.enable=false',
    'log.message.timestamp.type=LogAppendTime',
    'log.cleaner.dedupe.buffer.size=4194304',
    ...more,
    '',
  ].join('\n');
}

/** What the number of brokers decides: copies of all that is kept, how many must have it, and who is given up when. */
function factors(brokers: number): string[] {
  const insyncMin = Math.ceil((brokers + 1) / 2);
  return [
    `default.replication.factor=${brokers}`,
    `min.insync.replicas=${insyncMin}`,
    'unclean.leader.election.enable=false',
    `offsets.topic.replication.factor=${brokers}`,
    `transaction.state.log.replication.factor=${brokers}`,
    `transaction.state.log.min.isr=${insyncMin}`,
    `share.coordinator.state.topic.replication.factor=${brokers}`,
    `share.coordinator.state.topic.min.isr=${insyncMin}`,
    // Alone it only waits for its own old session; among others a busy machine must not look like a death.
    ...(brokers === 1
      ? ['broker.session.timeout.ms=1000', 'broker.heartbeat.interval.ms=250']
      : [
          'broker.session.timeout.ms=3000',
          'broker.heartbeat.interval.ms=500',
          'controller.quorum.election.timeout.ms=1000',
          'controller.quorum.fetch.timeout.ms=2000',
        ]),
  ];
}

async function javaProgram(log: Log): Promise<string> {
  const folders = process.env.JAVA_HOME ? [join(process.env.JAVA_HOME, 'bin')] : [];
  if (!find('java', folders)) await install([JRE_PACKAGE], [], log);
  const java = find('java', folders) as string;
  const major = Number.parseInt((await javaVersion(java)).split(' ')[1] ?? '', 10);
  if (major >= JAVA_MAJOR_MIN) return java;
  throw new Error(`${java} is Java ${major}: set JAVA_HOME to Java ${JAVA_MAJOR_MIN} or newer, or DIBS_KAFKA_BROKERS.`);
}

/** For example "openjdk 17.0.15 2025-04-15"; printed before a line for the runtime and one for the VM. */
const javaVersion = (java: string): Promise<string> => run(java, ['--version']);

/** In one order: a shared archive holds for exactly the class path that it was made with. */
function classPath(): string {
  const jars = readdirSync(JARS).filter(name => name.endsWith('.jar'));
  return jars
    .sort()
    .map(name => join(JARS, name))
    .join(':');
}

/**
 * An archive of the broker's loaded classes halves its start (1.5 s instead of 3) and is made once, with the
 * formatted data folder, by starting and stopping a broker.
 */
async function archiveOf(java: string, log: Log): Promise<string> {
  const made = createHash('sha256')
    .update(`${await javaVersion(java)}\n${java}\n${JARS}`)
    .digest('hex')
    .slice(0, 16);
  const archive = join(HOME, `classes-${made}.jsa`);
  if (existsSync(archive)) return archive;
  await withLock('kafka', async () => {
    if (!existsSync(JARS)) await fetchJars(log);
    if (!existsSync(archive)) await makeArchive(java, archive, log);
  });
  return archive;
}

async function makeArchive(java: string, archive: string, log: Log): Promise<void> {
  log('making the class archive of Kafka');
  const dir = join(HOME, 'archiving');
  await rm(dir, { recursive: true, force: true });
  const ports = { port: await freePort(), controllerPort: await freePort() };
  const partial = `${archive}.partial`;
  const spec = await brokerSpec(java, [`-XX:ArchiveClassesAtExit=${partial}`], { dir, ...ports, args: [], log });
  const server = new Server(spec, { detached: false });
  await server.start();
  await server.stop();
  // Without an archive the broker starts as well, only slower.
  if (existsSync(partial)) await rename(partial, archive);
  await rm(dir, { recursive: true, force: true });
}

async function fetchJars(log: Log): Promise<void> {
  if (!find('mvn')) await install(['maven', JRE_PACKAGE], [], log);
  log(`fetching Kafka ${VERSION} with Maven`);
  const work = join(HOME, 'fetching');
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  await writeFile(join(work, 'pom.xml'), pom());
  const goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${join(work, 'jars')}`];
  await retried(() => run('mvn', ['-q', '-B', ...goal], { cwd: work }));
  await rename(join(work, 'jars'), JARS);
  await rm(work, { recursive: true, force: true });
}

const pom = (): string => `<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>dibs</groupId>
  <artifactId>broker</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>${VERSION}</version>
    </dependency>
  </dependencies>
</project>
`;

/** Formatting takes a JVM start; a copy of two formatted files, with another broker's number, does the same. */
async function layData(dataDir: string, id: number, java: string, file: string, log: Log): Promise<void> {
  const template = join(HOME, 'formatted');
  if (!existsSync(template)) {
    log('formatting an empty Kafka log');
    const tool = ['-cp', classPath(), 'kafka.tools.StorageTool', 'format', '-t', CLUSTER_ID, '-c', file];
    await run(java, [...JVM, ...tool]);
    if (id !== 1) return;
    const partial = `${template}.partial`;
    await rm(partial, { recursive: true, force: true });
    await cp(dataDir, partial, { recursive: true });
    await rename(partial, template);
    return;
  }
  await cp(template, dataDir, { recursive: true });
  if (id === 1) return;
  const meta = join(dataDir, 'meta.properties');
  const ours = (await readFile(meta, 'utf8'))
    .replace(/^node\.id=.*$/m, `node.id=${id}`)
    .replace(/^directory\.id=.*$/m, `directory.id=${randomBytes(16).toString('base64url')}`);
  await writeFile(meta, ours);
}

/**
 * A broker that is fenced yet answers ApiVersions but refuses topics; listed in the metadata it takes them.
 * `id`: of the broker that must be listed; any when absent.
 */
export async function kafkaAnswers(brokers: string, id?: number): Promise<void> {
  const admin = new Admin({
    clientId: 'dibs-services',
    bootstrapBrokers: brokers.split(','),
    retries: 0,
    timeout: ANSWER_MS_MAX,
    connectTimeout: ANSWER_MS_MAX,
  });
  try {
    const { brokers: listed } = await admin.metadata({ topics: [] });
    if (id === undefined ? listed.size === 0 : !listed.has(id))
      throw new Error('The broker has not joined its cluster yet.');
  } finally {
    await admin.close().catch(() => {});
  }
}
