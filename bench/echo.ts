/**
 * The yardstick: what bare `node:http` does on this machine for the same load. POST, the body is read and parsed, a
 * small JSON answer. Answers are deferred to one `setImmediate` a turn: written at once they cost 1.5 times as much,
 * and a yardstick that does so flatters whatever is held against it.
 */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

let waiting: ServerResponse[] = [];

function flush(): void {
  const responses = waiting;
  waiting = [];
  for (const res of responses) {
    const answer = JSON.stringify({ ok: true });
    res.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length });
    res.end(answer);
  }
}

const server = createServer((req, res) => {
  const chunks: Buffer[] = [];
  req.on('data', (chunk: Buffer) => chunks.push(chunk));
  req.on('end', () => {
    JSON.parse(Buffer.concat(chunks).toString());
    if (waiting.push(res) === 1) setImmediate(flush);
  });
});
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));
// The parent is gone: so are we.
process.on('disconnect', () => process.exit());
