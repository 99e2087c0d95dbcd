/** The window at the door: what a process knows of the log's clock, and whom it refuses by it. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, suite, test } from 'node:test';
import { requestLog } from '../src/entry.ts';
import type { Answer } from '../src/issue.ts';
import { clockSkewMsMax, latchMsMax, logClockMsMax, logClockRenewMs } from '../src/limits.ts';
import type { Phase } from '../src/sale.ts';
import { phase, rowOf, settle, setUp } from './support/door.ts';
import { c, k, u } from './support/entries.ts';

let on: ReturnType<typeof setUp>;
beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  on = setUp();
});
afterEach(() => {
  on.door.stop();
  mock.timers.reset();
});

const press = (user: string, key: number | undefined, coupon: string): Promise<Answer> =>
  on.door.issue(c(coupon), u(user), key === undefined ? undefined : k(key));
const codeOf = (answer: Answer) => (answer.kind === 'refused' ? answer.code : answer.kind);

suite('a window is judged by the clock of the log', () => {
  const openMs = 10_000;
  let opensAt: number;
  beforeEach(() => {
    opensAt = on.host.time + openMs;
    on.state.coupons.set('w', rowOf('w', { opensAt, closesAt: opensAt + 1_000 }));
  });
  /** All that is in the log is decided. */
  const decided = () => {
    assert.ok(on.state.view);
    on.state.view.next = on.log.of(requestLog).length;
    // The double stamps by the host's clock; the broker's is not off.
    on.state.view.clock = (on.log.of(requestLog).at(-1)?.at ?? 0) - (on.host.now() - on.host.time);
  };
  /** One passes and is decided, and with it this process knows the log's clock. */
  const known = async () => {
    assert.equal(codeOf(await press('first', 1, 'w')), 'accepted');
    decided();
  };
  /** The latch has read the phase. */
  const remembered = async (name: Phase) => {
    on.state.sales.set('w', { next: 1, clock: 1, taken: 0, phase: name, changes: [phase(name)] });
    mock.timers.tick(latchMsMax);
    await settle();
  };
  const closed = { kind: 'refused', code: 'INACTIVE_COUPON', reason: 'closed' };
  const notOpen = (waitMs: number) => ({
    kind: 'refused',
    code: 'INACTIVE_COUPON',
    reason: 'not_open',
    opensAt,
    waitMs,
  });

  test('while nothing is known of it everyone passes, then the crowd is refused early, without a read where no key is sent', async () => {
    await known();
    assert.deepEqual(await press('mia', 1, 'w'), notOpen(openMs));
    on.host.time += 1_000;
    await remembered('not_open');
    const reads = on.ledger.calls.get('read');
    for (let i = 0; i < 100; i++) {
      assert.deepEqual(await press(`u${i}`, undefined, 'w'), notOpen(openMs - 1_000));
    }
    assert.equal(on.ledger.calls.get('read'), reads);
    assert.equal(on.log.of(requestLog).length, 1);
  });
  for (const offMs of [-600_000, 600_000]) {
    test(`an API host whose clock is ${offMs / 60_000} minutes off refuses nobody who could win`, async () => {
      on.host.now = () => on.host.time + offMs;
      await known();
      assert.deepEqual(await press('mia', 1, 'w'), notOpen(openMs));
      on.host.time = opensAt;
      assert.equal(codeOf(await press('ben', 1, 'w')), 'accepted');
      decided();
      assert.equal(codeOf(await press('eve', 1, 'w')), 'accepted');
    });
  }
  test('who comes before the opening of a sale that was closed is not told to come again', async () => {
    await known();
    assert.deepEqual(await press('mia', undefined, 'w'), notOpen(openMs));
    Object.assign(on.state.view as object, { changes: [phase('not_open'), phase('closed', 1)] });
    await remembered('closed');
    assert.deepEqual([await press('ben', undefined, 'w'), await press('mia', 1, 'w')], [closed, closed]);
  });
  test('nor is he while the latch has not read, has forgotten, or is away', async () => {
    await known();
    assert.deepEqual(await press('mia', 1, 'w'), notOpen(openMs));
    Object.assign(on.state.view as object, { changes: [phase('not_open'), phase('closed', 1)] });
    // The first answer is the filter's, and teaches the latch nothing.
    for (const user of ['ann', 'ben']) assert.deepEqual(await press(user, undefined, 'w'), closed);
    await remembered('closed');
    on.ledger.always('sales');
    for (const ms of [0, latchMsMax]) {
      on.host.time += ms;
      assert.deepEqual(await press('eve', undefined, 'w'), closed);
    }
  });
  test('nor does it fill the log while the ledger is away, but for who may repeat a win', async () => {
    await known();
    assert.deepEqual(await press('ann', 1, 'w'), notOpen(openMs));
    await remembered('not_open');
    on.ledger.always('sales');
    on.ledger.always('read');
    on.host.time += latchMsMax;
    const before = on.log.of(requestLog).length;
    const crowd = await Promise.all(['a1', 'a2', 'a3'].map(user => press(user, undefined, 'w')));
    assert.deepEqual(crowd.map(codeOf), ['INACTIVE_COUPON', 'INACTIVE_COUPON', 'INACTIVE_COUPON']);
    assert.equal(on.log.of(requestLog).length, before);
    assert.equal(codeOf(await press('mia', 1, 'w')), 'accepted');
  });
  for (const [what, setMs] of [
    ['slept', 60_000],
    ['was set back', -60_000],
  ] as const) {
    test(`nothing is known of it on a host that ${what}, until an entry is decided again`, async () => {
      await known();
      assert.deepEqual(await press('mia', 1, 'w'), notOpen(openMs));
      on.host.clockSet = setMs;
      assert.equal(on.door.clock.shown(0), on.host.now());
      assert.equal(codeOf(await press('ben', 1, 'w')), 'accepted');
      decided();
      assert.deepEqual(await press('eve', 1, 'w'), notOpen(openMs));
    });
  }
  test('not within what brokers may differ by', async () => {
    await known();
    on.host.time = opensAt - clockSkewMsMax - 1;
    assert.equal(codeOf(await press('mia', 1, 'w')), 'INACTIVE_COUPON');
    on.host.time++;
    assert.equal(codeOf(await press('mia', 1, 'w')), 'accepted');
  });
  test('counted from when the entry was handed over, though it was decided late', async () => {
    assert.equal(codeOf(await press('first', 1, 'w')), 'accepted');
    on.host.time += 5_000;
    decided();
    assert.deepEqual(await press('mia', 1, 'w'), notOpen(openMs - 5_000));
  });
  test('and though the log acknowledged it late', async () => {
    const gate = Promise.withResolvers<void>();
    on.log.gate = gate.promise;
    const first = press('first', 1, 'w');
    await settle();
    const clock = on.host.time;
    on.host.time += 5_000;
    gate.resolve();
    assert.equal(codeOf(await first), 'accepted');
    // The broker stamped it when it came; only its answer was slow.
    Object.assign(on.state.view as object, { next: 1, clock });
    assert.deepEqual(await press('mia', 1, 'w'), notOpen(openMs - 5_000));
    on.host.time = opensAt;
    assert.equal(codeOf(await press('mia', 1, 'w')), 'accepted');
  });
  for (const key of [1, undefined]) {
    test(`what is known is renewed by one request a second, and given up when it is old (${key ? 'with' : 'without'} a key)`, async () => {
      opensAt += 3_600_000;
      on.state.coupons.set('w', rowOf('w', { opensAt }));
      await known();
      on.host.time += logClockRenewMs;
      assert.equal(codeOf(await press('a0', key, 'w')), 'INACTIVE_COUPON');
      on.host.time += 1_001;
      await remembered('not_open');
      const crowd = await Promise.all(['a1', 'a2', 'a3'].map(user => press(user, key, 'w')));
      assert.deepEqual(crowd.map(codeOf), ['accepted', 'INACTIVE_COUPON', 'INACTIVE_COUPON']);
      on.host.time += logClockMsMax;
      assert.equal(codeOf(await press('a4', key, 'w')), 'accepted');
    });
  }
  test('closed once the partition is past it, by any entry', async () => {
    assert.ok(on.state.view);
    on.host.time = opensAt + 3_600_000;
    on.state.view.clock = opensAt + 999;
    assert.equal(codeOf(await press('mia', 1, 'w')), 'accepted');
    on.state.view.clock++;
    assert.deepEqual(await press('eve', 1, 'w'), closed);
  });
});
