/**
 * Streams of one task each. They are served in front of fastify, and after the head each event is one write of
 * prepared text: a crowd that is told at once is told in a few hundred ms. One wheel pings them all.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { CouponId } from '../coupon.ts';
import type { Host } from '../host.ts';
import type { Hub, Watching } from '../hub.ts';
import { pingMs, streamBufferBytesMax, streamRetryMsMax, streamRetryMsMin } from '../limits.ts';
import type { Metrics } from '../metrics.ts';
import type { Status } from '../outcome.ts';
import type { Sealer } from '../task.ts';
import { addressOf, askedOf } from './asked.ts';
import { retryAfterS } from './limits.ts';
import { type NotOffered, notOffered, problem, type Reply, replyOf, unavailable } from './problem.ts';
import { unescaped } from './query.ts';
import { networkOf } from './rate.ts';
import type { Replies, Writer } from './replies.ts';
import { openTask, taskJson, unknownTask } from './tasks.ts';

export interface StreamTools {
  hub: Hub;
  sealer: Sealer;
  partitions: number;
  host: Host;
  metrics: Metrics;
  replies: Replies;
  notOffered?: NotOffered;
  /** How many may be open. An IPv6 address is one of its /64. */
  bounds: { streams: number; streamsPerAddress: number };
}

/** The wheel turns once a second, so that pings are spread over their period. */
const spokeMs = 1_000;
const spokes = Math.max(1, Math.round(pingMs / spokeMs));

const streamHead = [
  ...['content-type', 'text/event-stream; charset=utf-8', 'cache-control', 'no-store'],
  ...['x-accel-buffering', 'no'],
];

const refusals = {
  unknown: replyOf(unknownTask),
  unavailable: replyOf(unavailable),
  form: replyOf(problem('NOT_ACCEPTABLE', 'this is a text/event-stream')),
  full: replyOf(
    problem('UNAVAILABLE', 'as many streams as this server holds are open', { retryAfterS: retryAfterS.streams }),
  ),
  fullForOne: replyOf(
    problem('TOO_MANY_REQUESTS', 'as many streams as one address may have are open', {
      retryAfterS: retryAfterS.streams,
    }),
  ),
};

interface Address {
  name: string;
  streams: number;
}

export class Streams {
  private readonly tools: StreamTools;
  private readonly wheel: Set<Stream>[] = Array.from({ length: spokes }, () => new Set());
  private readonly addresses = new Map<string, Address>();
  private readonly none: Reply | undefined;
  private timer: NodeJS.Timeout | undefined;
  private spoke = 0;
  open = 0;

  constructor(tools: StreamTools) {
    this.tools = tools;
    const why = tools.notOffered?.events;
    this.none = why === undefined ? undefined : replyOf(notOffered(why));
  }

  /** `taskText` is what stands in the path. */
  serve(req: IncomingMessage, res: ServerResponse, taskText: string) {
    const { replies: out } = this.tools;
    const taskId = unescaped(taskText) ?? '';
    const task = openTask(taskId, this.tools);
    const { accept, lastEventId } = askedOf(req.rawHeaders);
    if ('code' in task) return out.send(res, task === unknownTask ? refusals.unknown : refusals.unavailable);
    if (this.none) return out.send(res, this.none);
    if (!accepts(accept)) return out.send(res, refusals.form);
    if (req.method === 'HEAD') return out.send(res, { status: 200, headers: streamHead, body: '' });
    if (this.open >= this.tools.bounds.streams) return out.send(res, refusals.full);
    const address = this.admit(networkOf(addressOf(res.req)));
    if (!address) return out.send(res, refusals.fullForOne);
    const stream = new Stream(this, res, taskId, task.couponId, seenOf(lastEventId), this.open % spokes, address);
    this.open++;
    (this.wheel[stream.spoke] as Set<Stream>).add(stream);
    this.timer ??= setInterval(() => this.turn(), spokeMs);
    stream.begin(this.retryMs());
    stream.leave = this.tools.hub.watch(task, stream);
    this.later(stream);
  }

  later(stream: Stream): void {
    this.tools.replies.enqueue(stream);
  }

