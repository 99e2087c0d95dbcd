/** Connections as a stranger makes them: bytes go out as they are, at any pace, and what comes back is kept as it is. */
import { connect, type Socket } from 'node:net';

export interface Line {
  socket: Socket;
  /** What came so far, Latin-1. */
  readonly text: string;
  /** Resolves when this stands in what came. @throws when the connection ends before. */
  until(enough: (text: string) => boolean): Promise<string>;
  /** Resolves when the connection has ended, whoever ended it. */
  closed: Promise<string>;
}

export async function dial(port: number, bytes: string | Buffer = '', localAddress = '127.0.0.1'): Promise<Line> {
  const socket = connect({ port, host: '127.0.0.1', localAddress }).setEncoding('latin1');
  // What the server does to us is what is looked at: 'close' follows.
  socket.on('error', () => {});
  let text = '';
  socket.on('data', chunk => {
    text += String(chunk);
  });
  const closed = new Promise<string>(resolve => socket.once('close', () => resolve(text)));
  await Promise.race([new Promise<void>(resolve => socket.once('connect', resolve)), closed]);
  if (bytes.length > 0) socket.write(bytes);
  return {
    socket,
    closed,
    get text() {
      return text;
    },
    until: enough =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (enough(text)) resolve(text);
        };
        look();
        socket.on('data', look);
        void closed.then(() => reject(new Error(`the connection ended after: ${text.slice(0, 200)}`)));
      }),
  };
}

/** One byte at a time, for as long as the other side takes them. Answers how to stop. */
export function drip(line: Line, byte: string, everyMs: number): () => void {
  const timer = setInterval(() => {
    if (line.socket.writable) line.socket.write(byte);
  }, everyMs);
  const stop = () => clearInterval(timer);
  void line.closed.then(stop);
  return stop;
}
