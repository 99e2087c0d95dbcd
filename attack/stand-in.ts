/**
 * A server for the hostile client while honest users are alone with theirs: what it costs to send its requests, of the
 * caches and the memory that all processors share as well, is the same then. Nothing is made of them. It has the lowest
 * priority. Argument: `shut` keeps connections unread a while, so many, and takes none beyond, as a server does that has
 * shut an address out; `open` keeps them and reads. It says its port.
 */
import { type AddressInfo, BlockList, createServer, type Server, type Socket } from 'node:net';
import { constants, setPriority } from 'node:os';
import { backlogMax, shutOutMax, shutOutMsMax } from '../src/http/limits.ts';

const kept = new Set<Socket>();

class Everybody extends BlockList {
  override check(): boolean {
    return kept.size >= shutOutMax;
  }
}

function keep(socket: Socket): void {
  kept.add(socket);
  socket.on('close', () => kept.delete(socket));
  setTimeout(() => socket.destroy(), shutOutMsMax);
}

function main([door]: string[]): void {
  setPriority(constants.priority.PRIORITY_LOW);
  const server = createServer({ allowHalfOpen: door === 'shut' }, socket => {
    socket.on('error', () => {});
    if (door === 'shut') keep(socket);
    else socket.resume();
  });
  if (door === 'shut') (server as Server & { blockList: BlockList }).blockList = new Everybody();
  server.listen({ host: '127.0.0.1', port: 0, backlog: backlogMax }, () =>
    process.send?.((server.address() as AddressInfo).port),
  );
  process.on('disconnect', () => process.exit(0));
}

if (import.meta.main) main(process.argv.slice(2));
