/** A server of public keys, as an identity provider has it. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface KeySet {
  url: string;
  /** How often it was asked. */
  readonly asked: number;
  /** What it answers from now on: keys, an error, or nothing at all. */
  serve(what: readonly object[] | 'error' | 'silence'): void;
  close(): Promise<void>;
}

/** `jwk` is the key as the set names it, with its `kid`. */
export async function startKeySet(jwk: object): Promise<KeySet> {
  let asked = 0;
  let served: Parameters<KeySet['serve']>[0] = [jwk];
  const server = createServer((_request, response) => {
    asked++;
    if (served === 'silence') return;
    if (served === 'error') response.statusCode = 500;
    response.end(JSON.stringify({ keys: served }));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`,
    get asked() {
      return asked;
    },
    serve(what) {
      served = what;
    },
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
