/**
 * A server for the hostile client while honest users are alone with theirs: what it costs to send its requests, of the
 * caches and the memory that all processors share as well, is the same then. Nothing is made of them. It has the lowest
 * priority. Argument: `shut` keeps connections unread a while, so many, and takes none beyond, as a server does that has
 * shut an address out; `open` keeps them and reads. It says its port.
 */
import { type AddressInfo, type BlockList, createServer, type Server } from 'node:net';
import { constants, setPriority } from 'node:os';
import { createHost } from '../src/host.ts';
import { Faults } from '../src/http/connection.ts';
import { backlogMax, shutOutMsMax } from '../src/http/limits.ts';

function main([door]: string[]): void {
  setPriority(constants.priority.PRIORITY_LOW);
  const isShut = door === 'shut';
  const faults = new Faults(isShut ? 1 : 0, createHost(), shutOutMsMax);
  const server = createServer({ allowHalfOpen: isShut }, socket => {
    faults.note(socket);
    if (!faults.keep(socket)) socket.on('error', () => {}).resume();
  });
  (server as Server & { blockList: BlockList }).blockList = faults;
  server.listen({ host: '127.0.0.1', port: 0, backlog: backlogMax }, () =>
    process.send?.((server.address() as AddressInfo).port),
  );
  process.on('disconnect', () => process.exit(0));
}

if (import.meta.main) main(process.argv.slice(2));
