import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { type Change, changeLog } from '../src/entry.ts';
import { NotAccepted } from '../src/errors.ts';
import { appendCharactersMax } from '../src/limits.ts';
import { appendInParts } from '../src/log.ts';
import type { EventLog } from '../src/ports.ts';

suite('an append in parts', () => {
  const half = appendCharactersMax / 2;
  const sizes = [half, half - 1, 1, 1, appendCharactersMax + 1, 1, half];
  const values = sizes.map((size, i) => String(i).repeat(size));
  const keys = sizes.map((_, i) => `key ${i}`);
  const changes = sizes.map((_, offset) => ({ offset }) as Change);
  const tooLarge = 4;

  /** Notes what each append had, as places in `values`. */
  const noting = (parts: number[][], failAt = Number.NaN) => {
    const append: EventLog['append'] = async (_log, _partition, some, itsKeys, itsChanges) => {
      if (parts.length === failAt) throw new NotAccepted('the log is away');
      const places = some.map(value => values.indexOf(value));
      assert.deepEqual(
        itsKeys,
        places.map(i => keys[i]),
      );
      assert.deepEqual(
        itsChanges,
        places.map(i => changes[i]),
      );
      parts.push(places);
      return 0;
    };
    return { append } as EventLog;
  };

  test('has all of them in order, each part as large as may be, and one that is too large alone', async () => {
    const parts: number[][] = [];
    await appendInParts(noting(parts), changeLog, 0, values, keys, changes);
    assert.deepEqual(parts, [[0, 1, 2], [3], [tooLarge], [5, 6]]);
  });
  test('stops at the first part that fails', async () => {
    const parts: number[][] = [];
    await assert.rejects(appendInParts(noting(parts, 1), changeLog, 0, values, keys, changes), NotAccepted);
    assert.deepEqual(parts, [[0, 1, 2]]);
  });
  test('of nothing is none', async () => {
    const parts: number[][] = [];
    await appendInParts(noting(parts), changeLog, 0, []);
    assert.deepEqual(parts, []);
  });
});
