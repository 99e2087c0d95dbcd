/** Streams as a stranger opens them: as many as one can, read by nobody, from addresses that are one. */
import assert from 'node:assert/strict';
import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { suite, test } from 'node:test';
import { dial } from '../../attack/sockets.ts';
import { createHost } from '../../src/host.ts';
import { createMetrics } from '../../src/http/prometheus.ts';
import { Replies } from '../../src/http/replies.ts';
import { Streams } from '../../src/http/sse.ts';
import { pingMs } from '../../src/limits.ts';
import { call, openStream, until } from '../support/calls.ts';
import { claim, ended, open } from '../support/http-claims.ts';
import { startMemoryApp } from '../support/memory-app.ts';

const asked = (path: string) => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`;
const ping = '3\r\n:\n\n\r\n';

/** Streams without a server behind them, for one task that never ends: an answer of each address that asks. */
function streamsOf(bounds: { streams: number; streamsPerAddress: number }) {
  const host = createHost();
  const task = { couponId: 'c', userId: 'u', partition: 0, offset: 1, key: '0123456789abcdef' };
  const streams = new Streams({
    hub: { watch: () => () => {} } as never,
    sealer: { open: () => task } as never,
    ...{ partitions: 1, host, metrics: createMetrics(), replies: new Replies(() => {}), headers: [], bounds },
  });
  const ask = async (remoteAddress: string): Promise<number> => {
    const req = new IncomingMessage({ remoteAddress } as Socket);
    Object.assign(req, { method: 'GET', httpVersionMajor: 1, httpVersionMinor: 1 });
    const res = new ServerResponse(req);
    streams.serve(req, res, 'task');
    await until(
      () => res.headersSent,
      sent => sent,
    );
    return res.statusCode;
  };
  return { streams, ask };
}

suite('streams under attack', () => {
  test('are bounded by address, an IPv6 address being one of its /64, and in all', async () => {
    const { streams, ask } = streamsOf({ streams: 8, streamsPerAddress: 3 });
    const statuses = async (...addresses: string[]) => {
      const found: number[] = [];
      for (const address of addresses) found.push(await ask(address));
      return found;
    };
    assert.deepEqual(await statuses('10.0.0.1', '10.0.0.1', '::ffff:10.0.0.1', '10.0.0.1'), [200, 200, 200, 429]);
    // Each of them was an address of its own, and one host has 2^64.
    assert.deepEqual(
      await statuses('2001:db8::1', '2001:db8::2', '2001:db8:0:0:ffff::3', '2001:db8::4'),
      [200, 200, 200, 429],
    );
    assert.deepEqual(await statuses('2001:db8:0:1::1', '10.0.0.2', '10.0.0.3'), [200, 200, 503]);
    assert.equal(streams.open, 8);
    streams.stop();
    await until(
      () => streams.open,
      n => n === 0,
    );
    assert.deepEqual(await statuses('10.0.0.1'), [200]);
    streams.stop();
  });

  test('idle ones of one address end at its cap, and one that is there already is told', async () => {
    const app = await startMemoryApp({ bounds: { streamsPerAddress: 200 } });
    await open(app, 'idle', 2);
    const goOn = await app.holdReserve();
    const accepted = await claim(app, 'idle', 'ann');
    const { events } = accepted.body.links;
    const honest = await openStream(app.url + events);
    assert.equal((await honest.next())?.event, 'progress');
    const lines = await Promise.all(Array.from({ length: 300 }, () => dial(app.port, asked(events))));
    const heads = await Promise.all(lines.map(line => line.until(text => text.includes('\r\n\r\n'))));
    const ofStatus = (status: number) => heads.filter(head => head.startsWith(`HTTP/1.1 ${status} `)).length;
    assert.deepEqual([ofStatus(200), ofStatus(429)], [199, 101]);
    assert.match(heads.find(head => head.startsWith('HTTP/1.1 429')) as string, /retry-after: 5\r\n/);
    assert.match((await call(app.url, 'GET /metrics')).body, /^dibs_streams_open 200$/m);
    // Those that leave make room.
    for (const line of lines) line.socket.destroy();
    await until(
      () => app.hub.watching,
      n => n === 1,
    );
    assert.equal(
      (await dial(app.port, asked(events)).then(line => line.until(text => text.includes('\r\n')))).slice(9, 12),
      '200',
    );
    await goOn();
    assert.equal((await honest.next())?.event, 'outcome');
    assert.equal((await ended(app, accepted)).body.slot, 1);
    await app.stop();
  });

  test('5,000 idle ones of one address keep nobody from pressing and being told', async () => {
    const app = await startMemoryApp();
    await open(app, 'idle', 2);
    const goOn = await app.holdReserve();
    const { events } = (await claim(app, 'idle', 'ann')).body.links;
    const lines = [];
    // As many at once as the server's queue of connections holds.
    for (let i = 0; i < 10; i++) {
      const some = await Promise.all(Array.from({ length: 500 }, () => dial(app.port, asked(events))));
      await Promise.all(some.map(line => line.until(text => text.includes('event: progress'))));
      lines.push(...some);
    }
    assert.equal(app.hub.watching, 5_000);
    const honest = await claim(app, 'idle', 'bob');
    const stream = await openStream(app.url + honest.body.links.events);
    assert.equal((await stream.next())?.event, 'progress');
    await goOn();
    assert.equal((await stream.next())?.event, 'outcome');
    assert.equal((await ended(app, honest)).body.slot, 2);
    // Nor are they forgotten themselves.
    await Promise.all(lines.map(line => line.until(text => text.includes('event: outcome'))));
    for (const line of lines) line.socket.destroy();
    await app.stop();
  });

  test('many on one connection that ends are all forgotten', async () => {
    const app = await startMemoryApp();
    await open(app, 'piped', 1);
    const goOn = await app.holdReserve();
    const { events } = (await claim(app, 'piped', 'ann')).body.links;
    const line = await dial(app.port, asked(events).repeat(30));
    await until(
      () => app.hub.watching,
      n => n === 30,
    );
    line.socket.destroy();
    await until(
      () => app.hub.watching,
      n => n === 0,
    );
    assert.match((await call(app.url, 'GET /metrics')).body, /^dibs_streams_open 0$/m);
    await goOn();
    await app.stop();
  });

  test('a comment every 15 s, spread over the streams, and none after the last', async t => {
    const app = await startMemoryApp();
    await open(app, 'quiet', 1);
    const goOn = await app.holdReserve();
    const { events } = (await claim(app, 'quiet', 'ann')).body.links;
    t.mock.timers.enable({ apis: ['setInterval'] });
    const lines = await Promise.all(Array.from({ length: 30 }, () => dial(app.port, asked(events))));
    await Promise.all(lines.map(line => line.until(text => text.includes('event: progress'))));
    const pings = (text: string) => text.split(ping).length - 1;
    t.mock.timers.tick(1_000);
    await until(
      () => lines.filter(line => pings(line.text) === 1).length,
      n => n === 2,
    );
    t.mock.timers.tick(pingMs - 1_000);
    await Promise.all(lines.map(line => line.until(text => pings(text) === 1)));
    t.mock.timers.tick(pingMs);
    await Promise.all(lines.map(line => line.until(text => pings(text) === 2)));
    for (const line of lines) line.socket.destroy();
    await until(
      () => app.hub.watching,
      n => n === 0,
    );
    t.mock.timers.reset();
    await goOn();
    await app.stop();
  });

  test('a reader that takes nothing is dropped by its comments alone', async t => {
    const app = await startMemoryApp();
    await open(app, 'deaf', 1);
    const goOn = await app.holdReserve();
    const { events } = (await claim(app, 'deaf', 'ann')).body.links;
    t.mock.timers.enable({ apis: ['setInterval'] });
    const line = await dial(app.port);
    line.socket.pause();
    line.socket.write(asked(events));
    await until(
      () => app.hub.watching,
      n => n === 1,
    );
    // The kernel keeps some megabytes for it; what is beyond is ours.
    let comments = 0;
    while (app.hub.watching === 1 && comments < 5_000_000) {
      t.mock.timers.tick(pingMs * 5_000);
      comments += 5_000;
      await new Promise(resolve => setImmediate(resolve));
    }
    assert.equal(app.hub.watching, 0, `${comments} comments`);
    assert.match((await call(app.url, 'GET /metrics')).body, /^dibs_streams_dropped_total 1$/m);
    t.mock.timers.reset();
    line.socket.destroy();
    await goOn();
    await app.stop();
  });
});
