/** Clients that take their time: with a head, a body, the next request, or with reading what they asked for. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { dial, drip } from '../../attack/sockets.ts';
import { call, until } from '../support/calls.ts';
import { claim, open } from '../support/http-claims.ts';
import { type MemoryApp, startMemoryApp } from '../support/memory-app.ts';

const post =
  'POST /coupons/welcome/issue HTTP/1.1\r\nhost: 127.0.0.1\r\nx-user-id: ann\r\ncontent-type: application/json\r\n';
const noProc = process.platform !== 'linux' && 'open files are counted in /proc, which is not there';
const bounds = { headersMs: 300, requestMs: 600, checkMs: 50, unreadMs: 700 };

describe('slow clients', () => {
  let app: MemoryApp;
  before(async () => {
    app = await startMemoryApp({ bounds });
    await open(app, 'welcome', 1_000);
  });
  after(() => app.stop());

  // All whose time had ended in the last two seconds ended in one turn: of 5,000 it was 110 to 260 ms.
  test('heads that do not end are cut one after the other, as they came', async () => {
    const other = await startMemoryApp({ bounds: { headersMs: 100, checkMs: 20 } });
    let opened = 0;
    const cutAt: number[] = [];
    const lines = [];
    for (; opened < 8; opened++) {
      const line = await dial(other.port, 'GET /coupons HTTP/1.1\r\nx-slow: ');
      lines.push(line.closed.then(() => cutAt.push(opened)));
      await setTimeout(200);
    }
    await Promise.all(lines);
    assert.ok(new Set(cutAt).size >= 4, `they were cut when so many had come: ${cutAt}`);
    await other.stop();
  });

  test('heads and bodies that do not end are cut, and those who wait meanwhile are served', async () => {
    const starts: Record<string, [bytes: string, byte: string, answer: RegExp]> = {
      'a head': ['GET /coupons HTTP/1.1\r\nx-slow: ', 'a', /^HTTP\/1\.1 400 [\s\S]*too slowly/],
      'nothing at all': ['', '', /^$/],
      'a body of a button': [`${post}content-length: 500\r\n\r\n{`, ' ', /^HTTP\/1\.1 400 /],
      'a body behind fastify': [
        `${post.replace('/welcome/issue', '')}content-length: 500\r\n\r\n{`,
        ' ',
        /^HTTP\/1\.1 400 /,
      ],
      chunks: [`${post}transfer-encoding: chunked\r\n\r\n1\r\n{\r\n`, '1\r\n \r\n', /^HTTP\/1\.1 400 /],
      'a body that was refused already': [
        `${post}content-length: 5000000\r\n\r\n`,
        ' '.repeat(100),
        /^HTTP\/1\.1 413 [\s\S]*BODY_TOO_LARGE/,
      ],
      'a body that nobody asked for': [
        'GET /coupons HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n',
        'a',
        /^HTTP\/1\.1 200 /,
      ],
      'a second head': [
        'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /coupons HTTP/1.1\r\nx-slow: ',
        'a',
        /^HTTP\/1\.1 200 /,
      ],
    };
    const lines = await Promise.all(
      Object.entries(starts).flatMap(([name, [bytes, byte, answer]]) =>
        Array.from({ length: 20 }, async () => {
          const line = await dial(app.port, bytes);
          if (byte !== '') drip(line, byte, 20);
          return { name, line, answer };
        }),
      ),
    );
    let served = 0;
    let waiting = lines.length;
    const cut = Promise.all(lines.map(({ line }) => line.closed.finally(() => waiting--)));
    while (waiting > 0) {
      assert.equal((await claim(app, 'welcome', `honest-${served++}`)).status, 202);
    }
    await cut;
    assert.ok(served > 1, String(served));
    for (const { name, line, answer } of lines) assert.match(line.text, answer, name);
  });

  // Each byte that comes begins node's own bound anew.
  test('a head that goes on behind its 400, by a client that does not end, is cut', async () => {
    const socket = connect({ port: app.port, host: '127.0.0.1', allowHalfOpen: true });
    const closed = new Promise(resolve => socket.on('error', () => {}).on('close', resolve));
    socket.resume().write('GET /coupons HTTP/1.1\r\nx-slow: ');
    const timer = setInterval(() => socket.write('a'), 20);
    await once(socket, 'end');
    const cut = await Promise.race([closed.then(() => true), setTimeout(20 * bounds.unreadMs, false)]);
    clearInterval(timer);
    socket.destroy();
    assert.ok(cut);
  });

  test('an answer of which nothing is read is given up, with the file it came from', { skip: noProc }, async () => {
    const files = () => readdirSync('/proc/self/fd').length;
    const had = files();
    const line = await dial(app.port);
    line.socket.pause();
    // More than the kernel keeps for a connection.
    line.socket.write('GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(16));
    await until(files, n => n > had + 16);
    await until(files, n => n <= had + 1);
    line.socket.resume();
    assert.ok((await line.closed).length < 16 * 1_000_000);
  });

  test('a connection that waits for nothing is not kept beyond that', async () => {
    const line = await dial(app.port, 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n');
    await line.until(text => text.endsWith('{"ok":true}'));
    // Not this test's patience but keepAliveMs (65 s) ends it; one that asks again is served.
    line.socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
    assert.equal((await line.closed).match(/\{"ok":true\}/g)?.length, 2);
  });
});

test('requests that wait behind an answer are bounded, and each open file is one of them', async () => {
  const app = await startMemoryApp();
  const asked = 'GET /docs/static/swagger-ui.css HTTP/1.1\r\nhost: x\r\n\r\n';
  // 2,000 of these in one packet opened as many files, and held 0.5 GB.
  const text = await (await dial(app.port, asked.repeat(2_000))).closed;
  const statuses = [...text.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)].map(([, status]) => status);
  assert.deepEqual([...new Set(statuses)], ['200', '429']);
  assert.equal(statuses.filter(status => status === '200').length, 33);
  assert.equal(statuses.at(-1), '429');
  assert.match(text, /"code":"TOO_MANY_REQUESTS"[^}]*\}$/);
  // A client that sends a few ahead is served, again and again.
  const healthz = 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n';
  const line = await dial(app.port);
  for (let round = 1; round <= 5; round++) {
    line.socket.write(healthz.repeat(30));
    await line.until(all => all.match(/\{"ok":true\}/g)?.length === 30 * round);
  }
  line.socket.destroy();
  assert.equal((await call(app.url, 'GET /healthz')).status, 200);
  await app.stop();
});
