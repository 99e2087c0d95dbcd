/**
 * A server for the hostile client while honest users are alone with theirs: what it costs to send its requests, of the
 * caches and the memory that all processors share as well, is the same then. Nothing is made of them. It has the lowest
 * priority. Argument: `shut` takes no connection, as a server does that has shut an address out; `open` keeps them and
 * reads. It says its port.
 */
import { type AddressInfo, BlockList, createServer, type Server } from 'node:net';
import { constants, setPriority } from 'node:os';
import { backlogMax } from '../src/http/limits.ts';

class Everybody extends BlockList {
  override check(): boolean {
    return true;
  }
}

function main([door]: string[]): void {
  setPriority(constants.priority.PRIORITY_LOW);
  const server = createServer(socket => void socket.on('error', () => {}).resume());
  if (door === 'shut') (server as Server & { blockList: BlockList }).blockList = new Everybody();
  server.listen({ host: '127.0.0.1', port: 0, backlog: backlogMax }, () =>
    process.send?.((server.address() as AddressInfo).port),
  );
  process.on('disconnect', () => process.exit(0));
}

if (import.meta.main) main(process.argv.slice(2));
