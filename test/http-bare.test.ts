/** What is read without node:http must not be told from what comes through it. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { requestLog } from '../src/entry.ts';
import { BareConnection, Turn } from '../src/http/bare.ts';
import { willEnd } from '../src/http/connection.ts';
import { pressOf, strangersIn } from '../src/http/heads.ts';
import { keepAliveMs } from '../src/http/limits.ts';
import { call, raw, until } from './support/calls.ts';
import { type MemoryApp, startMemoryApp } from './support/memory-app.ts';

const host = 'host: 127.0.0.1\r\n';
const press = (user: string, more = '', path = '/coupons/welcome/issue') =>
  `POST ${path} HTTP/1.1\r\n${host}x-user-id: ${user}\r\n${more}\r\n`;

const question = (path: string, more = '') => `GET ${path} HTTP/1.1\r\n${host}${more}\r\n`;
/** Means nothing, and leaves the request to node:http. */
const nodes = 'proxy-connection: keep-alive\r\n';

/** As a client that writes the address in its absolute form: that is node:http's. */
const roundabout = (bytes: string) => bytes.replace('POST /', 'POST http://127.0.0.1/');

/** Without what is of the moment or of the task. */
const comparable = (answer: string) =>
  answer
    .replace(/^date: .*$/im, 'date')
    .replaceAll(/\/?tasks\/[\w-]+|"taskId":"[\w-]+"|"ahead":\d+,/g, 'task')
    .replace(/^content-length: .*$/im, 'length')
    .replaceAll(/^[\w-]+(?=:)/gm, name => name.toLowerCase());

const answersIn = (text: string) => text.split(/(?=HTTP\/1\.1 \d)/).filter(part => part !== '');
const statuses = (text: string) => answersIn(text).map(answer => answer.slice(9, 12));

/** Whole answers, of which the last is an answer to a press. */
const isWhole = (n: number) => (text: string) => answersIn(text).length === n && /\r\n\r\n.*\}$/s.test(text);

