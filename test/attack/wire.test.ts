/** Requests as no client writes them: other forms of an address, two meanings in one head, answers that node has ready. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { call, raw } from '../support/calls.ts';
import { assertKept, type MemoryApp, startMemoryApp } from '../support/memory-app.ts';

const ann = 'host: 127.0.0.1\r\nx-user-id: ann\r\nconnection: close\r\n';
const json = 'content-type: application/json\r\n';

describe('the wire', () => {
  let app: MemoryApp;
  before(async () => {
    app = await startMemoryApp();
    await call(app.url, 'POST /coupons', { body: { couponId: 'welcome', name: 'Welcome', stock: 100 } });
  });
  after(() => app.stop());
  const send = (bytes: string) => raw(app.port, Buffer.from(bytes, 'latin1'));
  const noErrors = () =>
    assert.deepEqual(
      app.said.filter(({ level }) => level === 'error'),
      [],
    );

  test('a route in front of fastify answers to every form of its address', async t => {
    // Each was an answer 500: fastify knew the route, and nobody behind it served it.
    const targets = [
      'http://127.0.0.1/coupons/welcome/issue',
      '/coupons/welcome/%69ssue',
      '/%63oupons/welcome/issue',
      '/coupons/welcome/issue#part',
      '/coupons/welcome/issue?from=/issue',
      '/coupons/%77elcome/issu%65?from=/issue',
    ];
    for (const target of targets) {
      await t.test(`POST ${target}`, async () =>
        assert.match(
          await send(`POST ${target} HTTP/1.1\r\n${ann.replace('ann', `of${targets.indexOf(target)}`)}\r\n`),
          /^HTTP\/1\.1 202 /,
        ),
      );
    }
    for (const target of ['/tasks/none/event%73', 'http://x/tasks/none/events', '/tasks/none/events#x']) {
      await t.test(`GET ${target}`, async () =>
        assert.match(await send(`GET ${target} HTTP/1.1\r\n${ann}\r\n`), /^HTTP\/1\.1 404 [\s\S]*UNKNOWN_TASK/),
      );
    }
    // An escape is undone once.
    const twice = await send(`POST /coupons/%2577elcome/%69ssue HTTP/1.1\r\n${ann}\r\n`);
    assert.match(twice, /^HTTP\/1\.1 400 /);
    const large = await send(
      `POST http://x/coupons/welcome/issue HTTP/1.1\r\n${ann}${json}content-length: 2000\r\n\r\n${'x'.repeat(2000)}`,
    );
    assert.match(large, /^HTTP\/1\.1 413 /);
    noErrors();
  });

  test('what node would answer by itself has the form of all errors', async t => {
    const kept = await app.kept();
    const attempts: Record<string, string> = {
      'no host': 'GET /coupons HTTP/1.1\r\n\r\n',
      'no host, the button': 'POST /coupons/welcome/issue HTTP/1.1\r\nx-user-id: ann\r\n\r\n',
      'an expectation': `POST /coupons/welcome/issue HTTP/1.1\r\n${ann}expect: a-miracle\r\n\r\n`,
      'no HTTP': '\u0016\u0003\u0001\u0002\u0000',
      'a bad length': `POST /coupons HTTP/1.1\r\n${ann}content-length: 1e1\r\n\r\n`,
    };
    for (const [name, bytes] of Object.entries(attempts)) {
      await t.test(name, async () =>
        assert.match(
          await send(bytes),
          /^HTTP\/1\.1 400 [\s\S]*content-type: application\/problem\+json[\s\S]*"code":"MALFORMED_REQUEST"/i,
        ),
      );
    }
    await assertKept(app, kept);
  });

  test('garbage behind a request does not take its answer: one that was accepted hears so', async () => {
    // The answer to the garbage went out first, and was read as the answer to the request that then won.
    const text = await send(
      'POST /coupons/welcome/issue HTTP/1.1\r\nhost: x\r\nx-user-id: zoe\r\n\r\n\u0001\u0002\r\n\r\n',
    );
    assert.match(text, /^HTTP\/1\.1 202 [\s\S]*connection: close[\s\S]*"taskId"/i);
    assert.doesNotMatch(text, /HTTP\/1\.1 400/);
    // Behind one whose own body is broken it is its answer.
    const broken = await send(
      `POST /coupons/welcome/issue HTTP/1.1\r\n${ann}${json}transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`,
    );
    assert.match(broken, /^HTTP\/1\.1 400 /);
  });

  test('an answer under way is not lost to what is no HTTP behind it', async t => {
    // Each was an end without a byte: the answer was in the socket, not yet on the wire.
    const press = `POST /coupons/welcome/issue HTTP/1.1\r\n${ann.replace('ann', 'bob')}`;
    const attempts: Record<string, string> = {
      'a coding that is none': `${press}transfer-encoding: identity\r\n\r\n{}`,
      'a chunk without a size': `${press}content-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n`,
    };
    const kept = await app.kept();
    for (const [name, bytes] of Object.entries(attempts)) {
      await t.test(name, async () => {
        const text = await send(bytes);
        assert.match(text, /^HTTP\/1\.1 415 [\s\S]*connection: close[\s\S]*"code":"UNSUPPORTED_MEDIA_TYPE"/i);
        assert.equal(text.match(/HTTP\/1\.1 /g)?.length, 1, text);
      });
    }
    await assertKept(app, kept);
  });

  test('two meanings in one head: one answer, an end, and nothing of what was smuggled', async t => {
    const kept = await app.kept();
    const inner = `POST /coupons/welcome/issue HTTP/1.1\r\nhost: x\r\nx-user-id: smuggled\r\n\r\n`;
    const post = `POST /coupons HTTP/1.1\r\nhost: 127.0.0.1\r\n${json}`;
    const length = `content-length: ${inner.length}\r\n`;
    const attempts: Record<string, string> = {
      'a length and chunks': `${post}${length}transfer-encoding: chunked\r\n\r\n0\r\n\r\n${inner}`,
      'chunks and a length': `${post}transfer-encoding: chunked\r\n${length}\r\n0\r\n\r\n${inner}`,
      'two lengths': `${post}content-length: 0\r\n${length}\r\n${inner}`,
      'two lengths in one': `${post}content-length: 0, ${inner.length}\r\n\r\n${inner}`,
      'a folded line': `${post}x-a: b\r\n ${length}\r\n${inner}`,
      'a space before the colon': `${post}content-length : 0\r\n\r\n${inner}`,
      'a bare line feed': `${post}x-a: b\n${length}\r\n${inner}`,
      'a bare return': `${post}x-a: b\r${length}\r\n${inner}`,
      'chunked twice': `${post}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n${inner}`,
      'chunked, nearly': `${post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n${inner}`,
      'chunked after a tab': `${post}transfer-encoding:\u000bchunked\r\n\r\n0\r\n\r\n${inner}`,
      'a chunk too large to count': `${post}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n${inner}`,
      'a chunk below zero': `${post}transfer-encoding: chunked\r\n\r\n-1\r\n${inner}`,
      'a zero in a name': `${post}content\u0000-length: 5\r\n\r\n${inner}`,
      'a length above every number': `${post}content-length: 99999999999999999999\r\n\r\n${inner}`,
    };
    for (const [name, bytes] of Object.entries(attempts)) {
      await t.test(name, async () => {
        const text = await send(bytes);
        assert.match(text, /^HTTP\/1\.1 4\d\d /);
        assert.equal(text.match(/HTTP\/1\.1 /g)?.length, 1, text);
      });
    }
    await assertKept(app, kept);
  });
});
