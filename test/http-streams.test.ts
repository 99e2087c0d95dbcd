/** What a stream says, how it ends, and who is forgotten. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { CouponId, RequestKey, UserId } from '../src/coupon.ts';
import { assertProblem, call, openStream, raw, until } from './support/calls.ts';
import { claim, ended, open, task } from './support/http-claims.ts';
import { type MemoryApp, startMemoryApp } from './support/memory-app.ts';

/** The id of ann's request, the first after the opening of the first coupon; of another partition if asked. */
const sealed = (app: MemoryApp, partition: number) =>
  app.sealer.seal({
    ...{ couponId: 'live' as CouponId, userId: 'ann' as UserId, partition, offset: 1 },
    key: '0123456789abcdef' as RequestKey,
  });

describe('streams', () => {
  let app: MemoryApp;
  before(async () => {
    app = await startMemoryApp();
    await open(app, 'live', 2);
  });
  after(() => app.stop());

  test('progress while it waits, one outcome, then the end', async () => {
    const goOn = await app.holdReserve();
    const [first, second] = [await claim(app, 'live', 'ann'), await claim(app, 'live', 'bob')];
    const stream = await openStream(app.url + second.body.links.events);
    assert.equal(stream.status, 200);
    assert.match(stream.headers.get('content-type') ?? '', /^text\/event-stream/);
    assert.equal(stream.headers.get('cache-control'), 'no-store');
    assert.equal(stream.headers.get('x-accel-buffering'), 'no');
    const waiting = await stream.next();
    assert.equal(waiting?.event, 'progress');
    assert.deepEqual(JSON.parse(waiting?.data as string), { state: 'accepted', ahead: 1 });
    const retryMs = stream.retryMs() as number;
    assert.ok(retryMs >= 1_000 && retryMs <= 3_000, String(retryMs));

    // The same place again, for one who was told already: nothing is repeated until there is news.
    const resumed = await openStream(app.url + second.body.links.events, {
      'last-event-id': waiting?.lastEventId as string,
    });
    await goOn();
    const outcome = await last(stream);
    assert.deepEqual(outcome, (await task(app, second)).body);
    assert.equal(outcome.slot, 2);
    const seen: string[] = [];
    for (let event = await resumed.next(); event; event = await resumed.next()) {
      seen.push(event.event);
      if (event.event === 'progress') assert.notEqual(JSON.parse(event.data).ahead, 1);
    }
    assert.equal(seen.at(-1), 'outcome');
    assert.equal((await ended(app, first)).body.slot, 1);
    assert.equal(app.hub.watching, 0);
  });

  test('long after the result the outcome comes at once, and again to one who knows it', async () => {
    const taskId = sealed(app, 0);
    const stream = await openStream(`${app.url}/tasks/${taskId}/events`, { 'last-event-id': '3' });
    const event = await stream.next();
    assert.deepEqual([event?.event, event?.lastEventId], ['outcome', '3']);
    assert.equal(await stream.next(), undefined);
  });

  test('each is told another time to come back, so that a crowd that lost its server does not come at once', async () => {
    const asked = Array.from({ length: 8 }, async () => {
      const stream = await openStream(`${app.url}/tasks/${sealed(app, 0)}/events`);
      while (await stream.next());
      return stream.retryMs();
    });
    assert.ok(new Set(await Promise.all(asked)).size > 1);
  });

  test('a task id with an escape is the same id, for the stream as for the status', async () => {
    const taskId = sealed(app, 0);
    const escaped = `%${taskId.charCodeAt(0).toString(16)}${taskId.slice(1)}`;
    const { body } = await call(app.url, `GET /tasks/${escaped}`);
    assert.equal(body.taskId, taskId);
    const stream = await openStream(`${app.url}/tasks/${escaped}/events`);
    assert.equal(stream.status, 200);
    assert.deepEqual(await last(stream), body);
    // An escape is undone once, and a broken one is of no task.
    for (const none of [escaped.replace('%', '%25'), '%', '%E0%A4%A', '']) {
      assertProblem(await call(app.url, `GET /tasks/${none}/events`), '404 UNKNOWN_TASK');
    }
  });

  test('the connection of a stream that has ended takes the next request', async () => {
    const taskId = sealed(app, 0);
    const stream = `GET /tasks/${taskId}/events HTTP/1.1\r\nhost: x\r\n\r\n`;
    const text = await raw(app.port, `${stream}GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    assert.match(text, /event: outcome[\s\S]*\r\n0\r\n\r\nHTTP\/1\.1 200 OK[\s\S]*\{"ok":true\}$/);
    // One who speaks HTTP/1.0 gets it without chunks, and the end of the connection.
    const old = await raw(app.port, `GET /tasks/${taskId}/events HTTP/1.0\r\n\r\n`);
    assert.match(old, /\r\n\r\nretry: \d+\n\nevent: outcome\nid: 3\ndata: \{.*\}\n\n$/);
  });

  test('what is no stream: HEAD, another form, a task that is none', async () => {
    const taskId = sealed(app, 0);
    const head = await call(app.url, `HEAD /tasks/${taskId}/events`);
    assert.deepEqual([head.status, head.headers.get('cache-control')], [200, 'no-store']);
    assertProblem(
      await call(app.url, `GET /tasks/${taskId}/events`, { headers: { accept: 'application/json' } }),
      '406 NOT_ACCEPTABLE',
    );
    assertProblem(await call(app.url, 'GET /tasks/nonsense/events'), '404 UNKNOWN_TASK');
    const elsewhere = sealed(app, 7);
    // Genuine, of a partition that was added while this process runs.
    assertProblem(await call(app.url, `GET /tasks/${elsewhere}/events`), '503 UNAVAILABLE');
    assertProblem(await call(app.url, `GET /tasks/${elsewhere}`), '503 UNAVAILABLE');
  });

  test('a client that goes away is forgotten', async () => {
    await open(app, 'left', 1);
    const goOn = await app.holdReserve();
    const stream = await openStream(app.url + (await claim(app, 'left', 'dan')).body.links.events);
    await stream.next();
    assert.equal(app.hub.watching, 1);
    await stream.close();
    await until(
      () => app.hub.watching,
      n => n === 0,
    );
    await goOn();
  });

  test('a reader that does not read is dropped and counted', async () => {
    await open(app, 'slow', 1);
    const stop = await app.holdReserve();
    const accepted = await claim(app, 'slow', 'sue');
    const { watch } = app.hub;
    app.hub.watch = (_task, watching) => {
      for (let ahead = 100_000; ahead > 0; ahead--) watching.tell({ state: 'accepted' }, ahead);
      return () => {};
    };
    await raw(app.port, `GET ${accepted.body.links.events} HTTP/1.1\r\nhost: x\r\n\r\n`).catch(() => '');
    app.hub.watch = watch;
    const { body } = await call(app.url, 'GET /metrics');
    assert.match(body, /^dibs_streams_dropped_total 1$/m);
    assert.match(body, /^dibs_streams_open 0$/m);
    await stop();
  });
});

test('stopping ends the streams, so that their clients go elsewhere, and refuses what comes', async () => {
  const app = await startMemoryApp();
  await open(app, 'bye', 1);
  await app.holdReserve();
  const stream = await openStream(app.url + (await claim(app, 'bye', 'ann')).body.links.events);
  assert.equal((await stream.next())?.event, 'progress');
  await app.stop();
  assert.equal(await stream.next(), undefined);
  await app.http.stop();
  await assert.rejects(call(app.url, 'GET /healthz'));
});

async function last(stream: Awaited<ReturnType<typeof openStream>>) {
  let found: unknown;
  for (let event = await stream.next(); event; event = await stream.next()) found = JSON.parse(event.data);
  return found as { slot: number };
}
