/** The rules that an operator is given against a flood of connections (examples/firewall.nft). */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { firewall, noFirewall } from '../../attack/firewall.ts';
import { until } from '../support/calls.ts';

const burst = 500;
/** Beyond the burst. The rate lets a hundred a second in, when the kernel asks again: after 1 s, 2 more, 4 more. */
const beyond = 600;

test('an address gets so many connections at once, another one its own, and so with IPv6', async t => {
  const why = await noFirewall(line => t.diagnostic(line));
  if (why !== undefined) return t.skip(why);
  const has6 = Object.values(networkInterfaces()).some(of => of?.some(({ address }) => address === '::1'));
  const server = createServer().listen({ host: has6 ? '::' : '127.0.0.1', port: 0, backlog: 4_096 });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const sockets: Socket[] = [];
  const open = (n: number, host: string, localAddress?: string): Socket[] => {
    const opened = Array.from({ length: n }, () => connect({ port, host, localAddress }).on('error', () => {}));
    sockets.push(...opened);
    return opened;
  };
  const waiting = (of: readonly Socket[]) => of.filter(socket => socket.connecting).length;
  const letIn = (of: readonly Socket[]) =>
    until(
      () => waiting(of),
      n => n === 0,
    );
  try {
    await letIn(open(burst + beyond, '127.0.0.1', '127.0.0.2'));
    using _rules = firewall([port]);
    const floods = [open(burst + beyond, '127.0.0.1', '127.0.0.2'), ...(has6 ? [open(burst + beyond, '::1')] : [])];
    for (const flood of floods)
      await until(
        () => waiting(flood),
        n => n <= beyond,
      );
    await letIn(open(burst, '127.0.0.1', '127.0.0.3'));
    for (const flood of floods) assert.ok(waiting(flood) > 0);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
});
