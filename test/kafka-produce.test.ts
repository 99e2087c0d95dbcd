import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRecordsBatch, NumericMap } from '@platformatic/kafka';
import { recordBatch } from '../src/kafka/produce.ts';

test('Kafka: a batch of records is written as the client writes it', () => {
  const texts = ['', 'a', 'é'.repeat(40), 'x'.repeat(63), 'x'.repeat(64), 'x'.repeat(8_191), 'x'.repeat(1_100_000)];
  for (const count of [1, 2, 64, 65, 500]) {
    const records = Array.from({ length: count }, (_, i) => {
      const key = i % 3 === 0 ? undefined : Buffer.from(`k${i}`);
      return { topic: 't', partition: 2, key, value: Buffer.from(texts[count > 7 ? i % 6 : i + 5] as string) };
    });
    const ours = recordBatch(records, 12_345_678_901n, 7, 2_000_000_000);
    const sequences = new NumericMap([['t:2', 2_000_000_000]]);
    const options = { producerId: 12_345_678_901n, producerEpoch: 7, sequences, compression: 'none' } as never;
    const timestamp = ours.readBigInt64BE(27);
    const theirs = createRecordsBatch(records.map(r => ({ ...r, timestamp })) as never, options);
    assert.ok(ours.equals(theirs.buffer), `${count} records`);
  }
});
