/** The client's streams: how events are read, and what a claim does when the push fails. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { createClient } from '../src/client/index.ts';
import { SseParser } from '../src/client/sse.ts';
import { type Fake, problem, startFake } from './support/fake-server.ts';
import { quickClient } from './support/quick-client.ts';

let fake: Fake;
beforeEach(async () => {
  fake = await startFake();
});
afterEach(() => fake.close());

const { client, streams } = quickClient(() => fake);

describe('the event parser', { timeout: 30_000 }, () => {
  const text = [
    ': a comment\r\nretry: 2500\r\nid: 7\r\nevent: progress\r\ndata: {"state":\r\ndata: "한글"}\r\n\r\n',
    'data\n\nid\ndata:no space\n\n',
    'event: lonely\n\nretry: soon\nunknown: x\nid: 8\rdata:  two\r\rdata: never finished',
  ].join('');
  const expected = [
    { event: 'progress', data: '{"state":\n"한글"}', lastEventId: '7' },
    { event: 'message', data: '', lastEventId: '7' },
    { event: 'message', data: 'no space', lastEventId: '' },
    { event: 'message', data: ' two', lastEventId: '8' },
  ];

  test('reads the same whichever two places the text is cut at', () => {
    for (let i = 0; i <= text.length; i++) {
      for (let j = i; j <= text.length; j++) {
        const parser = new SseParser();
        const events = [text.slice(0, i), text.slice(i, j), text.slice(j)].flatMap(part => parser.push(part));
        assert.deepEqual(events, expected, `cut at ${i} and ${j}`);
        assert.equal(parser.retryMs, 2500);
        assert.equal(parser.lastEventId, '8');
      }
    }
  });

  test('an event that was cut off was not heard: its id is not the last one', () => {
    const parser = new SseParser();
    parser.push('id: 1\ndata: x\n\nid: 2\nevent: progress\n');
    assert.equal(parser.lastEventId, '1');
    assert.deepEqual(parser.push('data: y\n\n'), [{ event: 'progress', data: 'y', lastEventId: '2' }]);
    assert.equal(parser.lastEventId, '2');
  });

  test('reads byte by byte through a streaming decoder', () => {
    const parser = new SseParser();
    const decoder = new TextDecoder();
    const events = [...Buffer.from(text)].flatMap(byte =>
      parser.push(decoder.decode(Uint8Array.of(byte), { stream: true })),
    );
    assert.deepEqual(events, expected);
  });

  test('takes no id with a NUL in it', () => {
    const parser = new SseParser();
    parser.push('id: 1\ndata: x\n\nid: 2\0\ndata: y\n\n');
    assert.equal(parser.lastEventId, '1');
  });

  test('refuses an event without end', () => {
    const parser = new SseParser();
    assert.throws(() => {
      for (let i = 0; i < 1_000; i++) parser.push(`data: ${'x'.repeat(1_000)}\n`);
    }, /too long/);
  });
});

describe('the push', { timeout: 30_000 }, () => {
  test('is taken up again with Last-Event-ID, after the wait that the server asked for', async () => {
    fake.held = true;
    fake.intercept = (seen, response) => {
      if (!seen.path.endsWith('/events') || streams().length > 2) return false;
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const text = `retry: 3\nid: at-${streams().length}\nevent: progress\ndata: {"state":"accepted","ahead":7}\n\n`;
      if (streams().length === 1) response.end(text);
      else response.write(text, () => response.destroy());
      return true;
    };
    const claim = client().claim('c', { userId: 'ann' });
    await fake.until(() => fake.streamsOpen === 1);
    fake.release();
    assert.equal((await claim.outcome).outcome, 'issued');
    assert.deepEqual(
      streams().map(s => s.headers['last-event-id']),
      [undefined, 'at-1', 'at-2'],
    );
  });

  test('never goes back on one claim, whatever the streams say', async () => {
    fake.intercept = (seen, response) => {
      if (!seen.path.endsWith('/events')) return false;
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const steps = ['"accepted","ahead":5', '"reserved","ahead":0', '"accepted","ahead":9'];
      const text = steps.map(step => `event: progress\ndata: {"state":${step}}\n\n`);
      response.write(text.join(''));
      void claim.taskId.then(() =>
        response.end(
          'event: outcome\ndata: {"taskId":"t","couponId":"c","state":"done","outcome":"inactive","reason":"closed"}\n\n',
        ),
      );
      return true;
    };
    const claim = client().claim('c', { userId: 'ann' });
    let last = { state: 'accepted', ahead: Infinity };
    for await (const { ahead = Infinity, state } of claim) {
      assert.ok(ahead <= last.ahead);
      assert.ok(!(last.state === 'reserved' && state === 'accepted'));
      last = { state, ahead };
    }
    assert.deepEqual(last, { state: 'reserved', ahead: 0 });
  });

  test('that fails again and again gives way to asking, and comes back', async () => {
    fake.held = true;
    let broken = true;
    fake.intercept = (seen, response) => {
      if (!broken || !seen.path.endsWith('/events')) return false;
      switch (streams().length % 3) {
        case 0:
          return problem(response, 503, 'NOT_ACCEPTED', {}, { 'retry-after': '0' });
        case 1:
          response.destroy();
          return true;
        default:
          response.writeHead(200, { 'content-type': 'text/html' }).end('a proxy');
          return true;
      }
    };
    const polls = () => fake.seen.filter(s => /^\/tasks\/[^/]+$/.test(s.path)).length;
    const claim = client().claim('c', { userId: 'ann' });
    await fake.until(() => polls() > 2);
    assert.ok(streams().length >= 3);
    broken = false;
    await fake.until(() => fake.streamsOpen === 1);
    fake.release();
    assert.equal((await claim.outcome).outcome, 'issued');
    assert.equal(claim.via, 'stream');
  });

  test('that says what cannot be read gives way to asking', async () => {
    const event = (name: string, data: string) => `event: ${name}\ndata: ${data}\n\n`;
    const waits = event('progress', '{"state":"accepted"}');
    const sayings = {
      outcome: ['<html>', 'null', '{"state":"done"}'].map(data => waits + event('outcome', data)),
      progress: ['<html>', 'null', '{"state":1}'].map(data => waits + event('progress', data)),
    };
    for (const [name, said] of Object.entries(sayings)) {
      const before = streams().length;
      fake.intercept = (seen, response) => {
        if (!seen.path.endsWith('/events')) return false;
        response.writeHead(200, { 'content-type': 'text/event-stream' }).end(said[(streams().length - 1 - before) % 3]);
        return true;
      };
      const claim = client().claim('c', { userId: name });
      assert.equal((await claim.outcome).outcome, 'issued', name);
      assert.equal(claim.via, 'poll', name);
    }
  });

  test('is not needed: asking alone ends a claim too', async () => {
    fake.held = true;
    fake.intercept = (seen, response) => seen.path.endsWith('/events') && problem(response, 404, 'NOT_FOUND');
    const claim = client().claim('c', { userId: 'ann' });
    await fake.until(() => fake.seen.some(s => s.path === '/tasks/task-1'));
    fake.release();
    assert.equal((await claim.outcome).outcome, 'issued');
    assert.equal(claim.via, 'poll');
  });

  test('is asked for once of a server that never pushes (501): the claim asks until it is told', async () => {
    fake.held = true;
    fake.intercept = (seen, response) => seen.path.endsWith('/events') && problem(response, 501, 'NOT_OFFERED');
    const polls = () => fake.seen.filter(s => s.path === '/tasks/task-1').length;
    const claim = client().claim('c', { userId: 'ann' });
    await fake.until(() => polls() > 4);
    fake.release();
    assert.equal((await claim.outcome).outcome, 'issued');
    assert.deepEqual([claim.via, streams().length], ['poll', 1]);
  });

  test('of many claims leaves the connections of a browser that presses need: the rest asks', async () => {
    fake.held = true;
    const dibs = createClient({ baseUrl: fake.url, streamsMax: 2, timing: { pollMsMin: 1, pollMsMax: 4 } });
    const users = Array.from({ length: 6 }, (_, i) => `u${i}`);
    // Clients for other callers have their streams in common with it.
    const claims = users.map((userId, i) => (i % 2 ? dibs : dibs.as({ userId })).claim('c', { userId }));
    const polled = () => new Set(fake.seen.filter(s => /^\/tasks\/[^/]+$/.test(s.path)).map(s => s.path)).size;
    await fake.until(() => fake.streamsOpen === 2 && polled() === 4);
    fake.release();
    const via = await Promise.all(claims.map(claim => claim.outcome.then(() => claim.via)));
    assert.equal(via.filter(one => one === 'stream').length, 2);
    assert.equal(streams().length, 2);
    // What has ended makes room.
    fake.held = false;
    const next = dibs.claim('c', { userId: 'later' });
    await next.outcome;
    assert.equal(next.via, 'stream');
  });

  test('in a browser is bounded, and elsewhere it is not', async t => {
    const users = Array.from({ length: 4 }, (_, i) => `u${i}`);
    fake.held = true;
    const patient = { streamIdleMsMax: 20_000, silenceMsMax: 20_000, answerMsMax: 20_000 };
    const one = client(patient);
    const claims = users.map(userId => one.claim('c', { userId }));
    await fake.until(() => fake.streamsOpen === 4);
    Object.assign(globalThis, { location: {} });
    t.after(() => Reflect.deleteProperty(globalThis, 'location'));
    const another = client(patient);
    for (const userId of users) claims.push(another.claim('c', { userId: `${userId}b` }));
    await fake.until(() => fake.streamsOpen === 6 && fake.seen.some(s => /^\/tasks\/[^/]+$/.test(s.path)));
    fake.release();
    await Promise.all(claims.map(claim => claim.outcome));
    assert.equal(streams().length, 6);
  });

  test('that is silent for too long is opened again', async () => {
    fake.intercept = (seen, response) => {
      if (!seen.path.endsWith('/events') || streams().length > 1) return false;
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.flushHeaders();
      return true;
    };
    const claim = client({ streamIdleMsMax: 20 }).claim('c', { userId: 'ann' });
    assert.equal((await claim.outcome).outcome, 'issued');
    assert.equal(streams().length, 2);
  });

  test('of a task that the server does not know ends at once', async () => {
    fake.intercept = (seen, response) => seen.path.startsWith('/tasks/') && problem(response, 404, 'UNKNOWN_TASK');
    await assert.rejects(client().claim('c', { userId: 'ann' }).outcome, {
      name: 'ProblemError',
      code: 'UNKNOWN_TASK',
    });
  });

  test('gives up on a server that is silent for good', async () => {
    fake.intercept = (seen, response) => {
      if (seen.path.startsWith('/tasks/')) response.destroy();
      return seen.path.startsWith('/tasks/');
    };
    const claim = client({ silenceMsMax: 30 }).claim('c', { userId: 'ann' });
    await assert.rejects(claim.outcome, { name: 'UnansweredError', taskId: 'task-1' });
  });
});
