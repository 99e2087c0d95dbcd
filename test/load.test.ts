/** The load tool of the benches, where it is installed. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { load } from '../bench/load.ts';
import { find } from '../scripts/services/program.ts';

test('an error is no refusal, however many come', { skip: !find('wrk') && 'wrk is not installed' }, async t => {
  let answers = 0;
  const server = createServer((_, res) => res.writeHead(++answers % 10 === 0 ? 500 : 410).end());
  server.listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const pressed = { url, path: '/', users: 'u', connections: 4, seconds: 1 };
  const looked = await load({ ...pressed, expects: 410 });
  assert.equal(looked.refused, looked.answers);
  assert.ok(looked.others > 0 && looked.others < looked.answers / 5, JSON.stringify(looked));
  assert.equal((await load(pressed)).others, 0);
});
