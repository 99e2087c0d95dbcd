/**
 * The client's producer with two differences: produce requests are written by us, into one piece of memory (the
 * client's own takes 2.7 us of CPU a record, most of it for a dozen small buffers), and the append time of the last
 * batch is kept, which the client's `send` does not tell. Who leads, sequence numbers and tries stay the client's.
 */
import {
  type API,
  type Callback,
  type Connection,
  crc32c,
  kGetApi,
  type NumericMap,
  Producer,
  produceV11,
  Writer,
} from '@platformatic/kafka';

export class TimedProducer extends Producer<string, string> {
  /** When the log appended the last batch that was acknowledged, ms since 1970. */
  appendedAt = -1;

  override [kGetApi]<A extends unknown[], R>(name: string, callback: Callback<API<A, R>>): void {
    super[kGetApi]<A, R>(name, (error, api) => {
      callback(error, api && name === 'Produce' ? (this.#noting(api as never) as never) : api);
    });
  }

  #noting(theirs: Produce): Produce {
    const ours = theirs.version === produceV11.api.version ? produce : theirs;
    const noting: Produce = (connection, acks, timeoutMs, messages, options, callback) =>
      ours(connection, acks, timeoutMs, messages, options, (error, response) => {
        const at = response?.responses[0]?.partitionResponses[0]?.logAppendTimeMs;
        if (at !== undefined) this.appendedAt = Number(at);
        callback(error, response);
      });
    return Object.assign(noting, { version: theirs.version });
  }
}

type ProduceResponse = ReturnType<typeof produceV11.parseResponse>;

/** As the client calls its own. */
interface Produce {
  (
    connection: Connection,
    acks: number,
    timeoutMs: number,
    messages: readonly Message[],
    options: Options,
    callback: Callback<ProduceResponse>,
  ): void;
  version?: number;
}

/** All of one request are for the same topic and partition. */
interface Message {
  topic: string;
  partition: number;
  key?: Buffer;
  value: Buffer;
}

interface Options {
  producerId: bigint;
  producerEpoch: number;
  /** The next of each `topic:partition`. */
  sequences: NumericMap;
}

const produce: Produce = (connection, acks, timeoutMs, messages, options, callback) => {
  const { key, version } = produceV11.api;
  const request = () => requestOf(acks, timeoutMs, messages, options);
  connection.send(key, version, request, produceV11.parseResponse, true, true, callback);
};

function requestOf(acks: number, timeoutMs: number, messages: readonly Message[], options: Options): Writer {
  const { topic, partition } = messages[0] as Message;
  const { producerId, producerEpoch, sequences } = options;
  const batch = recordBatch(messages, producerId, producerEpoch, sequences.getWithDefault(`${topic}:${partition}`, 0));
  return Writer.create()
    .appendString(null)
    .appendInt16(acks)
    .appendInt32(timeoutMs)
    .appendArray([topic], w => {
      w.appendString(topic).appendArray([partition], (w, partition) => {
        w.appendInt32(partition)
          .appendUnsignedVarInt(batch.length + 1)
          .append(batch);
      });
    })
    .appendTaggedFields();
}

const headBytes = 61;
const crcAt = 17;
const magic = 2;

/** Records without headers, not compressed. Times are the writer's; the log puts its own in their place. */
export function recordBatch(
  records: readonly { key?: Buffer | undefined; value: Buffer }[],
  producerId: bigint,
  producerEpoch: number,
  sequence: number,
): Buffer {
  let size = headBytes;
  const sizes = records.map(({ key, value }, i) => {
    // Attributes, delta of the time, number of headers: a byte each.
    const bytes = 3 + varintBytes(i) + textBytes(key) + textBytes(value);
    size += varintBytes(bytes) + bytes;
    return bytes;
  });
  const batch = Buffer.allocUnsafe(size);
  const now = BigInt(Date.now());
  batch.writeBigInt64BE(0n, 0);
  batch.writeInt32BE(size - 12, 8);
  batch.writeInt32BE(0, 12);
  batch.writeInt8(magic, 16);
  batch.writeInt16BE(0, 21);
  batch.writeInt32BE(records.length - 1, 23);
  batch.writeBigInt64BE(now, 27);
  batch.writeBigInt64BE(now, 35);
  batch.writeBigInt64BE(producerId, 43);
  batch.writeInt16BE(producerEpoch, 51);
  // After 2^31 - 1 comes 0, which the client's own count does not know.
  batch.writeInt32BE(sequence & 0x7fffffff, 53);
  batch.writeInt32BE(records.length, 57);
  let at = headBytes;
  records.forEach(({ key, value }, i) => {
    at = putVarint(batch, at, sizes[i] as number);
    batch[at++] = 0;
    batch[at++] = 0;
    at = putVarint(batch, at, i);
    at = putText(batch, at, key);
    at = putText(batch, at, value);
    batch[at++] = 0;
  });
  batch.writeUInt32BE(crc32c(batch.subarray(crcAt + 4)), crcAt);
  return batch;
}

/** A number that is not negative is written as twice itself, seven bits a byte, the lowest first. */
function varintBytes(n: number): number {
  let bytes = 1;
  for (let rest = n * 2; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes++;
  return bytes;
}

function putVarint(into: Buffer, at: number, n: number): number {
  let rest = n * 2;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) into[at++] = (rest & 0x7f) | 0x80;
  into[at++] = rest;
  return at;
}

const textBytes = (text: Buffer | undefined): number => (text ? varintBytes(text.length) + text.length : 1);

/** What is not there has the length -1, which is written as 1. */
function putText(into: Buffer, at: number, text: Buffer | undefined): number {
  if (!text) {
    into[at] = 1;
    return at + 1;
  }
  const from = putVarint(into, at, text.length);
  into.set(text, from);
  return from + text.length;
}
