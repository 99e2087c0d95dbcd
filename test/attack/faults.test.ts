/** One address that sends what is no HTTP, again and again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { dial, type Line } from '../../attack/sockets.ts';
import { shutOutMax } from '../../src/http/limits.ts';
import { startMemoryApp } from '../support/memory-app.ts';

const ask = 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n';
const leave = 'GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n';
const garbage = '\u0001\u0002 garbage\r\n\r\n';

// Each cost 0.1 ms of the event loop, for as long as it sent them.
test('an address that sends what cannot be read gets no connection until it has a token again', async () => {
  let ms = Date.now();
  const app = await startMemoryApp({
    settings: { faultsPerAddress: 5 },
    bounds: { shutOutMs: 20 },
    hostOf: host => ({ ...host, elapsed: () => ms }),
  });
  const sent = async (bytes: string, from?: string) => (await dial(app.port, bytes, from)).closed;
  const there = await dial(app.port, ask);
  await there.until(text => text.endsWith('{"ok":true}'));

  for (let i = 0; i < 3; i++) assert.match(await sent(garbage), /^HTTP\/1\.1 400 /);
  // Each in its way: more ahead of its answers than may be, a head that is too large.
  assert.match(await sent(ask.repeat(34)), /HTTP\/1\.1 429 /);
  assert.match(await sent(`GET / HTTP/1.1\r\nx: ${'v'.repeat(17_000)}\r\n\r\n`), /^HTTP\/1\.1 431 /);
  assert.equal(await sent(leave), '');
  assert.equal(await sent(garbage), '');
  // Neither those of other addresses, nor what was connected before.
  assert.match(await sent(leave, '127.0.0.2'), /^HTTP\/1\.1 200 /);
  there.socket.write(leave);
  assert.match(await there.closed, /true\}HTTP\/1\.1 200 /);

  ms += 200;
  assert.match(await sent(leave), /^HTTP\/1\.1 200 /);
  assert.match(await sent(garbage), /^HTTP\/1\.1 400 /);
  assert.equal(await sent(leave), '');
  await app.stop();
});

// Only one was counted of all that were taken in before it could be read: so a crowd came with each token.
test('each fault counts, also of those who were connected before the first', async () => {
  let ms = Date.now();
  const app = await startMemoryApp({
    settings: { faultsPerAddress: 5 },
    bounds: { shutOutMs: 20 },
    hostOf: host => ({ ...host, elapsed: () => ms }),
  });
  const asked = async () => (await dial(app.port, leave)).closed;
  const lines = await Promise.all(Array.from({ length: 10 }, () => dial(app.port, ask)));
  await Promise.all(lines.map(line => line.until(text => text.endsWith('{"ok":true}'))));
  for (const line of lines) line.socket.write(garbage);
  await Promise.all(lines.map(line => line.closed));
  ms += 1_000;
  assert.equal(await asked(), '');
  ms += 300;
  assert.match(await asked(), /^HTTP\/1\.1 200 /);
  // However many they were, it is not for ever.
  const many = await Promise.all(Array.from({ length: 200 }, () => dial(app.port, garbage)));
  await Promise.all(many.map(line => line.closed));
  ms += 10_300;
  assert.match(await asked(), /^HTTP\/1\.1 200 /);
  await app.stop();
});

// Each was ended at once, so the next one came at once: 5,000 a second took 0.15 of what others got.
test('a connection of an address that is shut out is kept unread, so many of them, and ends with the server', async () => {
  const timers: { ms: number; call(): void }[] = [];
  const app = await startMemoryApp({
    settings: { faultsPerAddress: 1 },
    hostOf: host => ({
      ...host,
      elapsed: () => 0,
      after(ms, call) {
        if (ms !== 3_000) return host.after(ms, call);
        timers.push({ ms, call });
        return () => {};
      },
    }),
  });
  assert.match(await (await dial(app.port, garbage)).closed, /^HTTP\/1\.1 400 /);
  const kept = await Promise.all(Array.from({ length: shutOutMax }, () => dial(app.port, leave)));
  const isEnded = (line: Line) => Promise.race([line.closed.then(() => true), setTimeout(50, false)]);
  // Beyond them it ends, and whoever is elsewhere is served.
  assert.equal(await (await dial(app.port, leave)).closed, '');
  assert.match(await (await dial(app.port, leave, '127.0.0.2')).closed, /^HTTP\/1\.1 200 /);
  assert.deepEqual(await Promise.all(kept.map(isEnded)), Array(shutOutMax).fill(false));

  timers[0]?.call();
  assert.equal(await Promise.race(kept.map(line => line.closed)), '');
  const next = await dial(app.port, leave);
  assert.equal(await isEnded(next), false);
  await app.stop();
  assert.equal(await next.closed, '');
  assert.deepEqual(new Set(await Promise.all(kept.map(line => line.closed))), new Set(['']));
});

test('requests that are refused for what they ask are no faults', async () => {
  const app = await startMemoryApp({ settings: { faultsPerAddress: 1 } });
  for (let i = 0; i < 5; i++) {
    const forged = await dial(app.port, leave.replace('/healthz', `/tasks/forged${i}`));
    assert.match(await forged.closed, /^HTTP\/1\.1 404 /);
    const bad = await dial(app.port, leave.replace('GET /healthz', 'POST /coupons/%00/issue'));
    assert.match(await bad.closed, /^HTTP\/1\.1 400 /);
  }
  await app.stop();
});

// It counted again when the client, who had its answer, closed its half.
test('a head that comes too slowly is one fault', async () => {
  const app = await startMemoryApp({
    settings: { faultsPerAddress: 2 },
    bounds: { headersMs: 50, checkMs: 20, shutOutMs: 20 },
    hostOf: host => ({ ...host, elapsed: () => 0 }),
  });
  assert.match(await (await dial(app.port, 'GET / HTTP/1.1\r\nx: ')).closed, /^HTTP\/1\.1 400 /);
  assert.match(await (await dial(app.port, leave)).closed, /^HTTP\/1\.1 200 /);
  await app.stop();
});

// A browser takes what it finds on a connection that it opened in advance for the answer to what it asks there next.
test('a connection that was opened in advance and never used ends without a word, and is no fault', async () => {
  const app = await startMemoryApp({
    settings: { faultsPerAddress: 2 },
    bounds: { headersMs: 50, checkMs: 20 },
  });
  const spare = await Promise.all(Array.from({ length: 20 }, () => dial(app.port)));
  for (const line of spare) assert.equal(await line.closed, '');
  assert.match(await (await dial(app.port, leave)).closed, /^HTTP\/1\.1 200 /);
  await app.stop();
});

test('what is too large or no HTTP after an answer on the same connection has its answer', async () => {
  const app = await startMemoryApp();
  const after = async (bytes: string) => {
    const line = await dial(app.port, ask);
    await line.until(text => text.endsWith('{"ok":true}'));
    line.socket.write(bytes);
    return (await line.closed).split('{"ok":true}')[1];
  };
  assert.match((await after(`GET / HTTP/1.1\r\nx: ${'v'.repeat(17_000)}\r\n\r\n`)) ?? '', /^HTTP\/1\.1 431 /);
  assert.match((await after(garbage)) ?? '', /^HTTP\/1\.1 400 /);
  await app.stop();
});
