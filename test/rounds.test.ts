import assert from 'node:assert/strict';
import { test } from 'node:test';
import { medianRange } from '../bench/rounds.ts';

/** That so many of `n` coins fall on one side, at most. */
function atMost(most: number, n: number): number {
  let sum = 0;
  let exactly = 0.5 ** n;
  for (let k = 0; k <= most; k++) {
    sum += exactly;
    exactly *= (n - k) / (k + 1);
  }
  return sum;
}

// By the normal distribution it was 0.92 to 0.95 for half of the numbers of rounds, 8, 16 and 50 of them.
test('the range of a median holds it 95 times in a hundred, and is no wider than that takes', () => {
  for (let n = 6; n <= 200; n++) {
    const { low, high } = medianRange(Array.from({ length: n }, (_, i) => n - 1 - i));
    assert.equal(high, n - 1 - low);
    assert.ok(atMost(low, n) <= 0.025, `${n}: ${low}`);
    assert.ok(atMost(low + 1, n) > 0.025, `${n}: ${low}`);
  }
  assert.deepEqual(medianRange([3, 1, 2]), { median: 2, low: 1, high: 3 });
});
