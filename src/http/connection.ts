/** What becomes of a connection that brings no HTTP, or what node would answer by itself in a form that is not ours. */
import type { Server, ServerResponse } from 'node:http';
import { BlockList, type Socket, type SocketAddress } from 'node:net';
import type { Host } from '../host.ts';
import { headBytesMax, pipelinedMax, retryAfterS, shutOutMax } from './limits.ts';
import { malformed, type Problem, problem, replyOf } from './problem.ts';
import { Buckets, networkOf } from './rate.ts';

/**
 * Counts by address what no client of ours sends, and no proxy passes on: what cannot be read as HTTP, comes too slowly
 * or too much at once. Each costs a connection, 0.1 ms; an address with too many of them gets none until it has a token
 * again. Its connections are kept a while, unread, then ended: who waits for an answer before asking on, as nearly all
 * do, is slowed down by it. Who does not wait fills the room for them, and what comes beyond ends at once.
 */
export class Faults extends BlockList {
  private readonly buckets: Buckets | undefined;
  private readonly host: Host;
  private readonly shutOutMs: number;
  private readonly kept = new Set<Socket>();

  /** 0 for no limit; ms that a connection is kept. */
  constructor(perSecond: number | undefined, host: Host, shutOutMs: number) {
    super();
    this.buckets = perSecond ? new Buckets(perSecond) : undefined;
    this.host = host;
    this.shutOutMs = shutOutMs;
  }

  note({ remoteAddress = '' }: Socket): void {
    this.buckets?.charge(networkOf(remoteAddress), this.host.elapsed());
  }

  /** Asked by node before it makes anything of a connection: closing it then costs 14 us, by its socket 28. */
  override check(address: SocketAddress | string): boolean {
    if (this.kept.size < shutOutMax) return false;
    return this.isShutOut(typeof address === 'string' ? address : address.address);
  }

  /** Whether this is one that is kept, and nobody else's. */
  keep(socket: Socket): boolean {
    // Without a fault of anybody nobody asks whose it is, which costs 2 us.
    if (!this.buckets?.size || !this.isShutOut(socket.remoteAddress ?? '')) return false;
    this.kept.add(socket);
    destroyIn(this.shutOutMs, socket, this.host);
    // As much is read as the stream holds for who never asks for it.
    socket.on('error', () => {}).on('close', () => this.kept.delete(socket));
    return true;
  }

  endKept(): void {
    for (const socket of this.kept) socket.destroy();
  }

  private isShutOut(address: string): boolean {
    const waitMs = this.buckets?.waitMs(networkOf(address), this.host.elapsed()) ?? 0;
    return waitMs > 0;
  }
}

/** Ends it after so many ms, if it has not ended by then. Node's own bound begins anew with every byte that comes. */
export function destroyIn(ms: number, socket: Socket, host: Host): void {
  const callOff = host.after(ms, () => socket.destroy());
  socket.once('close', callOff);
}

/**
 * An answer is on its way after which the connection ends. Nothing behind it is carried out, since nobody would hear of
 * it, nor read: of one piece node would make two thousand requests, in 40 to 130 ms, before it looks at anything else.
 */
export function willEnd(socket: Socket): void {
  const { parser } = socket as { parser?: { onIncoming(): number } | null };
  // To node's parser 2 says that what follows is no HTTP.
  if (parser) parser.onIncoming = () => 2;
}

type Refuse = (res: ServerResponse, fault: Problem) => void;

/** `take` has the server's connections from now on. Answers how to give one to whoever had them before. */
export function takeInFront(server: Server, take: (socket: Socket) => void): (socket: Socket) => void {
  const takers = server.listeners('connection');
  server.removeAllListeners('connection');
  server.on('connection', take);
  return socket => {
    for (const taker of takers) taker.call(server, socket);
  };
}

/** Stands in front of all that takes the server's connections so far. `refuse` answers and ends the connection. */
export function guardConnections(server: Server, refuse: Refuse, faults: Faults): void {
  // An option of net.Server that http does not pass on.
  (server as { blockList?: BlockList }).blockList = faults;
  const handOver = takeInFront(server, socket => {
    if (!faults.keep(socket)) handOver(socket);
  });
  server.on('checkExpectation', (_req, res) => refuse(res, unmet));
  // With a listener it is ours to end what is kept for a next request, too.
  server.on('timeout', socket => {
    const waits = answerOf(socket) && socket.writableLength === 0;
    if (!waits) socket.destroy();
  });
}

const unmet = malformed('the header Expect must be 100-continue');
export const tooManyPipelined = problem(
  'TOO_MANY_REQUESTS',
  `at most ${pipelinedMax} requests may wait for an answer on one connection`,
  { retryAfterS: retryAfterS.pipelined },
);

/** Counts the requests that wait behind another's answer on their connection, where there are any. */
export class Pipelines {
  private readonly waiting = new WeakMap<Socket, number>();

  /** Of a request whose answer cannot be written yet. False: it is one too many. */
  admit(socket: Socket, res: ServerResponse): boolean {
    const waiting = this.waiting.get(socket) ?? 0;
    if (waiting >= pipelinedMax) return false;
    this.waiting.set(socket, waiting + 1);
    res.once('close', () => this.waiting.set(socket, (this.waiting.get(socket) as number) - 1));
    return true;
  }
}

/** The answer under way on a connection. Node keeps it here, and its own handler of such errors looks at it as well. */
const answerOf = (socket: Socket): ServerResponse | null | undefined =>
  (socket as { _httpMessage?: ServerResponse | null })._httpMessage;

/** A head or a body that did not come in its time. */
export const isLate = (error: { code?: string }): boolean => error.code === 'ERR_HTTP_REQUEST_TIMEOUT';

/**
 * What is no HTTP, or came too slowly or too large: the connection ends after the answer. `endLater` ends one whose
 * client does not: cut at once, with bytes of theirs unread, it would take the answer with it.
 */
export function refuseUnreadable(
  error: Error & { code?: string },
  socket: Socket,
  faults: Faults,
  endLater: (socket: Socket) => void,
): void {
  const late = isLate(error);
  // Browsers open connections in advance, and take what is said on one for the answer to what they ask there later.
  const isSpare = late && socket.bytesRead === 0;
  // Who was answered already closes their half then, in the middle of what they sent: that is the same fault.
  if (!isSpare && socket.writable && error.code !== 'ECONNRESET') faults.note(socket);
  const answer = answerOf(socket);
  if (answer?.req.complete && !answer.headersSent) {
    // Whoever asked before gets the answer to that, not ours; then the connection ends.
    answer.shouldKeepAlive = false;
    return;
  }
  const isGone = !socket.writable || error.code === 'ECONNRESET';
  if (!isGone && answer?.headersSent) {
    // What is written of it may not be on the wire yet. Who takes nothing of it is ended by the timeout above.
    socket.destroySoon();
    return;
  }
  if (isGone || isSpare || (late && socket.bytesWritten > 0)) {
    socket.destroy();
    return;
  }
  const tooLarge = error.code === 'HPE_HEADER_OVERFLOW';
  const of = tooLarge
    ? problem('HEADERS_TOO_LARGE', `the request's line and headers may have at most ${headBytesMax} bytes`)
    : problem('MALFORMED_REQUEST', 'this is not an HTTP request, or it came too slowly');
  const { status, headers, body } = replyOf(of);
  const lines = [`HTTP/1.1 ${status} ${tooLarge ? 'Request Header Fields Too Large' : 'Bad Request'}`];
  for (let i = 0; i < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`);
  lines.push('connection: close', '', '');
  socket.end(Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), body as Buffer]));
  endLater(socket);
}
