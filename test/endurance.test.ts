/** What the numbers under faults rest on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arrive, underWayMax } from '../bench/endurance/arrivals.ts';
import { verdictOf } from '../bench/endurance/number.ts';

test('who does not come since too many wait is counted', async () => {
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
  let looks = 0;
  const going = () => {
    if (++looks > 50) answer();
    return looks <= 50;
  };
  const { pressed, missed } = await arrive(1_000_000, going, async () => answered);
  assert.equal(pressed, underWayMax);
  assert.ok(missed > 0);
  const ended = performance.now() + 20;
  const slow = await arrive(
    1_000,
    () => performance.now() < ended,
    async () => {},
  );
  assert.equal(slow.missed, 0);
});

test('a broken promise is more than a number that is short', () => {
  const line = { number: 'n', toReach: '0', measured: '1' };
  assert.equal(verdictOf({ ...line, reached: true, broken: false }), 'reached');
  assert.equal(verdictOf({ ...line, reached: false }), 'SHORT');
  assert.equal(verdictOf({ ...line, reached: false, broken: true }), 'BROKEN');
});
