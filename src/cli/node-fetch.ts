/**
 * A fetch for crowds: `node:http` with kept connections, which costs a third of the global fetch. Requests and
 * streams have a pool each; beyond its size they wait their turn, first come first served.
 */
import http from 'node:http';
import https from 'node:https';
import type { ChunkReader, FetchAnswer, FetchInit, FetchLike } from '../client/http.ts';

export interface NodeFetch {
  fetch: FetchLike;
  /** Streams that are open or wait for a free connection, now and at most. */
  streams(): { now: number; max: number };
  close(): void;
}

export function createNodeFetch(
  baseUrl: string,
  { requestsMax, streamsMax }: { requestsMax: number; streamsMax: number },
): NodeFetch {
  const { Agent, request } = baseUrl.startsWith('https:') ? https : http;
  const requests = new Agent({ keepAlive: true, maxSockets: requestsMax, scheduling: 'lifo' });
  const streams = new Agent({ keepAlive: true, maxSockets: streamsMax, scheduling: 'lifo' });
  let streamsNow = 0;
  let streamsSeen = 0;

  const fetch: FetchLike = (url, init) =>
    new Promise<FetchAnswer>((resolve, reject) => {
      if (init.signal.aborted) {
        reject(init.signal.reason);
        return;
      }
      const isStream = init.headers.accept === 'text/event-stream';
      const outgoing = request(url, {
        method: init.method,
        headers: headersOf(init),
        agent: isStream ? streams : requests,
      });
      const onAbort = () => outgoing.destroy(abortError(init.signal.reason));
      init.signal.addEventListener('abort', onAbort);
      outgoing.once('response', incoming => {
        // From here on the connection may belong to another request.
        incoming.once('end', () => init.signal.removeEventListener('abort', onAbort));
        resolve(answerOf(incoming));
      });
      outgoing.once('error', reject);
      outgoing.once('close', () => {
        init.signal.removeEventListener('abort', onAbort);
        if (isStream) streamsNow--;
      });
      if (isStream) streamsSeen = Math.max(streamsSeen, ++streamsNow);
      outgoing.end(init.body);
    });

  return {
    fetch,
    streams: () => ({ now: streamsNow, max: streamsSeen }),
    close() {
      requests.destroy();
      streams.destroy();
    },
  };
}

function headersOf({ body, headers, method }: FetchInit): Record<string, string> {
  if (method === 'GET') return headers;
  return { ...headers, 'content-length': String(body === undefined ? 0 : Buffer.byteLength(body)) };
}

const abortError = (reason: unknown) => (reason instanceof Error ? reason : new Error('aborted'));

const cut = () => new Error('the connection was cut');

function answerOf(incoming: http.IncomingMessage): FetchAnswer {
  return {
    status: incoming.statusCode ?? 0,
    headers: {
      get(name) {
        const value = incoming.headers[name];
        return value === undefined ? null : String(value);
      },
    },
    text: () =>
      new Promise((resolve, reject) => {
        let text = '';
        let ended = false;
        incoming.setEncoding('utf8');
        incoming.on('data', chunk => {
          text += chunk;
        });
        incoming.once('end', () => {
          ended = true;
          resolve(text);
        });
        incoming.once('error', reject);
        incoming.once('close', () => {
          if (!ended) reject(cut());
        });
      }),
    body: { getReader: () => readerOf(incoming) },
  };
}

/** One read at a time, as the client does. Reading is paced by the client: nothing piles up but one chunk. */
function readerOf(incoming: http.IncomingMessage): ChunkReader {
  let waiting: PromiseWithResolvers<void> | undefined;
  let ended = false;
  let failed: Error | undefined;
  const wake = () => {
    waiting?.resolve();
    waiting = undefined;
  };
  incoming.on('readable', wake);
  incoming.once('end', () => {
    ended = true;
    wake();
  });
  incoming.once('error', error => {
    failed = error;
    wake();
  });
  incoming.once('close', () => {
    if (!ended) failed ??= cut();
    wake();
  });
  return {
    async read() {
      for (;;) {
        const chunk: Uint8Array | null = incoming.read();
        if (chunk !== null) return { done: false, value: chunk };
        if (ended) return { done: true };
        if (failed) throw failed;
        waiting = Promise.withResolvers<void>();
        await waiting.promise;
      }
    },
    async cancel() {
      incoming.destroy();
    },
  };
}
