/** A crowd that comes all at once, as when another server has died. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { dial } from '../../attack/sockets.ts';
import { startTarget } from '../../attack/target.ts';
import { Unavailable } from '../../src/errors.ts';
import { verificationsWaitingMax } from '../../src/http/limits.ts';
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
test('verify is asked by many at once, done one after the other, and shared by who waits, also when it fails', async () => {
  let [running, runningMax, calls] = [0, 0, 0];
  const app = await startMemoryApp({
    async verify() {
      runningMax = Math.max(runningMax, ++running);
      // The first goes on until all others have come.
      await setTimeout(calls === 0 ? 300 : 1);
      running--;
      if (++calls === 2) throw new Unavailable('the log does not answer');
      return { ok: true };
    },
  });
  const answers = await Promise.all(Array.from({ length: 10 }, () => call(app.url, 'GET /admin/verify')));
  assert.deepEqual([runningMax, calls], [1, 2]);
  assert.deepEqual(
    answers.map(({ status }) => status).sort((a, b) => a - b),
    [200, ...Array<number>(9).fill(503)],
  );
  assert.equal((await call(app.url, 'GET /admin/verify')).status, 200);
  await app.stop();
});
test('a verification for which nobody waits any more ends, and one that has not begun does not begin', async () => {
  const begun: (string | undefined)[] = [];
  const ended = Promise.withResolvers<unknown>();
  const app = await startMemoryApp({
    async verify(couponId, signal) {
      begun.push(couponId);
      if (begun.length > 1) return { ok: true };
      await new Promise(resolve => signal.addEventListener('abort', resolve));
      ended.resolve(signal.reason);
      throw signal.reason;
    },
  });
  await open(app, 'a', 1);
  const { port } = new URL(app.url);
  const ask = (query: string) =>
    dial(Number(port), `GET /admin/verify${query} HTTP/1.1\r\nhost: x\r\nx-user-id: o\r\n\r\n`);
  const first = await ask('');
  await until(() => begun.length === 1);
  const second = await ask('?couponId=a');
  // Until it has come, and until its end is known.
  await setTimeout(200);
  second.socket.destroy();
  await setTimeout(200);
  first.socket.destroy();
  assert.match(`${await ended.promise}`, /nobody waits/);
  assert.equal((await call(app.url, 'GET /admin/verify')).status, 200);
  assert.deepEqual(begun, [undefined, undefined]);
  await app.stop();
});
test('different verifications that wait are bounded', async () => {
  const go = Promise.withResolvers<void>();
  const app = await startMemoryApp({
    async verify() {
      await go.promise;
      return { ok: true };
    },
  });
  const ids = Array.from({ length: verificationsWaitingMax + 2 }, (_, i) => `c${i}`);
  for (const id of ids) await open(app, id, 1);
  const asked = ids.map(id => call(app.url, `GET /admin/verify?couponId=${id}`));
  const refused = await Promise.race(asked);
  assert.deepEqual([refused.status, refused.body.code], [503, 'UNAVAILABLE']);
  go.resolve();
  const statuses = (await Promise.all(asked)).map(({ status }) => status);
  assert.equal(statuses.filter(status => status === 200).length, verificationsWaitingMax + 1);
  await app.stop();
});
