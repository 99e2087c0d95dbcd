/** A server of one public key, as an identity provider has it. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface KeySet {
  url: string;
  close(): Promise<void>;
}

/** `jwk` is the key as the set names it, with its `kid`. */
export async function startKeySet(jwk: object): Promise<KeySet> {
  const server = createServer((_request, response) => response.end(JSON.stringify({ keys: [jwk] })));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
