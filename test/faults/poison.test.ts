/** Entries that nobody can read, rows that the store refuses: set aside with their reason, and the sale goes on. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Consumer, Producer } from '@platformatic/kafka';
import type { Services } from '../../scripts/services.ts';
import { call } from '../support/calls.ts';
import { Cluster, noServices, serversFor, type TestNode } from '../support/cluster.ts';
import { eventually } from '../support/sale.ts';

describe('set aside', { skip: noServices, concurrency: true, timeout: 110_000 }, () => {
  let services: Services;
  let producer: Producer<Buffer, Buffer>;
  before(async () => {
    services = await serversFor([]);
    producer = new Producer({ clientId: 'poison', bootstrapBrokers: services.kafkaBrokers.split(',') });
  });
  after(async () => {
    await producer?.close();
    await services?.stop();
  });

  const inCluster = (name: string, run: (cluster: Cluster, api: TestNode) => Promise<void>) => {
    test(name, async () => {
      const cluster = new Cluster(services);
      try {
        await run(cluster, await cluster.node('api,reserve,persist'));
      } finally {
        await cluster.stop();
      }
    });
  };

  /** Bytes of another producer. */
  const poison = (cluster: Cluster, log: string, values: readonly (string | Buffer)[]) =>
    producer.send({
      messages: values.map(value => ({
        topic: `${cluster.namespace}.${log}`,
        partition: 0,
        value: Buffer.from(value as string),
      })),
      acks: -1,
    });
  const lettersOf = async (api: TestNode) => (await api.client.deadLetters({ limit: 100 })).items;

  const unreadable = [
    'this is not JSON',
    '{"v":1,"type":"request","couponId":"welcome"}',
    '{"v":1,"type":"request","couponId":"WELCOME","userId":"x","key":"0000000000000000"}',
    '{"hello":"world"}',
    '[1,2,3]',
    'null',
    '',
    Buffer.from([0xff, 0xfe, 0x00, 0x80]),
  ];

  inCluster('requests that nobody can read', async (cluster, api) => {
    const sale = await cluster.sale('welcome', () => api);
    sale.press(100);
    await sale.answeredAtLeast(30);
    sale.press(250);
    for (const value of unreadable) {
      await poison(cluster, 'coupon-issued', [value]);
      sale.press(20);
    }
    await sale.isRight();
    const letters = await eventually(
      'the letters',
      () => lettersOf(api),
      l => l.length >= unreadable.length,
    );
    assert.equal(letters.length, unreadable.length, JSON.stringify(letters));
    for (const { log, reason, redrivable } of letters) {
      assert.equal(`${log} ${redrivable}`, 'coupon-issued false');
      assert.match(reason, /^malformed: /);
    }
    const copies = await readAll(cluster, 'coupon-issued-dead-letters');
    assert.deepEqual(new Set(copies.map(copy => copy.offset)), new Set(letters.map(letter => letter.offset)));
    assert.deepEqual(await api.client.redrive(), { redriven: 0 }, 'what was decided stays so');
  });

  inCluster('changes that nobody can read', async (cluster, api) => {
    const sale = await cluster.sale('welcome', () => api);
    sale.press(100);
    await sale.answeredAtLeast(30);
    for (const value of unreadable) {
      await poison(cluster, 'coupon-issued-success', [value]);
      sale.press(40);
    }
    sale.press(200);
    await sale.isRight();
    const letters = await eventually(
      'the letters',
      () => lettersOf(api),
      l => l.length >= unreadable.length,
    );
    assert.equal(letters.length, unreadable.length);
    for (const { log, reason } of letters) {
      assert.equal(log, 'coupon-issued-success');
      assert.match(reason, /^unreadable: /);
    }
    const copies = await readAll(cluster, 'coupon-issued-success-dead-letters');
    assert.deepEqual(new Set(copies.map(copy => copy.offset)), new Set(letters.map(letter => letter.offset)));
  });

  inCluster('entries as large as they may be, and packed ones that would be larger', async (cluster, api) => {
    const sale = await cluster.sale('welcome', () => api);
    sale.press(100);
    await sale.answeredAtLeast(30);
    await poison(cluster, 'coupon-issued', [Buffer.alloc(1_000_000, 'x')]);
    await poison(cluster, 'coupon-issued-success', [Buffer.alloc(8_000_000, 'x')]);
    const packing = new Producer({
      clientId: 'packing',
      bootstrapBrokers: services.kafkaBrokers.split(','),
      compression: 'gzip',
      retries: 0,
    });
    const topic = `${cluster.namespace}.coupon-issued`;
    const packed = packing.send({ messages: [{ topic, partition: 0, value: Buffer.alloc(7_000_000, 'x') }], acks: -1 });
    await assert.rejects(packed, 'it would unpack to more than a change can quote');
    await packing.close();
    sale.press(100);
    await sale.isRight();
    const letters = await eventually(
      'the letters',
      () => lettersOf(api),
      l => l.length >= 2,
    );
    assert.deepEqual(letters.map(letter => letter.log).toSorted(), ['coupon-issued', 'coupon-issued-success']);
  });

  inCluster('a change that somebody made up', async (cluster, api) => {
    const sale = await cluster.sale('welcome', () => api);
    sale.press(100);
    await sale.answeredAtLeast(100);
    // Slot 1 for another user, and the first winner once more: the tables hold the last word.
    const forged = { v: 1, type: 'won', couponId: 'welcome', userId: 'forger', slot: 1, key: '0'.repeat(16), at: 1 };
    await poison(cluster, 'coupon-issued-success', [JSON.stringify({ ...forged, offset: 0 })]);
    const [letter] = await eventually(
      'the letter',
      () => lettersOf(api),
      l => l.length > 0,
    );
    assert.match(letter?.reason ?? '', /^refused_by_store: slot 1 was given to another user/);
    const rows = await cluster.rows('welcome');
    assert.ok(rows.every(row => row.userId !== 'forger'));
    assert.equal(rows.length, 100);
  });

  inCluster('a request of a later version stops reserve aloud, and loses nothing', async (cluster, api) => {
    const sale = await cluster.sale('welcome', () => api);
    sale.press(60);
    await sale.answeredAtLeast(60);
    sale.press(100);
    await poison(cluster, 'coupon-issued', ['{"v":2,"type":"request"}']);
    const why = await eventually(
      'the alarm',
      () => readiness(api),
      text => text !== '',
      10_000,
    );
    assert.match(why, /reserve stopped: coupon-issued entry \d+ has version 2, this build knows 1/);
    const accepted = sale.accepted;
    sale.press(40);
    await sale.acceptedAtLeast(accepted + 40);
    const offset = Number(/entry (\d+)/.exec(why)?.[1]);
    const [first] = await eventually(
      'what came before it is decided and stored',
      () => cluster.sql<{ next: number }>('select next::int from checkpoint'),
      rows => rows[0]?.next === offset,
    );
    assert.equal(first?.next, offset);
    const lag = await api.client.lag();
    assert.equal(lag.stages.find(stage => stage.stage === 'reserve')?.state, 'stopped');
  });

  inCluster('a change of a later version stops persist aloud', async (cluster, api) => {
    const sale = await cluster.sale('welcome', () => api);
    sale.press(60);
    await sale.answeredAtLeast(60);
    await poison(cluster, 'coupon-issued-success', ['{"v":2,"type":"won"}']);
    const why = await eventually(
      'the alarm',
      () => readiness(api),
      text => text !== '',
      10_000,
    );
    assert.match(why, /persist stopped: coupon-issued-success entry \d+ has version 2/);
    sale.press(40);
    await sale.acceptedAtLeast(100);
    assert.equal((await cluster.rows('welcome')).length, 60);
    assert.equal(sale.told('issued'), 60);
  });

  inCluster('a hole in the change log stops persist aloud', async (cluster, api) => {
    const sale = await cluster.sale('welcome', () => api);
    sale.press(60);
    await sale.answeredAtLeast(60);
    const strays = { malformed: 0, unknown_coupon: 0 };
    const mark = { v: 1, type: 'mark', from: 1_000_000, next: 1_000_001, clock: 1, hash: 'h', counts: {}, strays };
    await poison(cluster, 'coupon-issued-success', [JSON.stringify(mark)]);
    const why = await eventually(
      'the alarm',
      () => readiness(api),
      text => text !== '',
      10_000,
    );
    assert.match(why, /persist stopped: hole in coupon-issued-success/);
  });

  inCluster('a row that the store refuses for good, and its redrive', async (cluster, api) => {
    const sale = await cluster.sale('welcome', () => api);
    sale.press(50);
    await sale.answeredAtLeast(50);
    await cluster.sql(`create function refuse_one() returns trigger language plpgsql as
      $$ begin raise exception 'not for %', new.user_id using errcode = 'check_violation'; end $$`);
    await cluster.sql(`create trigger refuse before insert on user_coupon for each row
      when (new.user_id = 'unlucky') execute function refuse_one()`);
    sale.press(100);
    const claim = sale.pressAs('unlucky');
    sale.press(250);
    const taskId = (await claim.taskId) as string;
    const state = async () => (await call(api.url, `GET /tasks/${taskId}`)).body.state;
    await eventually('the task says so', state, s => s === 'set_aside');
    await sale.answeredAtLeast(sale.size - 1);
    const [letter, ...others] = await lettersOf(api);
    assert.equal(others.length, 0);
    assert.equal(`${letter?.userId} ${letter?.redrivable}`, 'unlucky true');
    assert.match(letter?.reason ?? '', /^refused_by_store: not for unlucky/);
    assert.equal((await cluster.rows('welcome')).length, 199, 'the others have theirs');
    const report = await api.client.verify('welcome');
    assert.ok(report.ok, JSON.stringify(report));
    assert.equal(report.coupons[0]?.setAside, 1);
    const copies = await readAll(cluster, 'coupon-issued-success-dead-letters');
    assert.deepEqual(
      copies.map(copy => copy.offset),
      [letter?.offset],
    );

    assert.deepEqual(await api.client.redrive(), { redriven: 1 }, 'in vain: the trigger is still there');
    const again = () => readAll(cluster, 'coupon-issued-success-dead-letters');
    await eventually('it is set aside again', again, list => list.length === 2);
    assert.equal(await state(), 'set_aside');
    await cluster.sql('drop trigger refuse on user_coupon');
    assert.deepEqual(await api.client.redrive(), { redriven: 1 });
    await sale.isRight();
    assert.equal((await claim.outcome).outcome, 'issued');
    assert.equal(await claim.taskId, taskId);
    assert.equal((await lettersOf(api)).length, 0);
  });

  /** Why the process is not ready; empty when it is. */
  async function readiness(node: TestNode): Promise<string> {
    const answer = await fetch(`${node.url}/readyz`);
    return answer.ok ? '' : ((await answer.json()) as { detail: string }).detail;
  }

  async function readAll(cluster: Cluster, log: string): Promise<{ offset: number }[]> {
    const topic = `${cluster.namespace}.${log}`;
    const groupId = `${cluster.namespace}-reader`;
    const consumer = new Consumer({ clientId: 'reader', groupId, bootstrapBrokers: services.kafkaBrokers.split(',') });
    try {
      const metadata = await consumer.metadata({ topics: [topic] });
      const found = metadata.topics.get(topic);
      const response = await consumer.fetch({
        node: found?.partitions[0]?.leader as number,
        topics: [
          {
            topicId: found?.id as string,
            partitions: [
              {
                partition: 0,
                currentLeaderEpoch: -1,
                fetchOffset: 0n,
                lastFetchedEpoch: -1,
                logStartOffset: -1n,
                partitionMaxBytes: 1024 * 1024,
              },
            ],
          },
        ],
        maxWaitTime: 500,
      } as never);
      const batches = response.responses[0]?.partitions[0]?.records ?? [];
      return batches.flatMap(batch => batch.records.map(record => JSON.parse(String(record.value))));
    } finally {
      await consumer.close(true);
    }
  }
});
