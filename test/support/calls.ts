/** Calls of the tests: JSON in and out, streams event by event, and bytes that no client would send. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { type SseEvent, SseParser } from '../../src/client/sse.ts';

export interface Answered {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it asked for.
  body: any;
}

export interface CallOptions {
  headers?: Record<string, string>;
  /** Sent as JSON; a string is sent as it is. */
  body?: unknown;
}

/** `what` is `POST /coupons`. */
export async function call(url: string, what: string, { headers = {}, body }: CallOptions = {}): Promise<Answered> {
  const [method, path] = what.split(' ') as [string, string];
  const init: RequestInit = { method, headers };
  if (body !== undefined) {
    init.body = typeof body === 'string' ? body : JSON.stringify(body);
    init.headers = { 'content-type': 'application/json', ...headers };
  }
  const answer = await fetch(url + path, init);
  const text = await answer.text();
  const isJson = answer.headers.get('content-type')?.includes('json') ?? false;
  return { status: answer.status, headers: answer.headers, body: isJson && text !== '' ? JSON.parse(text) : text };
}

/** Holds an answer against the one form of all errors. */
export function assertProblem({ status, headers, body }: Answered, wanted: string): void {
  assert.equal(`${status} ${body.code}`, wanted, JSON.stringify(body));
  assert.equal(headers.get('content-type'), 'application/problem+json');
  assert.equal(body.status, status);
  for (const member of ['type', 'title', 'detail']) assert.equal(typeof body[member], 'string', member);
}

export interface Stream {
  status: number;
  headers: Headers;
  /** The next event; undefined when the stream has ended. */
  next(): Promise<SseEvent | undefined>;
  retryMs(): number | undefined;
  close(): Promise<void>;
}

export async function openStream(url: string, headers: Record<string, string> = {}): Promise<Stream> {
  const answer = await fetch(url, { headers });
  const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
  const parser = new SseParser();
  const decoder = new TextDecoder();
  const events: SseEvent[] = [];
  return {
    status: answer.status,
    headers: answer.headers,
    async next() {
      while (events.length === 0) {
        const { done, value } = await reader.read();
        if (done) return undefined;
        events.push(...parser.push(decoder.decode(value, { stream: true })));
      }
      return events.shift();
    },
    retryMs: () => parser.retryMs,
    close: () => reader.cancel(),
  };
}

/** Everything that comes back for these bytes until the server ends the connection, or until `enough` says so. */
export function raw(
  port: number,
  bytes: string | Buffer,
  enough: (text: string) => boolean = () => false,
): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string | Buffer) => {
      text += String(chunk);
      if (enough(text)) socket.destroy();
    });
    socket.on('error', error => (text === '' ? reject(error) : resolve(text)));
    socket.on('close', () => resolve(text));
  });
}

/** Asks again, a turn later, until it is so. The runner's own time limit ends what never becomes so. */
export async function until<T>(ask: () => T | Promise<T>, isSo: (answer: T) => boolean): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (isSo(answer)) return answer;
    await new Promise(resolve => setImmediate(resolve));
  }
}
