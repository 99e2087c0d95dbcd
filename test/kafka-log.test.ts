import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { after, test } from 'node:test';
import { Admin, Connection, NumericMap, Producer } from '@platformatic/kafka';
import { changeLog, logNames, requestLog } from '../src/entry.ts';
import { Alarm, NotAccepted, OutcomeUnknown, Refused } from '../src/errors.ts';
import { createHost } from '../src/host.ts';
import { appendError, noteTry } from '../src/kafka/errors.ts';
import { createKafkaLog, type KafkaLog, type KafkaOptions } from '../src/kafka/log.ts';
import { type Member, share } from '../src/kafka/share.ts';
import { eventLogConformance, within } from './conformance/event-log.ts';

const address = process.env.DIBS_KAFKA_BROKERS;

const refused = (): Error => Object.assign(new Error('Connection failed'), { cause: { code: 'ECONNREFUSED' } });
const tooLarge = (): Error => Object.assign(new Error('too large'), { apiId: 'MESSAGE_TOO_LARGE', canRetry: false });
const timedOut = (): Error => Object.assign(new Error('Request timed out'), { code: 'PLT_KFK_NETWORK' });
const closed = (): Error => new Error('Client closed while retrying produce.');

/** The answer to the next produce request goes down with its connection. Resolves when it has. */
function loseNextAnswer(): Promise<void> {
  const { send } = Connection.prototype;
  const { promise, resolve } = Promise.withResolvers<void>();
  const produce = 0;
  Connection.prototype.send = function (this: Connection, ...args: Parameters<typeof send>) {
    if (args[0] === produce) {
      Connection.prototype.send = send;
      const { socket } = this as unknown as { socket: Socket };
      socket.removeAllListeners('data');
      socket.once('data', () => {
        socket.once('close', () => setTimeout(resolve, 5));
        socket.destroy();
      });
    }
    return send.apply(this, args);
  } as typeof send;
  return promise;
}

test('Kafka: a batch is surely not accepted only when no try may have left it in the log', () => {
  const sure = [refused(), tooLarge(), new AggregateError([refused(), new AggregateError([refused()]), closed()])];
  for (const error of sure) assert.ok(appendError(error, true) instanceof NotAccepted, String(error));
  const open = [timedOut(), new AggregateError([refused(), timedOut(), tooLarge()]), new Error('anything else')];
  for (const error of open) assert.ok(appendError(error, true) instanceof OutcomeUnknown, String(error));
  assert.ok(appendError(refused(), false) instanceof OutcomeUnknown);
});

test('Kafka: a try that failed is noted and then takes no memory', () => {
  const [harmless, doubtful] = [new AggregateError([refused()], 'try 1'), new AggregateError([timedOut()], 'try 2')];
  assert.deepEqual([noteTry(harmless), noteTry(doubtful)], [true, false]);
  assert.deepEqual([harmless.errors.length, harmless.stack], [0, '']);
  const all = () => new AggregateError([harmless, refused(), closed()]);
  assert.ok(appendError(all(), true) instanceof NotAccepted);
  assert.ok(appendError(all(), false) instanceof OutcomeUnknown);
});

test('Kafka: partitions are shared evenly, nothing moves needlessly, and nothing is given away while it is held', () => {
  for (let partitions = 1; partitions <= 9; partitions++) {
    for (let size = 1; size <= 6; size++) {
      let members = Array.from({ length: size }, (_, i) => ({ id: `m${i}`, held: [] as number[], generation: 1 }));
      members = settle(partitions, members);
      const newcomer = { id: 'new', held: [], generation: -1 };
      const joined = settle(partitions, [...members, newcomer]);
      const kept = joined.flatMap(m => m.held.filter(p => members.find(o => o.id === m.id)?.held.includes(p)));
      assert.equal(kept.length, partitions - Math.floor(partitions / (size + 1)));
      settle(partitions, joined.slice(1));
    }
  }
});

test('Kafka: of two members that claim the same partition neither keeps it, and a stale claim does not count', () => {
  const both = share(2, [
    { id: 'a', held: [0, 1], generation: 3 },
    { id: 'b', held: [1], generation: 3 },
  ]);
  assert.deepEqual(
    [...both],
    [
      ['a', [0]],
      ['b', []],
    ],
  );
  const stale = share(2, [
    { id: 'a', held: [0, 1], generation: 2 },
    { id: 'b', held: [1], generation: 3 },
  ]);
  assert.deepEqual(
    [...stale],
    [
      ['b', [1]],
      ['a', [0]],
    ],
  );
});