  gone(stream: Stream): void {
    this.open--;
    (this.wheel[stream.spoke] as Set<Stream>).delete(stream);
    if (--stream.address.streams === 0) this.addresses.delete(stream.address.name);
    if (this.open > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  dropped(): void {
    this.tools.metrics.count('streams_dropped', 1);
  }

  /** Ends all of them, so that their clients go on elsewhere. */
  stop(): void {
    for (const streams of this.wheel) for (const stream of streams) stream.end();
  }

  private admit(name: string): Address | undefined {
    const address = this.addresses.get(name) ?? { name, streams: 0 };
    if (address.streams >= this.tools.bounds.streamsPerAddress) return undefined;
    this.addresses.set(name, address);
    address.streams++;
    return address;
  }

  /** Spread at random, so that those who lost their server do not come back all at once. */
  private retryMs(): number {
    const [a, b] = this.tools.host.randomBytes(2) as unknown as [number, number];
    return streamRetryMsMin + Math.floor(((a * 256 + b) / 65_536) * (streamRetryMsMax - streamRetryMsMin));
  }

  private turn(): void {
    this.spoke = (this.spoke + 1) % spokes;
    for (const stream of this.wheel[this.spoke] as Set<Stream>) stream.ping();
  }
}

/** How far a client was told: `<rank of the state>` and, while accepted, `-<ahead>`. It is the event's id. */
interface Seen {
  rank: number;
  ahead: number;
}

const ranks = { accepted: 0, reserved: 1, set_aside: 2, done: 3 } as const satisfies Record<Status['state'], number>;

/** A `Last-Event-ID` that is none of ours is as good as none. */
function seenOf(lastEventId: string | undefined): Seen {
  const found = /^([0-3])(?:-([0-9]{1,15}))?$/.exec(lastEventId ?? '');
  if (!found) return { rank: -1, ahead: Number.POSITIVE_INFINITY };
  return { rank: Number(found[1]), ahead: found[2] === undefined ? Number.POSITIVE_INFINITY : Number(found[2]) };
}

const accepts = (accept: string | undefined): boolean =>
  accept === undefined || /(^|[\s,])(\*\/\*|text\/\*|text\/event-stream)($|[\s,;])/i.test(accept);

class Stream implements Watching, Writer {
  leave: (() => void) | undefined;
  readonly spoke: number;
  readonly address: Address;
  private readonly streams: Streams;
  private readonly res: ServerResponse;
  private readonly taskId: string;
  private readonly couponId: CouponId;
  private rank: number;
  private ahead: number;
  /** What the next write takes along. */
  private text = '';
  private ended = false;
  private isGone = false;
  private readonly chunked: boolean;

  constructor(
    streams: Streams,
    res: ServerResponse,
    taskId: string,
    couponId: CouponId,
    seen: Seen,
    spoke: number,
    address: Address,
  ) {
    this.streams = streams;
    this.res = res;
    this.taskId = taskId;
    this.couponId = couponId;
    this.rank = seen.rank;
    this.ahead = seen.ahead;
    this.spoke = spoke;
    this.address = address;
    this.chunked = res.req.httpVersionMinor > 0;
  }

  begin(retryMs: number): void {
    const { res } = this;
    res.on('close', () => this.close());
    res.writeHead(200, streamHead);
    // What was asked is not needed any more, and there may be many of us.
    res.req.rawHeaders = [];
    this.put(`retry: ${retryMs}\n\n`);
  }

  tell(status: Status, ahead: number | undefined): void {
    if (this.ended) return;
    const rank = ranks[status.state];
    if (status.state === 'done') {
      const json = JSON.stringify(taskJson(this.taskId, this.couponId, status, undefined));
      this.put(`event: outcome\nid: ${rank}\ndata: ${json}\n\n`);
      this.end();
      return;
    }
    const isNew = rank > this.rank || (rank === this.rank && ahead !== undefined && ahead < this.ahead);
    if (!isNew) return;
    this.rank = rank;
    this.ahead = ahead ?? this.ahead;
    const place = ahead === undefined ? '' : `,"ahead":${ahead}`;
    const id = ahead === undefined ? rank : `${rank}-${ahead}`;
    this.put(`event: progress\nid: ${id}\ndata: {"state":"${status.state}"${place}}\n\n`);
    this.streams.later(this);
  }

  ping(): void {
    this.put(':\n\n');
    this.write();
  }

  /** Ends the stream after what was told. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.streams.later(this);
  }

  /** Frames are made by hand, so that an event is one write: node's own writes four pieces. */
  write(): void {
    const { res, text } = this;
    if (this.isGone) return;
    this.text = '';
    if (!res.headersSent || res.writableEnded) return;
    res.chunkedEncoding = false;
    if (this.ended) {
      res.end(this.chunked ? `${text}0\r\n\r\n` : text, 'latin1');
      this.close();
      return;
    }
    if (text === '') return;
    res.write(text, 'latin1');
    if (res.writableLength <= streamBufferBytesMax) return;
    // It does not read: it is dropped, not waited for.
    this.streams.dropped();
    res.destroy();
    this.close();
  }

  /** Everything that we send is ASCII. */
  private put(text: string): void {
    this.text += this.chunked ? `${text.length.toString(16)}\r\n${text}\r\n` : text;
  }

  private close(): void {
    if (this.isGone) return;
    this.isGone = true;
    this.leave?.();
    this.streams.gone(this);
  }
}