describe('presses', () => {
  let app: MemoryApp;
  before(async () => {
    app = await startMemoryApp();
    for (const [couponId, stock] of [
      ['welcome', 100],
      ['gone', 0],
      ['one', 1],
    ] as const) {
      await call(app.url, 'POST /coupons', { body: { couponId, name: couponId, stock } });
    }
  });
  after(() => app.stop());

  test('are answered byte for byte as node:http answers them', async t => {
    const heads: Record<string, (user: string) => string> = {
      accepted: user => press(user),
      'with a length of none': user => press(user, 'Content-Length: 0\r\nConnection: Keep-Alive\r\n'),
      'as a browser sends it': user =>
        press(user, 'accept: */*\r\norigin: http://127.0.0.1\r\nuser-agent: Mozilla/5.0 (X11; Linux)\r\nempty:\r\n'),
      'with a key': user => press(user, 'Idempotency-Key: abc\r\n'),
      'with a bad key': user => press(user, 'idempotency-key: a b\r\n'),
      'a name that comes twice': user => press(user, 'x-user-id: other\r\n'),
      'a bad user': user => press(`${user}/`),
      'a user with blanks around': user => press(`\t  ${user} \t`),
      nobody: () => press('').replace(/x-user-id.*\r\n/, ''),
      'no such coupon': user => press(user, '', '/coupons/none/issue'),
      'not an id': user => press(user, '', '/coupons/Welcome/issue'),
      'none left': user => press(user, '', '/coupons/gone/issue'),
      'no host': user => press(user).replace(host, ''),
      'an expectation': user => press(user, 'expect: a-miracle\r\n'),
      'the last one': user => press(user, 'connection: close\r\n'),
    };
    for (const [name, head] of Object.entries(heads)) {
      await t.test(name, async () => {
        const user = `u${Object.keys(heads).indexOf(name)}`;
        const direct = await raw(app.port, head(`${user}a`), isWhole(1));
        const around = await raw(app.port, roundabout(head(`${user}b`)), isWhole(1));
        assert.equal(comparable(direct), comparable(around));
      });
    }
  });

  test('questions for tasks that nobody was given are answered as node:http answers them, however many in a row', async () => {
    const ids = ['x', 'a'.repeat(400), 'a'.repeat(500), 'a%2Fb', "a!$&'()*+,;=:@.~_-", 'caf%C3%A9'];
    for (const path of ids.flatMap(id => [`/tasks/${id}`, `/tasks/${id}/events`])) {
      const direct = await raw(app.port, question(path), isWhole(1));
      const around = await raw(app.port, question(path, nodes), isWhole(1));
      assert.match(direct, /UNKNOWN_TASK/);
      assert.equal(comparable(direct), comparable(around), path);
    }
    const many = Array.from({ length: 500 }, (_, i) => question(`/tasks/${i}`)).join('');
    const text = await raw(app.port, many, isWhole(500));
    assert.deepEqual(new Set(statuses(text)), new Set(['404']));
    // Node:http has no more than some tens of one connection in hand.
    const around = await raw(app.port, many.replaceAll(host, host + nodes), isWhole(33));
    assert.ok(statuses(around).includes('429'));
  });

  test('what stands between such questions is answered in its place', async () => {
    const { taskId } = JSON.parse(/\{.*\}$/s.exec(await inTurn([press('una')]))?.[0] ?? '') as { taskId: string };
    const [strange, genuine] = [question('/tasks/x'), question(`/tasks/${taskId}`)];
    const cases: [string, string[]][] = [
      [strange + press('ova'), ['404', '202']],
      [strange + strange + genuine + strange, ['404', '404', '200', '404']],
      [`${strange}GET /healthz HTTP/1.1\r\n${host}\r\n${strange}`, ['404', '200', '404']],
      [strange + question('/tasks/%zz'), ['404', '400']],
      [`${strange}\u0001 garbage\r\n\r\n`, ['404', '400']],
    ];
    for (const [bytes, ought] of cases) {
      const text = await raw(app.port, bytes, got => statuses(got).length === ought.length && /\}$/.test(got));
      assert.deepEqual(statuses(text), ought, bytes);
    }
  });

  test("such a question may come in any pieces, and what begins as one is node:http's after a while", async () => {
    const two = question('/tasks/x') + question('/tasks/y/events');
    for (let at = 1; at < two.length; at++) {
      const text = await inPieces([two.slice(0, at), two.slice(at)], isWhole(2));
      assert.deepEqual(statuses(text), ['404', '404'], `${at}`);
    }
    const other = await startMemoryApp({ bounds: { headersMs: 50, checkMs: 20 } });
    assert.deepEqual(statuses(await raw(other.port, `${two}GET /tasks/z`)), ['404', '404']);
    assert.match(await raw(other.port, 'GET /ta'), /^HTTP\/1\.1 400 /);
    await other.stop();
  });

  test('half a question, and no more of it, is a fault of its address as it is through node:http', async () => {
    const other = await startMemoryApp({ settings: { faultsPerAddress: 1 } });
    const socket = connect({ port: other.port, host: '127.0.0.1', allowHalfOpen: true });
    let text = '';
    socket.on('data', chunk => {
      text += String(chunk);
    });
    socket.end(`${question('/tasks/x')}GET /tasks/y`);
    await once(socket, 'close');
    assert.deepEqual(statuses(text), ['404', '400']);
    assert.equal(await raw(other.port, question('/tasks/z'), isWhole(1)), '', 'shut out');
    await other.stop();
  });

  test('a connection that brings anything else is handed over, and goes on', async () => {
    const text = await inTurn([
      press('ann'),
      press('bob'),
      `GET /healthz HTTP/1.1\r\n${host}\r\n`,
      press('cat'),
      press('dan', 'content-type: application/json\r\ncontent-length: 2\r\n').concat('{}'),
    ]);
    assert.deepEqual(statuses(text), ['202', '202', '200', '202', '202']);
  });

  test('one that comes in pieces, or with another behind it, is answered, in order', async () => {
    const two = press('eve', '', '/coupons/none/issue') + press('eve');
    assert.deepEqual(statuses(await raw(app.port, two, isWhole(2))), ['404', '202']);
    const text = await inPieces([press('fay').slice(0, 30), press('fay').slice(30)], isWhole(1));
    assert.deepEqual(statuses(text), ['202']);
  });

  test('what comes while an answer is awaited waits for it', async () => {
    const pieces = [press('gil'), press('gil', '', '/coupons/none/issue'), press('hal', 'connection: close\r\n')];
    assert.deepEqual(statuses(await inPieces(pieces, isWhole(3))), ['202', '404', '202']);
  });

  test('behind an answer that ends the connection nothing is carried out', async () => {
    const socket = connect({ port: app.port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    let text = '';
    socket.on('data', chunk => {
      text += String(chunk);
    });
    const nextBefore = await requests();
    socket.write(press('jo', 'origin: http://evil.example\r\n'));
    await once(socket, 'end');
    assert.match(text, /^HTTP\/1\.1 403 [\s\S]*connection: close/);
    // It was issued, and its answer never written.
    socket.end(press('kim'));
    await once(socket, 'close');
    await inTurn([press('leo')]);
    assert.equal(await requests(), nextBefore + 1, "leo's alone");
  });

  test('nor behind one of node:http, in the same piece', async () => {
    const large = press('may', 'content-length: 5000\r\n') + 'x'.repeat(5_000);
    const firsts = [
      'POST /coupons/welcome/issue HTTP/1.1\r\n\r\n',
      'GET /healthz HTTP/1.1\r\nhost: x\r\nexpect: more\r\n\r\n',
      large,
    ];
    const nextBefore = await requests();
    for (const [i, first] of firsts.entries())
      assert.equal(statuses(await raw(app.port, first + press(`kai${i}`))).length, 1);
    await inTurn([press('ned')]);
    assert.equal(await requests(), nextBefore + 1, "ned's alone");
  });

  test('a smuggled request is none: whoever says two lengths is refused by node:http', async () => {
    const lengths = 'content-length: 0\r\ncontent-length: 0\r\n';
    for (const more of [lengths, 'transfer-encoding: chunked\r\ncontent-length: 0\r\n']) {
      assert.match(await raw(app.port, press('ivy', more)), /^HTTP\/1\.1 400 /);
    }
  });

  test('an idle connection does not keep the server from stopping, and who waits is answered', async () => {
    const other = await startMemoryApp();
    await call(other.url, 'POST /coupons', { body: { couponId: 'welcome', name: 'Welcome', stock: 1 } });
    const socket = await connected(other.port);
    let text = '';
    socket.on('data', chunk => {
      text += String(chunk);
    });
    socket.write(press('ann'));
    await until(() => text, isWhole(1));
    const closed = once(socket, 'close');
    await other.stop();
    await closed;
  });

  test('one that never asks is held against the time that node:http gives it', async () => {
    const other = await startMemoryApp({ bounds: { headersMs: 50, checkMs: 20 } });
    assert.equal(await raw(other.port, ''), '');
    await other.stop();
  });

  const requests = () => app.log.end(requestLog, 0);

  /** Each after the answer to the one before. */
  async function inTurn(requests: string[]): Promise<string> {
    const socket = await connected(app.port);
    let text = '';
    socket.on('data', chunk => {
      text += String(chunk);
    });
    for (const [i, request] of requests.entries()) {
      socket.write(request);
      await until(() => text, isWhole(i + 1));
    }
    socket.destroy();
    return text;
  }

  /** Each as a packet of its own, without waiting for answers. */
  async function inPieces(pieces: string[], enough: (text: string) => boolean): Promise<string> {
    const socket = await connected(app.port);
    socket.setNoDelay();
    let text = '';
    socket.on('data', chunk => {
      text += String(chunk);
    });
    for (const piece of pieces) await new Promise(resolve => socket.write(piece, resolve));
    await until(() => text, enough);
    socket.destroy();
    return text;
  }
});

async function connected(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

class Double extends EventEmitter {
  writable = true;
  writableLength = 0;
  isDestroyed = false;
  handedOver = false;
  written = '';
  write(text: string) {
    this.written += text;
  }
  isPaused = false;
  pause() {
    this.isPaused = true;
  }
  resume() {
    this.isPaused = false;
  }
  unshift() {}
  destroy() {
    this.isDestroyed = true;
  }
}

const begin = (double: Double, turn = new Turn(), elapsed = () => 0) =>
  new BareConnection(double as unknown as Socket, {
    ...{ turn, elapsed, ended() {}, serve() {}, broken() {} },
    ...{ isStrange: () => true, stranger: { status: 404, headers: [], body: '' } },
    handOver() {
      double.handedOver = true;
    },
  });

test('a connection is ended when it rests too long, or leaves an answer unread', () => {
  const begun = (answered: boolean, unread = 0) => {
    const double = new Double();
    const connection = begin(double, new Turn(), () => now);
    double.emit('data', Buffer.from(press('ann')));
    if (answered) connection.answer({ status: 202, headers: [], body: '' });
    double.writableLength = unread;
    return { double, connection };
  };
  let now = 0;
  const [awaiting, resting, unread] = [begun(false), begun(true), begun(true, 100)];
  const ended = (ms: number) => {
    now = ms;
    for (const { connection } of [awaiting, resting, unread]) connection.check(500);
    return [awaiting, resting, unread].map(({ double }) => double.isDestroyed);
  };
  assert.deepEqual(ended(500), [false, false, false]);
  assert.deepEqual(ended(501), [false, false, true]);
  assert.deepEqual(ended(keepAliveMs), [false, false, true]);
  assert.deepEqual(ended(keepAliveMs + 1), [false, true, true]);
  // Node:http reads no more from one who takes no answers: here nothing would bound what waits to be written.
  const greedy = begun(true, 100);
  greedy.double.emit('data', Buffer.from(press('bob')));
  assert.ok(greedy.double.handedOver);
});

test('a press is one head, whole, and says nothing of how HTTP goes on', () => {
  const isPress = (text: string) => pressOf(Buffer.from(text, 'latin1')) !== undefined;
  const whole = press('ann', 'connection: keep-alive\r\ncontent-length: 0\r\nexample: b\t c \r\n');
  assert.ok(isPress(whole));
  for (let end = 0; end < whole.length; end++) assert.ok(!isPress(whole.slice(0, end)), `${end} bytes of it`);
  const others: Record<string, string> = {
    'something behind it': `${whole}x`,
    'a line break of one byte': whole.replace('\r\n', '\n'),
    'a bare carriage return': whole.replace('b\t c', 'b\rc'),
    'a line that goes on': whole.replace('b\t c', 'b\r\n c'),
    'a blank before the colon': whole.replace('example:', 'example :'),
    'a name that is none': whole.replace('example', 'exa(mple'),
    'a byte above ASCII': whole.replace('b\t c', 'b\xe9c'),
    'a zero byte': whole.replace('b\t c', 'b\0c'),
    'HTTP/1.0': whole.replace('HTTP/1.1', 'HTTP/1.0'),
    'another method': whole.replace('POST', 'post'),
    'another route': whole.replace('/issue', '/stats'),
    'a query': whole.replace('/issue', '/issue?a=b'),
    'an escape': whole.replace('welcome', '%77elcome'),
    'two hosts': whole.replace(host, host + host),
    'no host': whole.replace(host, ''),
    'no header': 'POST /coupons/welcome/issue HTTP/1.1\r\n\r\n',
    'a body': whole.replace('length: 0', 'length: 1'),
    'a length of two digits': whole.replace('length: 0', 'length: 00'),
    'two lengths': whole.replace('example: b', 'content-length: 0'),
    'two origins': whole.replace('example: b', 'origin:\r\nOrigin: b'),
    'two sites': whole.replace('example: b', 'sec-fetch-site:\r\nSec-Fetch-Site: b'),
    'an end': whole.replace('keep-alive', 'close'),
    'an upgrade': whole.replace('keep-alive', 'keep-alive, upgrade'),
    chunks: whole.replace('example', 'Transfer-Encoding'),
    'an expectation': whole.replace('example', 'Expect'),
    'more than a press needs': whole.replace('example: b', `example: ${'b'.repeat(4096)}`),
  };
  for (const [name, text] of Object.entries(others)) assert.ok(!isPress(text), name);
});

test('a question for a strange task is one head, whole, and says nothing of how HTTP goes on', () => {
  const read = (text: string, max = 9) => strangersIn(Buffer.from(text, 'latin1'), segment => segment !== 'given', max);
  const whole = question('/tasks/x', 'connection: keep-alive\r\ncontent-length: 0\r\nexample: b\t c \r\n');
  assert.deepEqual(read(whole), { count: 1, end: whole.length, goesOn: 'otherwise' });
  for (let end = 1; end < whole.length; end++) {
    assert.deepEqual(
      read(whole + whole.slice(0, end)),
      { count: 1, end: whole.length, goesOn: 'begun' },
      `${end} bytes`,
    );
  }
  const others: Record<string, string> = {
    'a line break of one byte': whole.replace('\r\n', '\n'),
    'a line that goes on': whole.replace('b\t c', 'b\r\n c'),
    'a byte above ASCII': whole.replace('b\t c', 'b\xe9c'),
    'HTTP/1.0': whole.replace('HTTP/1.1', 'HTTP/1.0'),
    'another method': whole.replace('GET', 'HEAD'),
    'another route': whole.replace('/tasks/x', '/tasks/x/y'),
    'no id': whole.replace('/tasks/x', '/tasks/'),
    'a query': whole.replace('/tasks/x', '/tasks/x?a=b'),
    'two hosts': whole.replace(host, host + host),
    'no host': whole.replace(host, ''),
    'a body': whole.replace('length: 0', 'length: 1'),
    'two lengths': whole.replace('example: b', 'content-length: 0'),
    'an end': whole.replace('keep-alive', 'close'),
    chunks: whole.replace('example', 'Transfer-Encoding'),
    'an expectation': whole.replace('example', 'Expect'),
    'more than it needs': whole.replace('example: b', `example: ${'b'.repeat(4096)}`),
    'one that somebody was given': whole.replace('/tasks/x', '/tasks/given'),
  };
  for (const [name, text] of Object.entries(others)) {
    assert.deepEqual(read(whole + text + whole), { count: 1, end: whole.length, goesOn: 'otherwise' }, name);
  }
  assert.deepEqual(read(`GET /tasks/${'x'.repeat(4096)}`).goesOn, 'otherwise', 'too long to become one');
  assert.deepEqual(read(whole.repeat(3), 2), { count: 2, end: 2 * whole.length, goesOn: 'more' });
});

test("a flood of questions is not node:http's because a read ended within one, and who leaves one begun is", () => {
  const double = new Double();
  const connection = begin(double);
  const [head, tail] = [question('/tasks/x').slice(0, 20), question('/tasks/x').slice(20)];
  const looked = () => {
    connection.check(500);
    return double.handedOver;
  };
  double.emit('data', Buffer.from(question('/tasks/x') + head));
  for (let i = 0; i < 3; i++) {
    assert.equal(looked(), false);
    double.emit('data', Buffer.from(tail + head));
  }
  assert.equal(looked(), false);
  double.emit('data', Buffer.from(tail.slice(0, 3)));
  assert.equal(looked(), true);
});

test('a turn answers so many questions, whoever asks, and who waits for the next is served in order', async () => {
  const turn = new Turn();
  const doubles = [0, 1, 2].map(() => new Double());
  const connections = doubles.map(double => {
    const connection = begin(double, turn);
    double.emit('data', Buffer.from(question('/tasks/x').repeat(150)));
    return connection;
  });
  const answered = () => doubles.map(double => answersIn(double.written).length);
  assert.deepEqual(answered(), [150, 106, 0]);
  // What is paused is neither idle nor given to node:http.
  for (const double of doubles.slice(1)) assert.ok(double.isPaused);
  for (const connection of connections) connection.check(500);
  assert.deepEqual(
    connections.map(({ isIdle }) => isIdle),
    [true, false, false],
  );
  await new Promise(setImmediate);
  assert.deepEqual(answered(), [150, 150, 150]);
  for (const double of doubles) assert.ok(!double.isPaused && !double.handedOver);
});

test('of what stands behind an answer that ends the connection node:http makes nothing', async () => {
  let made = 0;
  const server = createServer((req, res) => {
    made++;
    willEnd(req.socket);
    setImmediate(() => res.writeHead(400, ['connection', 'close']).end());
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const text = await raw((server.address() as AddressInfo).port, `GET / HTTP/1.1\r\n${host}\r\n`.repeat(1_000));
  assert.deepEqual([statuses(text), made], [['400'], 1]);
  server.close();
});
