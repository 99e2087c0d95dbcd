import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requestLog } from '../src/entry.ts';
import { defineStage, type StageDefinition } from '../src/stage.ts';

test('a stage that could never run is refused in one sentence', () => {
  const nonsense: object[] = [{ batchMax: 0 }, { batchMax: 1.5 }, { log: 'nolog' }, { name: '' }, { name: 'A B' }];
  for (const wrong of [...nonsense, { gatherMs: -1 }]) {
    const definition = { name: 'mine', log: requestLog, handle: async () => {}, ...wrong };
    assert.throws(() => defineStage(definition as StageDefinition), {
      name: 'Refused',
      message: /^stage "[^\n]*: give /,
    });
  }
});