if (!address) {
  void test.skip('Kafka: DIBS_KAFKA_BROKERS is not set, so the log on Kafka is NOT tested; `npm test` starts a broker');
} else {
  const brokers = address.split(',');
  const client = { clientId: 'dibs-test', bootstrapBrokers: brokers };
  const admin = new Admin({ ...client, retryDelay: 100 });
  const prefixes: string[] = [];
  const open: KafkaLog[] = [];

  const randomPrefix = (): string => {
    const prefix = `t-${randomBytes(5).toString('hex')}-`;
    prefixes.push(prefix);
    return prefix;
  };
  const openLog = async (topicPrefix: string, other: Partial<KafkaOptions> = {}): Promise<KafkaLog> => {
    const log = await createKafkaLog({
      brokers: [...brokers],
      topicPrefix,
      partitions: 4,
      replication: 1,
      minInsync: 1,
      host: createHost(),
      log: () => {},
      ...other,
    });
    open.push(log);
    return log;
  };
  const createTopic = (topic: string, configs: Record<string, string>, partitions = 4) =>
    admin.createTopics({
      topics: [topic],
      partitions,
      replicas: 1,
      configs: Object.entries(configs).map(([name, value]) => ({ name, value })),
    });

  after(async () => {
    await Promise.all(open.map(log => log.close()));
    const topics = (await admin.listTopics()).filter(name => prefixes.some(prefix => name.startsWith(prefix)));
    if (topics.length > 0) await admin.deleteTopics({ topics });
    await admin.close();
  });

  eventLogConformance('Kafka', async () => {
    const prefix = randomPrefix();
    let log = await openLog(prefix, { partitions: 2 });
    return {
      log,
      reopen: async () => {
        await log.close();
        log = await openLog(prefix, { partitions: 2 });
        return log;
      },
      close: () => log.close(),
    };
  });

  test('Kafka: two processes that start at once create each topic once and agree', async () => {
    const prefix = randomPrefix();
    const logs = await Promise.all([1, 2, 3].map(() => openLog(prefix)));
    assert.equal(new Set(logs.map(log => log.identity)).size, 1);
    const topics = (await admin.listTopics()).filter(name => name.startsWith(prefix));
    assert.deepEqual(topics.sort(), logNames.map(name => prefix + name).sort());
    assert.equal(await logs[0]?.append(requestLog, 3, ['at once']), 0);
  });

  const good = {
    'message.timestamp.type': 'LogAppendTime',
    'retention.ms': '-1',
    'retention.bytes': '-1',
    'cleanup.policy': 'delete',
    'min.insync.replicas': '1',
    'compression.type': 'uncompressed',
    'max.message.bytes': '20000000',
  };
  for (const [setting, value] of [
    ['retention.ms', '604800000'],
    ['retention.bytes', '1000000'],
    ['message.timestamp.type', 'CreateTime'],
    ['cleanup.policy', 'compact'],
    ['min.insync.replicas', '2'],
    ['unclean.leader.election.enable', 'true'],
    ['compression.type', 'producer'],
    ['max.message.bytes', '8000000'],
  ] as const) {
    test(`Kafka: a topic with ${setting}=${value} is refused with the remedy`, async () => {
      const prefix = randomPrefix();
      await createTopic(prefix + changeLog, { ...good, [setting]: value });
      await assert.rejects(openLog(prefix), (error: Error) => {
        assert.ok(error instanceof Refused);
        assert.ok(error.message.includes(`${setting}=${value}`) && error.message.includes('--alter'), error.message);
        return true;
      });
    });
  }

  test('Kafka: the remedy names every difference of every topic, as it can be run', async () => {
    const prefix = randomPrefix();
    await createTopic(prefix + changeLog, { ...good, 'retention.ms': '1000', 'compression.type': 'gzip' });
    await createTopic(prefix + requestLog, { ...good, 'retention.bytes': '1000' });
    const command = (name: string, settings: string) =>
      `kafka-configs.sh --bootstrap-server ${brokers} --alter --entity-type topics --entity-name ${prefix}${name} --add-config ${settings}`;
    await assert.rejects(openLog(prefix), (error: Error) => {
      for (const part of [
        command(requestLog, 'retention.bytes=-1'),
        command(changeLog, 'retention.ms=-1,compression.type=uncompressed'),
      ])
        assert.ok(error.message.includes(part), error.message);
      return true;
    });
  });

  test('Kafka: topics with another number of partitions are refused', async () => {
    const prefix = randomPrefix();
    await createTopic(prefix + changeLog, good, 3);
    await assert.rejects(openLog(prefix), /has 3 partitions but 4 are configured/);
    await assert.rejects(openLog(prefix, { partitions: 3, minInsync: 2 }), /no append could succeed/);
  });

  test('Kafka: members share the partitions, and one takes over when the others leave', async () => {
    const prefix = randomPrefix();
    const [a, b] = await Promise.all([openLog(prefix), openLog(prefix)]);
    const first = member(4);
    await a.assign('share', requestLog, first);
    await within(20_000, first.reached(4), 'the first alone');
    const second = member(4);
    await b.assign('share', requestLog, second);
    await within(20_000, Promise.all([first.reached(2), second.reached(2)]), 'two and two');
    assert.equal(new Set([...first.held, ...second.held]).size, 4);
    const c = await openLog(prefix);
    const third = member(4);
    await c.assign('share', requestLog, third);
    await within(20_000, third.reached(1), 'one for the third');
    await Promise.all([b.close(), c.close()]);
    assert.equal(second.held.size + third.held.size, 0);
    await within(20_000, first.reached(4), 'all with the first again');
  });

  test('Kafka: a commit shows up in the books of the group', async () => {
    const prefix = randomPrefix();
    const log = await openLog(prefix);
    const only = member(4);
    const assignment = await log.assign('books', requestLog, only);
    await within(20_000, only.reached(4), 'assignment');
    await log.commit('books', requestLog, 2, 17);
    await assignment.close();
    const topics = [{ name: prefix + requestLog, partitionIndexes: [2] }];
    const [group] = await admin.listConsumerGroupOffsets({ groups: [{ groupId: `${prefix}books`, topics }] });
    assert.equal(group?.topics[0]?.partitions[0]?.committedOffset, 17n);
  });

  test('Kafka: bytes that are not UTF-8 are given as they are, and a tombstone as empty text', async () => {
    const prefix = randomPrefix();
    const log = await openLog(prefix);
    const topic = prefix + requestLog;
    const producer = new Producer<Buffer, Buffer | null>(client as never);
    const bytes = Buffer.from([0x7b, 0xff, 0xfe, 0x00]);
    try {
      for (const value of [bytes, null, Buffer.from('fine')]) {
        await producer.send({ messages: [{ topic, partition: 1, key: Buffer.from('k'), value }], acks: -1 });
      }
    } finally {
      await producer.close();
    }
    const { entries } = await readSome(log, 1, 3);
    assert.deepEqual(entries[0]?.bytes && Buffer.from(entries[0].bytes), bytes);
    assert.deepEqual(
      entries.slice(1).map(({ text, bytes }) => ({ text, bytes })),
      [
        { text: '', bytes: undefined },
        { text: 'fine', bytes: undefined },
      ],
    );
  });

  test('Kafka: what a fetch brought beyond `max` is given without another fetch', async () => {
    const log = await openLog(randomPrefix());
    const values = Array.from({ length: 1_000 }, (_, i) => String(i));
    await log.append(requestLog, 0, values);
    const before = log.counts.fetch;
    const seen: string[] = [];
    for (let at = 0; at < 1_000; ) {
      const { entries, next } = await log.read(requestLog, 0, at, 100, 5_000);
      seen.push(...entries.map(e => e.text));
      at = next;
    }
    assert.deepEqual(seen, values);
    assert.equal(log.counts.fetch - before, 1);
  });

  test('Kafka: entries too large for the topic are surely not accepted, and the next ones are', async () => {
    const log = await openLog(randomPrefix());
    await assert.rejects(log.append(requestLog, 0, ['x'.repeat(1_200_000)]), NotAccepted);
    assert.equal(await log.append(requestLog, 0, ['small']), 0);
  });

  // The retry was acknowledged at a place before what had been appended beside it: taken for a log that was made anew.
  test('Kafka: an operator appends while an append of the stage has lost its answer, and both stand', async () => {
    const log = await openLog(randomPrefix());
    await log.append(changeLog, 0, ['before']);
    const lost = loseNextAnswer();
    const stage = log.append(changeLog, 0, ['won 1', 'won 2', 'mark']);
    await lost;
    const operator = log.append(changeLog, 0, ['won again']);
    assert.deepEqual(await Promise.all([stage, operator]), [1, 4]);
    assert.equal(await log.append(changeLog, 0, ['next batch']), 5);
    const { entries } = await log.read(changeLog, 0, 0, 100, 5_000);
    assert.deepEqual(
      entries.map(e => e.text),
      ['before', 'won 1', 'won 2', 'mark', 'won again', 'next batch'],
    );
  });

  // The client counts on: its number did not fit, and was tried again for ever.
  test('Kafka: a producer begins again with its sequence numbers after 2^31 - 1', async () => {
    const log = await openLog(randomPrefix());
    const { postIncrement } = NumericMap.prototype;
    NumericMap.prototype.postIncrement = function (key, value, fallback) {
      return postIncrement.call(this, key, value, value > 1 && !this.has(key) ? 2 ** 31 - 3 : fallback);
    };
    try {
      assert.equal(await within(5_000, log.append(requestLog, 0, ['a', 'b']), 'an append'), 0);
    } finally {
      NumericMap.prototype.postIncrement = postIncrement;
    }
    assert.equal(await within(5_000, log.append(requestLog, 0, ['c', 'd']), 'an append'), 2);
    assert.equal(await within(5_000, log.append(requestLog, 0, ['e', 'f']), 'an append'), 4);
  });

  test('Kafka: a topic that was made anew raises an alarm, for readers and for writers', async () => {
    const prefix = randomPrefix();
    const log = await openLog(prefix);
    await log.append(requestLog, 0, ['a', 'b', 'c']);
    const { next } = await readSome(log, 0, 3);
    await admin.deleteTopics({ topics: [prefix + requestLog] });
    await createTopic(prefix + requestLog, good);
    await assert.rejects(
      alarmOf(() => log.read(requestLog, 0, next, 10, 200)),
      Alarm,
    );
    await assert.rejects(
      alarmOf(() => log.read(requestLog, 0, 0, 10, 200)),
      Alarm,
    );
    await assert.rejects(log.append(requestLog, 0, ['d']), Alarm);
    await assert.rejects(log.append(requestLog, 0, ['e']), NotAccepted);
    const other = await openLog(prefix);
    assert.notEqual(other.identity, log.identity);
  });

  test('Kafka: entries that were deleted from the beginning raise an alarm', async () => {
    const prefix = randomPrefix();
    const log = await openLog(prefix);
    await log.append(requestLog, 0, ['a', 'b', 'c']);
    await admin.deleteRecords({
      topics: [{ name: prefix + requestLog, partitions: [{ partition: 0, offset: 2n }] }],
    } as never);
    await assert.rejects(log.read(requestLog, 0, 0, 10, 200), Alarm);
    assert.deepEqual(
      (await log.read(requestLog, 0, 2, 10, 200)).entries.map(e => e.text),
      ['c'],
    );
  });
}

