/** A crowd that comes all at once, as when another server has died. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { suite, test } from 'node:test';
import { dial } from '../../attack/sockets.ts';
import { startTarget } from '../../attack/target.ts';
import type { CouponId } from '../../src/coupon.ts';
import { Unavailable } from '../../src/errors.ts';
import { verificationsWaitingMax } from '../../src/http/limits.ts';
import { Verifications } from '../../src/http/verifications.ts';
import type { CouponStore } from '../../src/ports.ts';
import { call } from '../support/calls.ts';
import { open } from '../support/http-claims.ts';
import { startMemoryApp } from '../support/memory-app.ts';
import { until } from '../support/until.ts';

const crowd = 1_000;
const listenMax = '/proc/sys/net/core/somaxconn';
const noLinux = process.platform !== 'linux' && 'the bound of the kernel is read from /proc, which is not there';
const skip = noLinux || (Number(readFileSync(listenMax, 'utf8')) < crowd && `${listenMax} is below ${crowd}`);

// Node's own 511: the others' first packet was lost, and they came in 1 or 3 s later.
test('1,000 who connect while the event loop is busy are all connected, and served once it is free', {
  skip,
  timeout: 30_000,
}, async () => {
  const target = await startTarget({ auth: 'none' });
  process.kill(target.pid, 'SIGSTOP');
  const ask = 'GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n';
  const lines = await Promise.all(Array.from({ length: crowd }, () => dial(target.port, ask)));
  process.kill(target.pid, 'SIGCONT');
  for (const text of await Promise.all(lines.map(line => line.closed))) assert.match(text, /^HTTP\/1\.1 200 /);
  await target.stop();
});

// Of a thousand coupons each reading took 10 ms of the event loop.
test('many who ask for all coupons at once are answered from few readings, and see what was made before they asked', async () => {
  let readings = 0;
  const counted = (store: CouponStore): CouponStore =>
    Object.assign(Object.create(store), {
      listCoupons(limit: number) {
        readings++;
        return store.listCoupons(limit);
      },
    });
  const app = await startMemoryApp({ tamper: { store: counted } });
  await open(app, 'first', 1);
  const all = await Promise.all(Array.from({ length: 200 }, () => call(app.url, 'GET /coupons')));
  for (const { body } of all) assert.equal(body.items.length, 1);
  assert.ok(readings < 100, `${readings} readings`);
  const asked = call(app.url, 'GET /coupons');
  await open(app, 'second', 1);
  assert.equal((await call(app.url, 'GET /coupons')).body.items.length, 2);
  await asked;
  await app.stop();
});

// Each works for some 10 ms between two rests, and those of several came together; after a while hundreds had waited
// for their turn, over two million entries each, also for clients that had gone.
suite('verifications', () => {
  const gone = (): ServerResponse => new EventEmitter() as ServerResponse;
  const [a, b] = ['a', 'b'] as CouponId[];

  test('are done one after the other, each for all who waited for it, also one that fails', async () => {
    const turns: PromiseWithResolvers<string>[] = [];
    const verifications = new Verifications(() => {
      turns.push(Promise.withResolvers());
      return (turns.at(-1) as PromiseWithResolvers<string>).promise;
    });
    const ask = () => verifications.ask(undefined, gone()).catch((error: Error) => error.message);
    const first = ask();
    await until(() => turns.length === 1);
    const others = Array.from({ length: 9 }, ask);
    turns[0]?.resolve('report 1');
    assert.equal(await first, 'report 1');
    await until(() => turns.length === 2);
    const later = ask();
    turns[1]?.reject(new Unavailable('the log does not answer'));
    assert.deepEqual(await Promise.all(others), Array(9).fill('the log does not answer'));
    await until(() => turns.length === 3);
    turns[2]?.resolve('report 3');
    assert.equal(await later, 'report 3');
    assert.equal(turns.length, 3);
  });

  test('end when the last who waits has gone, and do not begin for nobody', async () => {
    const begun: (CouponId | undefined)[] = [];
    const verifications = new Verifications(async (couponId, signal) => {
      begun.push(couponId);
      if (begun.length > 1) return 'a report';
      await new Promise(resolve => signal.addEventListener('abort', resolve));
      throw signal.reason;
    });
    const clients = [gone(), gone(), gone()] as const;
    const [one, other, left] = [a, a, b].map((id, i) => verifications.ask(id, clients[i] as ServerResponse)) as [
      ...Promise<unknown>[],
    ];
    await until(() => begun.length === 1);
    clients[0].emit('close');
    clients[2].emit('close');
    const last = verifications.ask(undefined, gone());
    clients[1].emit('close');
    for (const ended of [one, other, left]) await assert.rejects(ended as Promise<unknown>, /nobody waits/);
    assert.equal(await last, 'a report');
    assert.deepEqual(begun, [a, undefined]);
  });

  test('of different coupons are bounded', async () => {
    const go = Promise.withResolvers<void>();
    const verifications = new Verifications(() => go.promise);
    const first = verifications.ask(a, gone());
    await new Promise(setImmediate);
    const waiting = Array.from({ length: verificationsWaitingMax }, (_, i) =>
      verifications.ask(`c${i}` as CouponId, gone()),
    );
    await assert.rejects(verifications.ask(b, gone()), Unavailable);
    const shared = verifications.ask('c0' as CouponId, gone());
    go.resolve();
    await Promise.all([first, ...waiting, shared]);
  });

  test('answer over HTTP, and go on when a client leaves', async () => {
    let begun = 0;
    const app = await startMemoryApp({
      async verify(_, signal) {
        if (++begun > 1) return { ok: true };
        await new Promise(resolve => signal.addEventListener('abort', resolve));
        throw signal.reason;
      },
    });
    const { socket } = await dial(app.port, 'GET /admin/verify HTTP/1.1\r\nhost: x\r\n\r\n');
    await until(() => begun === 1);
    socket.destroy();
    assert.equal((await call(app.url, 'GET /admin/verify')).status, 200);
    await app.stop();
  });
});
