/**
 * Ports on loopback. All below 32768: from there on Linux lends ports to clients, and a client that retries against
 * a server which is down was seen to connect to itself and to keep the server from coming back.
 */
import { createServer } from 'node:net';

const PORT_MIN = 17_000;
const PORT_MAX = 32_767;
const TRIES_MAX = 200;

/** Handed out by this process already, though perhaps not yet listened on. */
const taken = new Set<number>();

/** Starts at a random place, so that two runs which choose at the same moment hardly meet. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
    if (taken.has(port) || !(await isFree(port))) continue;
    taken.add(port);
    return port;
  }
  throw new Error(`No free port found between ${PORT_MIN} and ${PORT_MAX} in ${TRIES_MAX} tries: free some.`);
}

export async function assertPortFree(port: number, name: string): Promise<void> {
  if (!(await isFree(port))) {
    throw new Error(
      `Port ${port} for ${name} is taken: stop what listens on 127.0.0.1:${port} or choose another port.`,
    );
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
