/**
 * Requests that are read and answered on the bare socket, for which node:http takes 12 us of CPU more: presses of the
 * button as nearly all of them come, which is the first thing on their connection, whole in one piece, without a body
 * and with nothing behind; and questions for tasks that nobody was given, however many in a row, which only strangers
 * ask. Everything else is node:http's: the connection is handed over with what was read, and stays there. So every
 * oddity of HTTP is judged in one place.
 */
import { type Server, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Host } from '../host.ts';
import { takeInFront } from './connection.ts';
import { type Press, pressOf, strangersIn } from './heads.ts';
import { keepAliveMs } from './limits.ts';
import type { Reply } from './problem.ts';

export interface BareTools {
  host: Host;
  bounds: {
    /** How often connections are held against the times they may take. */
    checkMs: number;
    /** An answer of which a client takes nothing for this long is given up. */
    unreadMs: number;
  };
  /** Answers by `connection.answer`, once. */
  serve(connection: BareConnection, press: Press): void;
  /** Whether this, as it stands in a path, is surely no task id that was given out; then `stranger` is the answer. */
  isStrange(segment: string): boolean;
  stranger: Reply;
}

/** Questions that one turn of the event loop answers, whoever asks: who has more waits, and others have their turn. */
const questionsPerTurn = 256;

/** Who waits for the next turn, in the order in which they came to it. */
export class Turn {
  left = questionsPerTurn;
  private readonly waiting: (() => void)[] = [];
  private isPlanned = false;

  use(questions: number): void {
    this.left -= questions;
    this.plan();
  }

  wait(goOn: () => void): void {
    this.waiting.push(goOn);
    this.plan();
  }

  private plan(): void {
    if (this.isPlanned) return;
    this.isPlanned = true;
    setImmediate(() => {
      this.isPlanned = false;
      this.left = questionsPerTurn;
      while (this.left > 0 && this.waiting.length > 0) this.waiting.shift()?.();
      if (this.waiting.length > 0) this.plan();
    });
  }
}

/** The connections that have brought nothing else so far. */
export class BareConnections {
  private readonly connections = new Set<BareConnection>();
  private readonly turn = new Turn();
  private readonly tools: BareTools;
  private readonly handOver: (socket: Socket) => void;
  private readonly broken: (socket: Socket) => void;
  private stopChecking: (() => void) | undefined;

  /** Takes the server's connections before it does. */
  constructor(server: Server, tools: BareTools) {
    this.tools = tools;
    this.handOver = takeInFront(server, socket => this.take(socket));
    this.broken = socket => void server.emit('clientError', new Error('half a request'), socket);
  }

  /** Ends those that wait for no answer, as Server.closeIdleConnections does. */
  closeIdle(): void {
    for (const connection of this.connections) if (connection.isIdle) connection.destroy();
  }

  closeAll(): void {
    for (const connection of this.connections) connection.destroy();
  }

  private take(socket: Socket): void {
    const connection = new BareConnection(socket, {
      ...this.tools,
      elapsed: this.tools.host.elapsed,
      ended: () => this.forget(connection),
      handOver: this.handOver,
      broken: this.broken,
      turn: this.turn,
    });
    this.connections.add(connection);
    this.stopChecking ??= this.tools.host.every(this.tools.bounds.checkMs, () => {
      for (const each of this.connections) each.check(this.tools.bounds.unreadMs);
    });
  }

  private forget(connection: BareConnection): void {
    this.connections.delete(connection);
    if (this.connections.size > 0) return;
    this.stopChecking?.();
    this.stopChecking = undefined;
  }
}

interface ConnectionTools extends Pick<BareTools, 'serve' | 'isStrange' | 'stranger'>, Pick<Host, 'elapsed'> {
  turn: Turn;
  ended(): void;
  handOver(socket: Socket): void;
  /** It ended in the middle of a request. */
  broken(socket: Socket): void;
}

/** One press at a time: what comes while an answer is awaited waits for it, and is node:http's then. */
export class BareConnection {
  readonly socket: Socket;
  private readonly tools: ConnectionTools;
  private awaited = false;
  /** For the next turn. */
  private waits = false;
  /** Came while an answer was awaited. */
  private held: Buffer[] = [];
  /** The beginning of a question. */
  private begun: Buffer | undefined;
  /** It was so at the last look already. */
  private isOverdue = false;
  /** When the last answer was written. */
  private answeredAt: number | undefined;
  private readonly listeners: [event: string, listener: (...args: never[]) => void][] = [
    ['data', (chunk: Buffer) => this.receive(chunk)],
    ['end', () => this.finish()],
    ['error', () => this.socket.destroy()],
    ['close', () => this.tools.ended()],
  ];

