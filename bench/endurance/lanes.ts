/**
 * A crowd's connections on bare sockets, one request at a time on each: clients of node:http would take more of the
 * machine than the server. What became of each request is known: answered, lost after it was sent, or never sent.
 */
import { connect, type Socket } from 'node:net';

/** Of a connection, with or without a request: then it is given up. */
const silentMsMax = 15_000;

export interface Answer {
  status: number;
  body: string;
}

export class Lost extends Error {
  override name = 'Lost';
  /** Whether any of it was written: if not, nobody can have taken it. */
  readonly sent: boolean;

  constructor(sent: boolean, why: string) {
    super(why);
    this.sent = sent;
  }
}

class Lane {
  private readonly port: number;
  private socket: Socket | undefined;
  private waiting: PromiseWithResolvers<Answer> | undefined;
  private sent = false;
  private text = '';

  constructor(port: number) {
    this.port = port;
  }

  ask(request: string): Promise<Answer> {
    const waiting = Promise.withResolvers<Answer>();
    this.waiting = waiting;
    this.text = '';
    this.sent = this.socket !== undefined;
    if (this.socket) this.socket.write(request);
    else this.open(request);
    return waiting.promise;
  }

  close(): void {
    this.socket?.destroy();
  }

  private open(request: string): void {
    const socket = connect({ port: this.port, host: '127.0.0.1', noDelay: true });
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.setTimeout(silentMsMax, () => socket.destroy(new Error(`silent for ${silentMsMax} ms`)));
    socket.on('connect', () => {
      this.sent = true;
      socket.write(request);
    });
    socket.on('data', chunk => this.hear(chunk as unknown as string));
    let why = 'the connection was cut';
    socket.on('error', error => {
      why = error.message;
    });
    socket.on('close', () => {
      this.socket = undefined;
      this.waiting?.reject(new Lost(this.sent, why));
      this.waiting = undefined;
    });
  }

  private hear(chunk: string): void {
    this.text += chunk;
    const { text } = this;
    const headEnd = text.indexOf('\r\n\r\n');
    if (headEnd < 0) return;
    const length = /\r\ncontent-length: (\d+)/i.exec(text)?.[1];
    if (length === undefined) throw new Error(`an answer without a length: ${text.slice(0, headEnd)}`);
    const from = headEnd + 4;
    if (text.length < from + Number(length)) return;
    const status = Number(text.slice(9, 12));
    const closes = /\r\nconnection: close/i.test(text.slice(0, headEnd));
    const { waiting } = this;
    this.waiting = undefined;
    if (closes) {
      this.socket?.destroy();
      this.socket = undefined;
    }
    waiting?.resolve({ status, body: text.slice(from) });
  }
}

/** Connections to one server, as many as are needed at once. */
export class Lanes {
  readonly port: number;
  private readonly free: Lane[] = [];
  private readonly all = new Set<Lane>();
  underWay = 0;

  constructor(port: number) {
    this.port = port;
  }

  /** @throws Lost */
  async ask(request: string): Promise<Answer> {
    const lane = this.free.pop() ?? this.more();
    this.underWay++;
    try {
      return await lane.ask(request);
    } finally {
      this.underWay--;
      this.free.push(lane);
    }
  }

  close(): void {
    for (const lane of this.all) lane.close();
  }

  private more(): Lane {
    const lane = new Lane(this.port);
    this.all.add(lane);
    return lane;
  }
}

export const issueRequest = (couponId: string, userId: string, key?: string): string =>
  `POST /coupons/${couponId}/issue HTTP/1.1\r\nHost: 127.0.0.1\r\nX-User-Id: ${userId}\r\n${
    key === undefined ? '' : `Idempotency-Key: ${key}\r\n`
  }Content-Length: 0\r\n\r\n`;

export const getRequest = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`;
