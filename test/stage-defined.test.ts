import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { requestLog } from '../src/entry.ts';
import { noMetrics } from '../src/metrics.ts';
import { defineStage, PartitionLoop, type StageDefinition } from '../src/stage.ts';
import { fakeHost } from './support/fake-host.ts';
import { LogDouble } from './support/log-double.ts';

function setUp() {
  const host = fakeHost();
  return { log: new LogDouble(host), host, metrics: noMetrics, say() {} };
}

suite('defineStage', () => {
  test('keeps its own place in the store, after the handler, and goes on from it', async () => {
    const places = new Map<string, number>();
    const order: string[] = [];
    const store = {
      place: async (name: string, partition: number) => places.get(`${name} ${partition}`) ?? 0,
      async savePlace(name: string, partition: number, from: number, next: number) {
        if ((places.get(`${name} ${partition}`) ?? 0) !== from) return store.place(name, partition);
        order.push(`place ${next}`);
        places.set(`${name} ${partition}`, next);
        return next;
      },
    };
    const define = defineStage({
      name: 'mail',
      log: requestLog,
      batchMax: 2,
      async handle(batch) {
        order.push(`handled ${batch.from}`);
        if (batch.from === 2 && order.filter(o => o === 'handled 2').length === 1) throw new Error('mail server away');
      },
    });
    const tools = setUp();
    tools.log.put(requestLog, 0, ['a', 'b', 'c', 'd']);
    const loop = new PartitionLoop(define({ store }), 0, tools);
    await loop.step(0);
    await assert.rejects(loop.step(0), /mail server away/);
    await loop.step(0);
    assert.deepEqual(order, ['handled 0', 'place 2', 'handled 2', 'handled 2', 'place 4']);
    const again = new PartitionLoop(define({ store }), 0, tools);
    assert.equal(await again.step(0), false);
    assert.equal(again.place, 4);
  });
  test('a store that went back has what it lost handled again, also when nothing new comes', async () => {
    let place = 0;
    const handled: string[] = [];
    const store = {
      place: async () => place,
      async savePlace(_: string, __: number, from: number, next: number) {
        if (place === from) place = next;
        return place;
      },
    };
    const define = defineStage({
      name: 'mail',
      log: requestLog,
      batchMax: 1,
      async handle({ from }) {
        handled.push(String(from));
      },
    });
    const tools = setUp();
    tools.log.put(requestLog, 0, ['a', 'b', 'c']);
    const loop = new PartitionLoop(define({ store }), 0, tools);
    for (let i = 0; i < 3; i++) await loop.step(0);
    place = 1;
    await loop.step(0);
    assert.equal(loop.place, 1, 'noticed by idle');
    await loop.step(0);
    place = 0;
    tools.log.put(requestLog, 0, ['d']);
    for (let i = 0; i < 5; i++) await loop.step(0);
    assert.deepEqual(handled, ['0', '1', '2', '1', '2', '0', '1', '2', '3']);
    assert.equal(place, 4);
  });
  test('a stage that could never run is refused in one sentence', () => {
    const nonsense: object[] = [{ batchMax: 0 }, { batchMax: 1.5 }, { log: 'nolog' }, { name: '' }, { name: 'A B' }];
    for (const wrong of [...nonsense, { gatherMs: -1 }]) {
      const definition = { name: 'mine', log: requestLog, handle: async () => {}, ...wrong };
      assert.throws(() => defineStage(definition as StageDefinition), {
        name: 'Refused',
        message: /^stage "[^\n]*: give /,
      });
    }
    // Names of the field that were always taken: a new one would begin at the beginning.
    for (const name of ['auditLog', '_audit', 'a'.repeat(200)])
      defineStage({ name, log: requestLog, handle: async () => {} });
  });
});
