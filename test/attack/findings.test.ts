/** Which figures of an attack are findings. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { late, throughputFindings } from '../../attack/findings.ts';
import type { Kept } from '../../attack/throughput.ts';

const fine: Kept = {
  ...{ behaviour: 'slow-heads', cores: 0.1, held: 1_000, others: 0.1, errors: [] },
  ...{ perSecond: [950, 1_000], p99Ms: [9, 8], stalledMs: [30, 20], hostile: [5_000, 5_000], besideCpu: [0.1, 0.1] },
  ...{ byWall: { median: 0.95, low: 0.9, high: 1 }, byCpu: { median: 0.95, low: 0.9, high: 1 } },
};
const findings = (than: Partial<Kept>, judged = true) => throughputFindings([{ ...fine, ...than }], () => judged);

test('an event loop that stood still is a finding', () => {
  assert.deepEqual(late(100, 'then'), []);
  assert.deepEqual(late(100.5, 'then'), ['the event loop was 101 ms late, then']);
});

test('beside a hostile client it is one when it does not stand still alone', () => {
  assert.deepEqual(findings({}), []);
  assert.deepEqual(findings({ stalledMs: [100, 20] }), []);
  const said = 'beside slow-heads the event loop was 120 ms late, and 80.0 ms alone; medians of the rounds';
  assert.deepEqual(findings({ stalledMs: [120, 80] }), [said]);
  assert.deepEqual(findings({ stalledMs: [180, 120] }), []);
  assert.deepEqual(findings({ stalledMs: [120, 80] }, false), []);
});

test('a throughput that is lost is one, and so is what the server said of whatever it was not judged for', () => {
  const byWall = { median: 0.85, low: 0.8, high: 0.9 };
  assert.match(findings({ byWall }).join(), /^honest users keep 0\.850 \(0\.80 to 0\.90\) .* beside slow-heads$/);
  assert.deepEqual(findings({ byWall }, false), []);
  for (const judged of [true, false])
    assert.deepEqual(findings({ errors: ['x'] }, judged), ['beside slow-heads the server said x']);
});
