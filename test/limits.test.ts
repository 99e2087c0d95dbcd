import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as limits from '../src/limits.ts';

suite('bounds that depend on each other', () => {
  test('every bound is a positive whole number', () => {
    for (const [name, value] of Object.entries(limits)) assert.ok(Number.isSafeInteger(value) && value > 0, name);
  });
  test('every name ends with what it bounds, or its unit', () => {
    for (const name of Object.keys(limits)) assert.match(name, /(Max|Min|Ms|BytesMax)$/, name);
  });
  test('an append is answered within a second, the filter included', () => {
    assert.ok(limits.appendAnswerMsMax < 1_000);
    assert.ok(limits.filterMsMax < limits.appendAnswerMsMax);
    assert.ok(limits.filterPauseMs >= limits.filterMsMax);
  });
  test('a latch is not longer than an operator waits, and a hub hears of it as often', () => {
    assert.ok(limits.latchMsMax <= 1_000 && limits.latchMsMax < limits.adminWaitMsMax);
    assert.ok(limits.frontierMs <= 1_000 && limits.progressMsMin * 2 <= limits.frontierMs);
  });
  test('retries begin small and stay bounded', () => {
    assert.ok(limits.retryMsMin < limits.retryMsMax && limits.retryMsMax <= 5_000);
  });
  test('what is read at once fits what is answered at once', () => {
    assert.ok(limits.filterBatchMax <= limits.statusBatchMax, 'the filter reads through the ledger');
    assert.ok(limits.applyBatchMax <= 500, 'a ledger call stays below 5 ms');
    assert.ok(limits.appendBatchMax <= limits.acceptQueueMax);
  });
  test('streams of one address are fewer than all, and their reconnects are spread', () => {
    assert.ok(limits.streamsPerAddressMax <= limits.streamsMax);
    assert.ok(limits.streamRetryMsMin < limits.streamRetryMsMax);
  });
});
