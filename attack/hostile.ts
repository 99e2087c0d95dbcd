/**
 * One hostile client in a process of its own, at the lowest priority, sending at most so many requests a second: what
 * it takes of the processors must not be taken for what it takes of the server. It has an address of its own, 127.0.0.2.
 * Arguments: port, behaviour, requests a second, and the port of whom it asks for the API. It says `ready`, and, when it
 * is asked, how much it did; told to `pause` it stands still until a byte comes on its standard input.
 */
import { randomBytes } from 'node:crypto';
import { readSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { constants, setPriority } from 'node:os';
import { Forger, forgeries } from './forged.ts';
import { type OpenApi, requestText, type Shot } from './requests.ts';
import { sampleOf, shots } from './shots.ts';

export const behaviours = {
  'slow-heads': '1,000 connections, each a head that comes byte by byte',
  'slow-bodies': '1,000 connections, each a press of the button whose body comes byte by byte',
  'idle-connections': '5,000 connections from one address that asked once and are kept',
  'huge-heads': 'heads of 15 KiB, and of 20 KiB, which are too large',
  flood: 'the same, by one that waits for no answer before it connects again',
  garbage: 'requests ahead of their answers with garbage behind them',
  forged: 'forged task ids, as tasks and as streams, ahead of their answers',
  fuzz: 'requests by chance and by schema, a connection each',
} as const;
export type Behaviour = keyof typeof behaviours;

const address = '127.0.0.2';
const slowMax = 1_000;
/** Bytes of a slow body: at the usual rate its time is over before it is whole. */
const slowBodyBytes = 500;
const idleMax = 5_000;
/** Connections that it has before anything is measured. */
export const heldMin: { readonly [name in Behaviour]?: number } = {
  'slow-heads': slowMax,
  'slow-bodies': slowMax,
  'idle-connections': idleMax,
};
/**
 * A connection for each request; an address that does so is shut out. So is one of slow requests once their time is over,
 * 10 s for heads and 30 s for bodies: a stretch is to be shorter.
 */
export const isShutOut: Readonly<Record<Behaviour, boolean>> = {
  ...{ 'slow-heads': false, 'slow-bodies': false, 'idle-connections': false, forged: false },
  ...{ 'huge-heads': true, flood: true, garbage: true, fuzz: true },
};
/** Its connections are kept, and it waits for their end. */
export const comesInWaves = (name: Behaviour): boolean => isShutOut[name] && name !== 'flood';
const ticksPerSecond = 50;
/** Connections whose answers are still to come; beyond it nothing is sent, but by who floods. */
const openMax = 200;

export interface Done {
  /** Of its processor, s, at `atMs`. */
  cpuS: number;
  atMs: number;
  /** Requests, or bytes of a slow head or body. */
  sent: number;
  /** Connections that are open now. */
  held: number;
}

const used = (): Pick<Done, 'cpuS' | 'atMs'> => {
  const { user, system } = process.cpuUsage();
  return { cpuS: (user + system) / 1e6, atMs: performance.now() };
};

const done = { sent: 0 };
const held = new Set<Socket>();

function open(port: number): Socket {
  const socket = connect({ port, host: '127.0.0.1', localAddress: address });
  held.add(socket);
  socket.on('error', () => {}).on('close', () => held.delete(socket));
  socket.resume();
  return socket;
}

/** Answers a function that does `n` of it. */
function behaviour(name: Behaviour, port: number): (n: number) => void {
  /** A connection for each. */
  const each =
    (make: () => string, most = openMax) =>
    (n: number) => {
      for (let i = 0; i < n && held.size < most; i++) {
        open(port).end(Buffer.from(make(), 'latin1'));
        done.sent++;
      }
    };
  switch (name) {
    case 'slow-heads':
      return slowly(port, () => 'GET /coupons HTTP/1.1\r\nx-slow: ', 'a', Number.POSITIVE_INFINITY);
    case 'slow-bodies':
      return slowly(port, slowPress, ' ', slowBodyBytes - 1);
    case 'idle-connections':
      return () => {
        for (let i = 0; i < 100 && held.size < idleMax; i++) {
          open(port).write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n');
          done.sent++;
        }
      };
    case 'huge-heads':
      return each(huge);
    case 'flood':
      return each(huge, Number.POSITIVE_INFINITY);
    case 'garbage':
      return each(() => `${'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(8)}\u0001\u0002 garbage\r\n\r\n`);
    case 'forged':
      return forgedFlood(port);
    case 'fuzz': {
      const batch = made;
      return each(() => (batch[done.sent % batch.length] as Shot).bytes);
    }
  }
}

/** Connections that begin so and go on byte by byte, in turn; who has sent `most` ends, and another comes. */
function slowly(port: number, begin: () => string, byte: string, most: number): (n: number) => void {
  const left = new WeakMap<Socket, number>();
  const drip = (socket: Socket | undefined) => {
    if (!socket?.writable) return;
    const after = (left.get(socket) as number) - 1;
    left.set(socket, after);
    if (after > 0) socket.write(byte);
    else socket.end(byte);
  };
  return n => {
    for (let i = 0; i < 50 && held.size < slowMax; i++) {
      const socket = open(port);
      socket.write(begin());
      left.set(socket, most);
    }
    const sockets = [...held];
    for (let i = 0; i < n; i++) drip(sockets[(done.sent + i) % sockets.length]);
    done.sent += n;
  };
}

/** Of another user each time. The whole of it is no JSON: it takes no coupon. */
function slowPress(): string {
  const headers = `host: x\r\nx-user-id: slow-${presses++}\r\ncontent-type: application/json\r\ncontent-length: ${slowBodyBytes}`;
  return `POST /coupons/sale/issue HTTP/1.1\r\n${headers}\r\n\r\n{`;
}
let presses = 0;

const huge = () => requestText('GET', '/healthz', [`x-huge: ${'v'.repeat(done.sent % 2 ? 15_000 : 20_000)}`]);

let made: Shot[] = [];
const operatorsLine = /^POST \/coupons[ ?]|^\w+ \/(admin|coupons\/[^/ ]*\/(stock|close|stats))/;

function forgedFlood(port: number): (n: number) => void {
  const like = () => randomBytes(110).toString('base64url');
  const forger = new Forger([like(), like()], 1, 'the secret of somebody else', 'another log');
  const ids = Array.from({ length: 5_000 }, (_, i) => forger.next(forgeries[i % forgeries.length] as never));
  const requests = ids.map((id, i) => {
    const tail = i % 3 === 0 ? '/events' : '';
    return `GET /tasks/${encodeURIComponent(id.toWellFormed())}${tail} HTTP/1.1\r\nhost: x\r\n\r\n`;
  });
  return n => {
    while (held.size < 8) open(port);
    const sockets = [...held];
    // Ahead of their answers, as many as fit.
    for (let i = 0; i < n; i++) {
      const socket = sockets[(i >> 3) % sockets.length] as Socket;
      if (socket.writableLength > 100_000) continue;
      socket.write(requests[done.sent++ % requests.length] as string);
    }
  };
}

async function main([port, name, perSecond, apiPort]: string[]): Promise<void> {
  if (name === 'fuzz') {
    const openApi = (await (await fetch(`http://127.0.0.1:${apiPort}/openapi.json`)).json()) as OpenApi;
    const known = {
      couponIds: ['nobody-s'],
      newCouponIds: ['nobody-s'],
      taskIds: ['x'],
      userCouponIds: ['nobody-s.1'],
      users: ['Bearer x'],
      nobody: ['Bearer z'],
      admin: 'Bearer y',
    };
    // A stranger is no operator, though without tokens everybody is one: wrk has none.
    made = sampleOf(shots(openApi, known), 1, 3_000).filter(({ bytes }) => !operatorsLine.test(bytes));
  }
  const act = behaviour(name as Behaviour, Number(port));
  // Not before: it would be long in getting ready.
  setPriority(constants.priority.PRIORITY_LOW);
  let due = 0;
  setInterval(() => {
    due += Number(perSecond) / ticksPerSecond;
    const n = Math.floor(due);
    due -= n;
    act(n);
  }, 1_000 / ticksPerSecond);
  process.on('message', question => {
    // Until a byte comes, or its end with that of who writes it: a process that is stopped by a signal would stay for ever.
    if (question === 'pause') readSync(0, Buffer.alloc(1));
    else process.send?.({ ...done, held: held.size, ...used() });
  });
  process.on('disconnect', () => process.exit(0));
  process.send?.('ready');
}

if (import.meta.main) await main(process.argv.slice(2));
