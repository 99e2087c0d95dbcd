import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, suite, test } from 'node:test';
import { Admin } from '@platformatic/kafka';
import { type LogEntry, logNames, requestLog } from '../src/entry.ts';
import { createHost } from '../src/host.ts';
import { tailCharactersMax, tailEntriesMax } from '../src/kafka/limits.ts';
import { createKafkaLog, type KafkaLog } from '../src/kafka/log.ts';
import { Tail } from '../src/kafka/tail.ts';

suite('Kafka: the tail', () => {
  const texts = (entries: LogEntry[] | undefined) => entries?.map(({ offset, text }) => `${offset}${text}`).join(' ');

  test('gives what was appended from any place in it, and nothing from beside it', () => {
    const tail = new Tail();
    assert.equal(tail.from(0, 10), undefined);
    tail.add(5, 1_000, ['a', 'b', 'c']);
    tail.add(8, 1_001, ['d']);
    tail.add(9, 1_002, ['e', 'f']);
    assert.deepEqual(
      [4, 11, 12].map(place => tail.from(place, 10)),
      [undefined, undefined, undefined],
    );
    assert.equal(texts(tail.from(5, 10)), '5a 6b 7c 8d 9e 10f');
    assert.equal(texts(tail.from(7, 3)), '7c 8d 9e');
    assert.equal(texts(tail.from(10, 1)), '10f');
    assert.deepEqual(
      tail.from(7, 3)?.map(({ at }) => at),
      [1_000, 1_001, 1_002],
    );
    assert.equal(tail.end, 11);
  });

  test('begins anew behind what another process has appended', () => {
    const tail = new Tail();
    tail.add(0, 1, ['a']);
    tail.add(2, 2, ['c']);
    assert.deepEqual(
      [texts(tail.from(0, 9)), texts(tail.from(1, 9)), texts(tail.from(2, 9))],
      [undefined, undefined, '2c'],
    );
  });

  test('is empty after a break, and readers are told by another link', () => {
    const tail = new Tail();
    tail.add(0, 1, ['a']);
    const { link } = tail;
    tail.break();
    assert.equal(tail.from(0, 9), undefined);
    assert.notEqual(tail.link, link);
  });

  test('keeps the last entries only', () => {
    const tail = new Tail();
    const append = Array.from({ length: 100 }, (_, i) => `${i}`);
    for (let base = 0; base < 3 * tailEntriesMax; base += append.length) tail.add(base, 1, append);
    assert.equal(tail.from(tail.end - tailEntriesMax - 1, 1), undefined);
    const first = tail.end - tailEntriesMax + append.length;
    assert.equal(tail.from(first, tailEntriesMax)?.length, tailEntriesMax - append.length);
  });

  test('keeps no more characters than may be read at once', () => {
    const tail = new Tail();
    for (let base = 0; base < 40; base++) tail.add(base, 1, ['x'.repeat(tailCharactersMax / 8)]);
    assert.equal(tail.from(31, 9), undefined);
    assert.equal(tail.from(32, 9)?.length, 8);
  });

  test('holds a text as it will be read: half a surrogate pair is not written', () => {
    const tail = new Tail();
    tail.add(0, 1, ['\ud800x']);
    assert.equal(tail.from(0, 1)?.[0]?.text, Buffer.from('\ud800x').toString());
  });
});

const address = process.env.DIBS_KAFKA_BROKERS;

if (!address) {
  void test.skip('Kafka: DIBS_KAFKA_BROKERS is not set, so reading what was appended is NOT tested');
} else {
  const prefix = `t-${randomBytes(5).toString('hex')}-`;
  const logs: KafkaLog[] = [];
  const open = async (): Promise<KafkaLog> => {
    const shape = { partitions: 4, replication: 1, minInsync: 1 };
    const options = { ...shape, topicPrefix: prefix, host: createHost(), log: () => {} };
    const log = await createKafkaLog({ brokers: address.split(','), ...options });
    logs.push(log);
    return log;
  };
  after(async () => {
    await Promise.all(logs.map(log => log.close()));
    const admin = new Admin({ clientId: 'dibs-test', bootstrapBrokers: address.split(',') });
    await admin.deleteTopics({ topics: logNames.map(name => prefix + name) });
    await admin.close();
  });
  const readTo = async (log: KafkaLog, partition: number, from: number, to: number): Promise<LogEntry[]> => {
    const all: LogEntry[] = [];
    for (let at = from; at < to; ) {
      const { entries, next } = await log.read(requestLog, partition, at, 7, 5_000);
      all.push(...entries);
      at = next;
    }
    return all;
  };

  test('Kafka: who has read to the end is given what is appended here without a fetch, as the log gives it', async () => {
    const [ours, other] = [await open(), await open()];
    await ours.append(requestLog, 0, ['a', 'b']);
    await readTo(ours, 0, 0, 2);
    const before = ours.counts.fetch;
    await ours.append(requestLog, 0, ['c', 'd', 'e'], ['k', 'k', 'k']);
    await ours.append(
      requestLog,
      0,
      Array.from({ length: 20 }, (_, i) => `é${i}`),
    );
    const here = await readTo(ours, 0, 2, 25);
    assert.equal(ours.counts.fetch, before);
    assert.deepEqual(here, await readTo(other, 0, 2, 25));
    await ours.append(requestLog, 0, ['again']);
    assert.deepEqual(await readTo(ours, 0, 25, 26), await readTo(other, 0, 25, 26));
    assert.equal(ours.counts.fetch, before);
  });

  test('Kafka: who reads from further back reads the log', async () => {
    const log = await open();
    await log.append(requestLog, 1, ['a', 'b']);
    await readTo(log, 1, 0, 2);
    await log.append(requestLog, 1, ['c', 'd']);
    await readTo(log, 1, 2, 4);
    const before = log.counts.fetch;
    assert.deepEqual(
      (await readTo(log, 1, 3, 4)).map(e => e.text),
      ['d'],
    );
    assert.equal(log.counts.fetch, before + 1);
  });

  test('Kafka: what two processes append by turns comes to both in one order', async () => {
    const [a, b] = [await open(), await open()];
    const append = async (log: KafkaLog, name: string) => {
      for (let i = 0; i < 100; i++) await log.append(requestLog, 2, [`${name}${i}`, `${name}${i}'`]);
    };
    const [, , atA, atB] = await Promise.all([
      append(a, 'a'),
      append(b, 'b'),
      readTo(a, 2, 0, 400),
      readTo(b, 2, 0, 400),
    ]);
    assert.deepEqual(atA, atB);
    assert.deepEqual(
      atA.map(({ offset }) => offset),
      Array.from({ length: 400 }, (_, i) => i),
    );
  });
}