/** Rounds until nobody has to give anything up; asserts what holds in each and at the end. */
function settle(partitions: number, members: (Member & { held: number[] })[]): (Member & { held: number[] })[] {
  for (let round = 0; ; round++) {
    assert.ok(round < 4, 'settles');
    const shares = share(partitions, members);
    const after = members.map(m => ({ ...m, held: shares.get(m.id) ?? [], generation: 10 + round }));
    for (const { id, held } of after) {
      for (const p of held) assert.ok(!members.some(m => m.id !== id && m.held.includes(p)), 'given away while held');
    }
    const lost = members.some(m => m.held.some(p => !shares.get(m.id)?.includes(p)));
    members = after;
    if (lost) continue;
    assert.deepEqual(
      after.flatMap(m => m.held).sort((a, b) => a - b),
      Array.from({ length: partitions }, (_, p) => p),
    );
    const sizes = after.map(m => m.held.length);
    assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1, `even: ${sizes}`);
    return after;
  }
}

/** A group member that can be waited for. */
function member(partitions: number) {
  const held = new Set<number>();
  let waiting: { size: number; resolve: () => void }[] = [];
  const changed = () => {
    assert.ok(held.size <= partitions);
    waiting = waiting.filter(w => w.size !== held.size || w.resolve() !== undefined);
  };
  return {
    held,
    assigned(partition: number) {
      held.add(partition);
      changed();
    },
    revoked(partition: number) {
      held.delete(partition);
      changed();
    },
    reached(size: number): Promise<void> {
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting.push({ size, resolve });
      changed();
      return promise;
    },
  };
}

async function readSome(log: KafkaLog, partition: number, count: number) {
  const all = { entries: [] as Awaited<ReturnType<KafkaLog['read']>>['entries'], next: 0 };
  while (all.entries.length < count) {
    const { entries, next } = await log.read(requestLog, partition, all.next, count, 5_000);
    all.entries.push(...entries);
    all.next = next;
  }
  return all;
}

/** While brokers learn of a change, reads may be empty or fail with Unavailable. */
async function alarmOf(read: () => Promise<unknown>): Promise<void> {
  for (const until = performance.now() + 10_000; performance.now() < until; ) {
    await read().catch(error => {
      if (error instanceof Alarm) throw error;
    });
  }
}
