/**
 * Presses of the button as nearly all of them come: the first thing on their connection or after other presses, whole in
 * one piece, without a body and with nothing behind. These are read and answered on the bare socket, for which node:http
 * takes 12 us of CPU more. Everything else is node:http's: the connection is handed over with what was read, and stays
 * there. So nothing is refused here, and every oddity of HTTP is judged in one place.
 */
import { type Server, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Host } from '../host.ts';
import { type Asked, askedOf } from './asked.ts';
import { keepAliveMs, pressBytesMax } from './limits.ts';
import type { Origin } from './origin.ts';
import type { Reply } from './problem.ts';

/** What is asked, and for which coupon. */
export interface Press {
  couponId: string;
  asked: Asked;
  from: Origin;
}

export interface PressesTools {
  host: Host;
  bounds: {
    /** How often connections are held against the times they may take. */
    checkMs: number;
    /** An answer of which a client takes nothing for this long is given up. */
    unreadMs: number;
  };
  /** Answers by `connection.answer`, once. */
  serve(connection: PressConnection, press: Press): void;
}

/** The connections that have brought nothing but presses so far. */
export class Presses {
  private readonly connections = new Set<PressConnection>();
  private readonly tools: PressesTools;
  private readonly handOver: (socket: Socket) => void;
  private stopChecking: (() => void) | undefined;

  /** Takes the server's connections before it does. */
  constructor(server: Server, tools: PressesTools) {
    this.tools = tools;
    const listeners = server.listeners('connection');
    this.handOver = socket => {
      for (const listener of listeners) listener.call(server, socket);
    };
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) => this.take(socket));
  }

  /** Ends those that wait for no answer, as Server.closeIdleConnections does. */
  closeIdle(): void {
    for (const connection of this.connections) if (connection.isIdle) connection.destroy();
  }

  closeAll(): void {
    for (const connection of this.connections) connection.destroy();
  }

  private take(socket: Socket): void {
    const connection = new PressConnection(socket, {
      elapsed: this.tools.host.elapsed,
      serve: this.tools.serve,
      ended: () => this.forget(connection),
      handOver: this.handOver,
    });
    this.connections.add(connection);
    this.stopChecking ??= this.tools.host.every(this.tools.bounds.checkMs, () => {
      for (const each of this.connections) each.check(this.tools.bounds.unreadMs);
    });
  }

  private forget(connection: PressConnection): void {
    this.connections.delete(connection);
    if (this.connections.size > 0) return;
    this.stopChecking?.();
    this.stopChecking = undefined;
  }
}

interface ConnectionTools extends Pick<PressesTools, 'serve'>, Pick<Host, 'elapsed'> {
  ended(): void;
  handOver(socket: Socket): void;
}

/** One at a time: what comes while an answer is awaited waits for it, and is node:http's then. */
export class PressConnection {
  readonly socket: Socket;
  private readonly tools: ConnectionTools;
  private awaited = false;
  /** Came while an answer was awaited. */
  private held: Buffer[] = [];
  /** When the last answer was written. */
  private answeredAt: number | undefined;
  private readonly listeners: [event: string, listener: (...args: never[]) => void][] = [
    ['data', (chunk: Buffer) => this.receive(chunk)],
    // As node:http has it: who closes their half waits for nothing more.
    ['end', () => this.socket.end()],
    ['error', () => this.socket.destroy()],
    ['close', () => this.tools.ended()],
  ];

  constructor(socket: Socket, tools: ConnectionTools) {
    this.socket = socket;
    this.tools = tools;
    for (const [event, listener] of this.listeners) socket.on(event, listener as () => void);
  }

  get isIdle(): boolean {
    return !this.awaited && this.socket.writableLength === 0;
  }

  answer({ status, headers, body }: Reply): void {
    const { socket } = this;
    this.awaited = false;
    this.answeredAt = this.tools.elapsed();
    if (!socket.writable) return;
    let head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n`;
    let closes = false;
    for (let i = 0; i < headers.length; i += 2) {
      if (headers[i] === 'connection') closes = true;
      head += `${headers[i]}: ${headers[i + 1]}\r\n`;
    }
    const end = closes ? '' : keptAlive;
    const text = typeof body === 'string' ? body : body.toString('latin1');
    // One character is one byte: a body that is not ASCII comes as bytes.
    socket.write(`${head}date: ${dateOf(Date.now())}\r\n${end}\r\n${text}`, 'latin1');
    if (closes) socket.end();
    else if (this.held.length > 0) this.handOver(Buffer.concat(this.held));
  }

  check(unreadMs: number): void {
    const { awaited, answeredAt, socket } = this;
    if (awaited) return;
    const msMax = socket.writableLength > 0 ? unreadMs : keepAliveMs;
    // Node:http knows how long one may take that has not asked yet.
    if (answeredAt === undefined) this.handOver();
    else if (this.tools.elapsed() - answeredAt > msMax) socket.destroy();
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
    // Who leaves answers unread is node:http's as well: it knows when to read no more of their requests.
    const press = this.socket.writableLength === 0 ? pressOf(chunk) : undefined;
    this.awaited = press !== undefined;
    if (press) this.tools.serve(this, press);
    else this.handOver(chunk);
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

const before = 'POST /coupons/';
const shape =
  /^POST \/coupons\/[a-z0-9-]{1,64}\/issue HTTP\/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n)+\r\n$/;

/** Undefined for all that is not exactly the head of one press which says nothing of how HTTP goes on. */
export function pressOf(bytes: Buffer): Press | undefined {
  if (bytes.length > pressBytesMax) return undefined;
  const text = bytes.toString('latin1');
  if (!shape.test(text)) return undefined;
  const headers: string[] = [];
  const from: Origin = { method: 'POST', host: undefined, origin: undefined, site: undefined };
  let [hosts, lengths] = [0, 0];
  for (let at = text.indexOf('\r\n') + 2; at < text.length - 2; ) {
    const colon = text.indexOf(':', at);
    const end = text.indexOf('\r\n', colon);
    const name = text.slice(at, colon);
    // From the bytes: a piece of the text would keep all of it in memory, wherever a user's id is remembered.
    const value = bytes.toString('latin1', colon + (text[colon + 1] === ' ' ? 2 : 1), end).trim();
    switch (name.length) {
      case 4:
        if (name.toLowerCase() !== 'host') break;
        from.host = value;
        hosts++;
        break;
      case 6:
      case 7:
      case 10:
      case 16:
      case 17:
        if (decides(name.toLowerCase(), value)) return undefined;
        if (name.toLowerCase() !== 'origin') break;
        if (from.origin !== undefined) return undefined;
        from.origin = value;
        break;
      case 14:
        if (name.toLowerCase() === 'sec-fetch-site') {
          if (from.site !== undefined) return undefined;
          from.site = value;
        }
        if (name.toLowerCase() !== 'content-length') break;
        if (value !== '0' || ++lengths > 1) return undefined;
    }
    headers.push(name, value);
    at = end + 2;
  }
  if (hosts !== 1) return undefined;
  return { couponId: text.slice(before.length, text.indexOf('/', before.length)), asked: askedOf(headers), from };
}

/** Whether the header says more of the connection than that it stays. */
function decides(name: string, value: string): boolean {
  switch (name) {
    case 'connection':
      return value.toLowerCase() !== 'keep-alive';
    case 'expect':
    case 'upgrade':
    case 'proxy-connection':
    case 'transfer-encoding':
      return true;
    default:
      return false;
  }
}