  constructor(socket: Socket, tools: ConnectionTools) {
    this.socket = socket;
    this.tools = tools;
    for (const [event, listener] of this.listeners) socket.on(event, listener as () => void);
  }

  get isIdle(): boolean {
    return !this.awaited && !this.waits && !this.begun && this.socket.writableLength === 0;
  }

  answer(reply: Reply): void {
    this.awaited = false;
    this.write(reply);
    if (!this.socket.writable) return;
    if (reply.ends) this.socket.end();
    else if (this.held.length > 0) this.handOver(Buffer.concat(this.held));
  }

  private write(reply: Reply, times = 1): void {
    this.answeredAt = this.tools.elapsed();
    // One character is one byte: a body that is not ASCII comes as bytes.
    if (this.socket.writable) this.socket.write(textOf(reply).repeat(times), 'latin1');
  }

  check(unreadMs: number): void {
    const { answeredAt, socket } = this;
    if (this.awaited || this.waits) return;
    // Node:http knows how long one may take that has not asked yet, or has only begun to.
    if (answeredAt === undefined || this.isOverdue) this.handOver(this.begun);
    // A read may end anywhere in a flood of questions, and node:http takes ten times as long over a full one.
    else if (this.begun) this.isOverdue = true;
    else if (this.tools.elapsed() - answeredAt > (socket.writableLength > 0 ? unreadMs : keepAliveMs)) socket.destroy();
  }

  destroy(): void {
    this.socket.destroy();
  }

  private receive(chunk: Buffer): void {
    // Behind an answer that ends the connection nothing is carried out: nobody would hear of it.
    if (!this.socket.writable) return;
    if (this.awaited) {
      this.held.push(chunk);
      this.socket.pause();
      return;
    }
    const bytes = this.begun ? Buffer.concat([this.begun, chunk]) : chunk;
    this.begun = undefined;
    // Who leaves answers unread is node:http's as well: it knows when to read no more of their requests.
    if (this.socket.writableLength > 0) this.handOver(bytes);
    else if (!this.press(bytes)) this.refuseStrangers(bytes);
  }

  private press(bytes: Buffer): boolean {
    const press = pressOf(bytes);
    if (!press) return false;
    this.awaited = true;
    this.tools.serve(this, press);
    return true;
  }

  private refuseStrangers(bytes: Buffer): void {
    const { turn, isStrange, stranger } = this.tools;
    const { count, end, goesOn } = strangersIn(bytes, isStrange, turn.left);
    if (count > 0) {
      this.isOverdue = false;
      turn.use(count);
      this.write(stranger, count);
    }
    const rest = bytes.subarray(end);
    if (goesOn === 'more') this.waitWith(rest);
    // A copy: the piece that it is of may be much larger.
    else if (goesOn === 'begun') this.begun = Buffer.from(rest);
    // Without a question in front it is known to be no press.
    else if (rest.length > 0 && !(count > 0 && this.press(rest))) this.handOver(rest);
  }

  private waitWith(bytes: Buffer): void {
    this.waits = true;
    this.socket.pause();
    this.tools.turn.wait(() => {
      this.waits = false;
      if (!this.socket.writable) return;
      this.socket.resume();
      this.refuseStrangers(bytes);
    });
  }

  /** As node:http has it: who closes their half waits for nothing more, and half a question is a fault. */
  private finish(): void {
    if (this.begun) this.tools.broken(this.socket);
    else this.socket.end();
    this.begun = undefined;
    this.isOverdue = false;
  }

  private handOver(unread?: Buffer): void {
    const { socket, tools } = this;
    for (const [event, listener] of this.listeners) socket.off(event, listener as () => void);
    tools.ended();
    tools.handOver(socket);
    if (unread) socket.unshift(unread);
    socket.resume();
  }
}

const keptAlive = `connection: keep-alive\r\nkeep-alive: timeout=${Math.floor(keepAliveMs / 1000)}\r\n`;

let dated = { second: 0, text: '' };

function dateOf(ms: number): string {
  const second = Math.floor(ms / 1000);
  if (second !== dated.second) dated = { second, text: new Date(ms).toUTCString() };
  return dated.text;
}

function textOf({ status, headers, body, ends }: Reply): string {
  let head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n`;
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  const text = typeof body === 'string' ? body : body.toString('latin1');
  return `${head}date: ${dateOf(Date.now())}\r\n${ends ? '' : keptAlive}\r\n${text}`;
}
