import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, suite, test } from 'node:test';
import type { CouponRow } from '../src/coupon.ts';
import { Latch } from '../src/latch.ts';
import { latchCouponsMax, latchMsMax } from '../src/limits.ts';
import type { LedgerReader, SaleView } from '../src/ports.ts';
import type { Phase } from '../src/sale.ts';
import { c } from './support/entries.ts';
import { fakeHost } from './support/fake-host.ts';

const readEveryMs = latchMsMax * 0.8;
const host = fakeHost();
let phases: Map<string, Phase>;
let asked: string[][];
let gate: Promise<void> | undefined;
let fail: boolean;
let latch: Latch;

const ledger = {
  async sales(wanted: readonly { couponId: string }[]) {
    asked.push(wanted.map(w => w.couponId));
    const answer = new Map([...phases].map(([id, phase]) => [id, { phase } as SaleView]));
    await gate;
    if (fail) throw new Error('ledger away');
    return answer;
  },
} as unknown as LedgerReader;

beforeEach(() => {
  mock.timers.enable({ apis: ['setInterval'] });
  [phases, asked, gate, fail] = [new Map(), [], undefined, false];
  latch = new Latch({ ledger, host, say() {} });
});
afterEach(() => {
  latch.stop();
  mock.timers.reset();
});

const watch = (couponId: string) => latch.watch({ couponId: c(couponId), partition: 0 } as CouponRow);
const settle = async () => {
  for (let i = 0; i < 10; i++) await Promise.resolve();
};
/** The next background read, answered. */
const read = async () => {
  host.time += readEveryMs;
  mock.timers.tick(readEveryMs);
  await settle();
};

suite('a latch', () => {
  test('is open until a read has confirmed that the coupon is sold out or closed', async () => {
    phases.set('a', 'sold_out').set('b', 'closed').set('d', 'open').set('e', 'not_open');
    for (const id of ['a', 'b', 'd', 'e', 'f']) watch(id);
    assert.equal(latch.shut('a'), undefined);
    await read();
    assert.deepEqual(
      ['a', 'b', 'd', 'e', 'f', 'never'].map(id => latch.shut(id)),
      ['sold_out', 'closed', undefined, undefined, undefined, undefined],
    );
    assert.deepEqual(
      ['d', 'e', 'f'].map(id => latch.phase(id)),
      ['open', 'not_open', undefined],
    );
    assert.deepEqual(asked, [['a', 'b', 'd', 'e', 'f']]);
  });
  test('holds for at most its time from when the read was sent, not from when it was answered', async () => {
    phases.set('a', 'sold_out');
    watch('a');
    const answered = Promise.withResolvers<void>();
    gate = answered.promise;
    host.time += readEveryMs;
    mock.timers.tick(readEveryMs);
    host.time += 300;
    answered.resolve();
    await settle();
    assert.equal(latch.shut('a'), 'sold_out');
    host.time += latchMsMax - 301;
    assert.equal(latch.shut('a'), 'sold_out');
    host.time += 1;
    assert.equal(latch.shut('a'), undefined);
  });
  test('stays shut without a gap while the reads go on, one at a time', async () => {
    phases.set('a', 'sold_out');
    watch('a');
    await read();
    for (let i = 0; i < 5; i++) {
      host.time += readEveryMs - 1;
      assert.equal(latch.shut('a'), 'sold_out');
      host.time -= readEveryMs - 1;
      await read();
    }
    assert.equal(asked.length, 6);
    gate = new Promise(() => {});
    await read();
    await read();
    assert.equal(asked.length, 7);
  });
  test('opens when a read says so, also when the coupon is gone from the ledger', async () => {
    phases.set('a', 'sold_out').set('b', 'sold_out');
    watch('a');
    watch('b');
    await read();
    phases.set('a', 'open').delete('b');
    await read();
    assert.deepEqual([latch.shut('a'), latch.shut('b')], [undefined, undefined]);
  });
  test('is not prolonged by a read that failed', async () => {
    phases.set('a', 'sold_out');
    watch('a');
    await read();
    fail = true;
    await read();
    await read();
    assert.equal(latch.shut('a'), undefined);
    fail = false;
    await read();
    assert.equal(latch.shut('a'), 'sold_out');
  });
  test('forgets everything when it is dropped', async () => {
    phases.set('a', 'sold_out');
    watch('a');
    await read();
    latch.drop();
    assert.equal(latch.shut('a'), undefined);
  });
  test('does not follow a coupon that nobody asks for any more, nor read for nobody', async () => {
    phases.set('a', 'sold_out');
    watch('a');
    for (let i = 0; i < 20; i++) await read();
    const reads = asked.length;
    assert.ok(reads < 15);
    await read();
    assert.equal(asked.length, reads);
    watch('a');
    await read();
    assert.equal(asked.length, reads + 1);
  });
  test('goes on following a coupon whose crowd it refuses', async () => {
    phases.set('a', 'sold_out');
    watch('a');
    for (let i = 0; i < 30; i++) {
      await read();
      assert.equal(latch.shut('a'), 'sold_out');
    }
  });
  test('follows a bounded number of coupons', async () => {
    for (let i = 0; i < latchCouponsMax + 5; i++) watch(`c${i}`);
    await read();
    assert.equal(asked[0]?.length, latchCouponsMax);
  });
  test('may be stopped twice', () => {
    watch('a');
    latch.stop();
    latch.stop();
  });
});
