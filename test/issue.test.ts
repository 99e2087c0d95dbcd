import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, suite, test } from 'node:test';
import { decodeEntry, requestLog } from '../src/entry.ts';
import { NotAccepted, Unavailable } from '../src/errors.ts';
import type { Answer } from '../src/issue.ts';
import {
  acceptQueueMax,
  appendAnswerMsMax,
  appendBatchMax,
  filterBatchMax,
  filterGatherBatchMin,
  filterGatherMs,
  filterMsMax,
  filterPauseMs,
  latchMsMax,
} from '../src/limits.ts';
import type { SaleView } from '../src/ports.ts';
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

const press = (user: string, key?: number, coupon = 'a'): Promise<Answer> =>
  on.door.issue(c(coupon), u(user), key === undefined ? undefined : k(key));
const usersIn = (partition = 0) =>
  on.log.of(requestLog, partition).map(entry => {
    const request = decodeEntry(entry);
    return request.type === 'request' ? request.userId : request.type;
  });
const codeOf = (answer: Answer) => (answer.kind === 'refused' ? answer.code : answer.kind);

suite('accepting', () => {
  test('the brief\'s first test, "the event is published": accepted only once the log has acknowledged', async () => {
    const gate = Promise.withResolvers<void>();
    on.log.gate = gate.promise;
    let answer: Answer | undefined;
    const pressed = press('mia', 7).then(a => {
      answer = a;
    });
    await settle();
    assert.equal(on.log.appends.length, 1);
    assert.equal(answer, undefined);
    gate.resolve();
    await pressed;
    assert.deepEqual(answer, {
      kind: 'accepted',
      task: { couponId: 'a', userId: 'mia', partition: 0, offset: 0, key: k(7) },
      ahead: 0,
    });
    assert.deepEqual(decodeEntry(on.log.of(requestLog)[0] as never), {
      type: 'request',
      couponId: 'a',
      userId: 'mia',
      key: k(7),
      offset: 0,
      at: on.host.time,
    });
  });
  test('goes to the partition of the coupon, and its task says so', async () => {
    on.state.coupons.set('b', rowOf('b', {}, 1));
    const answer = await press('mia', undefined, 'b');
    assert.ok(answer.kind === 'accepted' && answer.task.partition === 1);
    assert.deepEqual([usersIn(0), usersIn(1)], [[], ['mia']]);
  });
  test('keeps the order of arrival, with one append in flight and those who wait in the next', async () => {
    const gate = Promise.withResolvers<void>();
    on.log.gate = gate.promise;
    const first = press('u0');
    await settle();
    const rest = Array.from({ length: 50 }, (_, i) => press(`u${i + 1}`));
    await settle();
    assert.equal(on.log.appends.length, 1);
    gate.resolve();
    const answers = await Promise.all([first, ...rest]);
    assert.deepEqual(
      answers.map(a => (a.kind === 'accepted' ? a.task.offset : -1)),
      Array.from(answers.keys()),
    );
    assert.deepEqual(
      usersIn(),
      answers.map((_, i) => `u${i}`),
    );
    assert.deepEqual([on.log.appends.length, on.log.appendsInFlightMax], [2, 1]);
  });
  test('an append takes a bounded number of entries', async () => {
    const gate = Promise.withResolvers<void>();
    on.log.gate = gate.promise;
    const first = press('first');
    await settle();
    const rest = Array.from({ length: appendBatchMax + 1 }, (_, i) => press(`u${i}`));
    await settle();
    gate.resolve();
    await Promise.all([first, ...rest]);
    assert.deepEqual(
      on.log.appends.map(a => a.values.length),
      [1, appendBatchMax, 1],
    );
  });
  test('those who press in one turn share one filter read, and a key is made up where none was sent', async () => {
    const answers = await Promise.all([press('a1'), press('a2'), press('a3')]);
    assert.equal(on.ledger.calls.get('read'), 1);
    const keys = answers.map(a => (a.kind === 'accepted' ? a.task.key : ''));
    assert.equal(new Set(keys).size, 3);
    for (const key of keys) assert.match(key, /^[0-9a-f]{16}$/);
  });
  test('the next filter read is given a moment to grow after a large batch, not after a small one', async () => {
    const pressMany = async (count: number): Promise<number[]> => {
      await Promise.all(Array.from({ length: count }, (_, i) => press(`u${i}`)));
      await settle();
      return on.host.waits.splice(0);
    };
    assert.deepEqual(await pressMany(filterGatherBatchMin - 1), []);
    assert.deepEqual(await pressMany(filterGatherBatchMin), [filterGatherMs]);
    Object.assign(on.log, { appendsMax: 8 });
    assert.deepEqual(await pressMany(filterGatherBatchMin), [], 'where several appends may be out');
  });
  test('says how many are in front at most, and nothing while that is not known', async () => {
    on.log.put(
      requestLog,
      0,
      Array.from({ length: 9 }, () => '{}'),
    );
    assert.ok(on.state.view);
    on.state.view.next = 4;
    const answer = await press('mia');
    assert.equal(answer.kind === 'accepted' && answer.ahead, 5);
    on.state.view = undefined;
    const blind = await press('ben');
    assert.deepEqual([blind.kind, blind.kind === 'accepted' && blind.ahead], ['accepted', undefined]);
  });
});

suite('the filter only reads, and refuses only who cannot win', () => {
  const holder = (key: number, offset = 5) => ({ slot: 2, offset, key: k(key), at: 9 });
  const withHolder = (key: number, offset?: number) => {
    on.state.view = { next: 50, clock: 0, holder: holder(key, offset), changes: [phase('open')], malformed: false };
  };
  test('an unknown coupon', async () => {
    assert.equal(codeOf(await press('mia', undefined, 'nowhere')), 'UNKNOWN_COUPON');
  });
  test('a duplicate, with the slot, once the row is committed', async () => {
    withHolder(1);
    assert.deepEqual(await press('mia', 2), { kind: 'refused', code: 'DUPLICATED_COUPON', slot: 2 });
    assert.deepEqual(usersIn(), []);
  });
  test('not a duplicate whose row is not committed, is set aside, or is not known to be', async () => {
    withHolder(1, 100);
    assert.equal(codeOf(await press('mia', 2)), 'accepted');
    withHolder(1);
    on.state.board = { changeNext: 100, committedNext: 100, setAside: new Set([5]) };
    assert.equal(codeOf(await press('mia', 2)), 'accepted');
    on.state.board = undefined;
    assert.equal(codeOf(await press('mia', 2)), 'accepted');
    assert.equal(usersIn().length, 3);
  });
  test('the key that won is answered with its own task, even when the coupon is sold out or closed', async () => {
    withHolder(1);
    for (const name of ['open', 'sold_out', 'closed'] as const) {
      assert.ok(on.state.view);
      on.state.view.changes = [phase(name)];
      const answer = await press('mia', 1);
      assert.ok(answer.kind === 'won_before');
      assert.deepEqual(answer.task, { couponId: 'a', userId: 'mia', partition: 0, offset: 5, key: k(1) });
    }
    assert.deepEqual(usersIn(), []);
  });
  for (const name of ['sold_out', 'closed'] as const) {
    test(`${name}: refused by the recorded phase`, async () => {
      assert.ok(on.state.view);
      on.state.view.changes = [phase('open'), phase(name, 9)];
      assert.deepEqual(await press('mia'), { kind: 'refused', code: 'INACTIVE_COUPON', reason: name });
    });
  }
  test('a coupon with a row and no state yet passes, and so does one in another phase', async () => {
    assert.ok(on.state.view);
    for (const changes of [[], [phase('not_open')], [phase('sold_out'), phase('open', 4)]]) {
      on.state.view.changes = changes;
      assert.equal(codeOf(await press('mia')), 'accepted');
    }
  });
  test('a filter that fails lets everyone pass, and is left alone for a while', async () => {
    assert.ok(on.state.view);
    on.state.view.changes = [phase('sold_out')];
    on.ledger.always('read');
    assert.equal(codeOf(await press('u0')), 'accepted');
    assert.equal(codeOf(await press('u1')), 'accepted');
    assert.equal(on.ledger.calls.get('read'), 1);
    on.ledger.heal();
    on.host.time += filterPauseMs;
    assert.equal(codeOf(await press('u2')), 'INACTIVE_COUPON');
  });
  test('a filter that is silent lets everyone pass in time', async () => {
    const never = new Promise<never>(() => {});
    (on.door as unknown as { tools: { ledger: object } }).tools.ledger = { read: () => never };
    const pressed = press('mia');
    await settle();
    mock.timers.tick(filterMsMax);
    assert.equal(codeOf(await pressed), 'accepted');
    assert.deepEqual(usersIn(), ['mia']);
  });
  test('nothing is written by a refusal', async () => {
    withHolder(1);
    await press('mia', 2);
    assert.deepEqual([...on.ledger.calls.keys()], ['read']);
    assert.deepEqual([...on.board.calls.keys()], ['read']);
    assert.equal(on.log.appends.length, 0);
  });
});

suite('when the log does not take it', () => {
  test('surely not taken is NOT_ACCEPTED', async () => {
    on.log.faults.push('lose');
    assert.equal(codeOf(await press('mia')), 'NOT_ACCEPTED');
  });
  for (const fault of ['doubt', 'drop'] as const) {
    test(`an answer that is lost (${fault}) is OUTCOME_UNKNOWN, and the same key may press again`, async () => {
      on.log.faults.push(fault);
      assert.equal(codeOf(await press('mia', 3)), 'OUTCOME_UNKNOWN');
      const again = await press('mia', 3);
      assert.ok(again.kind === 'accepted' && again.task.key === k(3));
    });
  }
  test('an error that nobody foresaw is OUTCOME_UNKNOWN too', async () => {
    on.log.append = async () => {
      throw new TypeError('a defect');
    };
    assert.equal(codeOf(await press('mia')), 'OUTCOME_UNKNOWN');
  });
  test('all of the batch share the answer', async () => {
    on.log.faults.push('lose');
    const answers = await Promise.all([press('u1'), press('u2'), press('u3')]);
    assert.deepEqual(answers.map(codeOf), ['NOT_ACCEPTED', 'NOT_ACCEPTED', 'NOT_ACCEPTED']);
    assert.deepEqual([usersIn(), on.door.pending], [[], 0]);
  });
  test('unreachable: refused at once, nothing is queued', async () => {
    await press('mia');
    on.log.isReachable = false;
    assert.equal(codeOf(await press('ben')), 'NOT_ACCEPTED');
    assert.equal(on.log.appends.length, 1);
  });
  test('silent: those handed over are unknown in time, those who queue and those who come are NOT_ACCEPTED; then it goes on', async () => {
    const gate = Promise.withResolvers<void>();
    on.log.gate = gate.promise;
    const handed = press('handed');
    await settle();
    const queued = press('queued');
    await settle();
    mock.timers.tick(appendAnswerMsMax - 1);
    let early = false;
    void handed.then(() => {
      early = true;
    });
    await settle();
    assert.equal(early, false);
    mock.timers.tick(1);
    assert.deepEqual([codeOf(await handed), codeOf(await queued)], ['OUTCOME_UNKNOWN', 'NOT_ACCEPTED']);
    assert.equal(codeOf(await press('late')), 'NOT_ACCEPTED');
    gate.resolve();
    await settle();
    assert.equal(codeOf(await press('after')), 'accepted');
    // The one that was handed over is in the log: its key makes the retry safe. The others surely are not.
    assert.deepEqual(usersIn(), ['handed', 'after']);
    assert.equal(on.door.pending, 0, 'nobody is counted off twice');
  });
  test('the queue is bounded: beyond it the answer is NOT_ACCEPTED at once', async () => {
    const gate = Promise.withResolvers<void>();
    on.log.gate = gate.promise;
    await press('warm', undefined, 'nowhere');
    const crowd = Array.from({ length: acceptQueueMax + 5 }, (_, i) => press(`u${i}`));
    await settle();
    for (let i = 0; i < 1_000 && on.door.pending < acceptQueueMax; i++) await settle();
    assert.equal(on.door.pending, acceptQueueMax);
    const over = await Promise.all(crowd.slice(acceptQueueMax));
    assert.deepEqual(over.map(codeOf), Array(5).fill('NOT_ACCEPTED'));
    gate.resolve();
    const answers = await Promise.all(crowd.slice(0, acceptQueueMax));
    assert.ok(answers.every(a => a.kind === 'accepted'));
    assert.equal(on.door.pending, 0);
  });
  test('an operator entry gets its offset in order with the requests, or is refused like them', async () => {
    const row = rowOf('a');
    const [first, second] = await Promise.all([press('mia'), settle().then(() => on.door.append(row, '{"v":1}'))]);
    assert.equal(first.kind, 'accepted');
    assert.equal(second, 1);
    on.log.append = async () => {
      throw new NotAccepted('away');
    };
    assert.deepEqual(await on.door.append(row, '{"v":1}'), { kind: 'refused', code: 'NOT_ACCEPTED' });
  });
});

suite('the coupon row', () => {
  test('is read once and then known, also while the store is away', async () => {
    await press('mia');
    on.store.always('coupons', new Unavailable('store'));
    assert.equal(codeOf(await press('ben')), 'accepted');
    assert.equal(on.store.calls.get('coupons'), 1);
  });
  test('of a coupon never seen, while the store is away: the call fails, nothing is guessed', async () => {
    on.store.always('coupons', new Unavailable('store'));
    await assert.rejects(press('mia'), Unavailable);
    on.store.heal();
    assert.equal(codeOf(await press('mia')), 'accepted');
  });
  test('is asked for once for a crowd that comes in one turn', async () => {
    await Promise.all(Array.from({ length: 20 }, (_, i) => press(`u${i}`)));
    assert.equal(on.store.calls.get('coupons'), 1);
  });
  test('that is not there is asked for again: it may be created at any time', async () => {
    assert.equal(codeOf(await press('mia', undefined, 'new')), 'UNKNOWN_COUPON');
    on.state.coupons.set('new', rowOf('new'));
    assert.equal(codeOf(await press('mia', undefined, 'new')), 'accepted');
  });
});

suite('the latch at the door', () => {
  const soldOut: SaleView = { next: 9, clock: 1, taken: 3, phase: 'sold_out', changes: [phase('sold_out')] };
  test('refuses from memory, without a call to anything, and only those without a key', async () => {
    await press('mia');
    on.state.sales.set('a', soldOut);
    mock.timers.tick(latchMsMax);
    await settle();
    const calls = () => [on.ledger.calls.get('read'), on.log.appends.length, on.store.calls.get('coupons')];
    const before = calls();
    for (let i = 0; i < 100; i++) {
      assert.deepEqual(await press(`u${i}`), { kind: 'refused', code: 'INACTIVE_COUPON', reason: 'sold_out' });
    }
    assert.deepEqual(calls(), before);
    assert.equal(codeOf(await press('ben', 4)), 'accepted');
    on.host.time += latchMsMax;
    assert.equal(codeOf(await press('eve')), 'accepted');
  });
});

test('a coupon of a partition that was added since this process was started is not accepted here, nor is an entry of its operator', async () => {
  const far = rowOf('far', {}, 7);
  on.state.coupons.set('far', far);
  assert.equal(codeOf(await press('mia', 1, 'far')), 'NOT_ACCEPTED');
  assert.deepEqual(await on.door.append(far, '{"v":1}'), { kind: 'refused', code: 'NOT_ACCEPTED' });
});

suite('a coupon that this process has not seen', () => {
  const held = () => {
    const gates: PromiseWithResolvers<void>[] = [];
    const coupons = on.store.it.coupons;
    on.store.it.coupons = async (ids: readonly string[]) => {
      const gate = Promise.withResolvers<void>();
      gates.push(gate);
      const rows = await coupons(ids);
      await gate.promise;
      return rows;
    };
    return gates;
  };
  test('its crowd waits for one look-up, in order, and nobody who comes later overtakes', async () => {
    const gates = held();
    const early = Array.from({ length: 1_200 }, (_, i) => press(`u${i}`));
    await settle();
    const late = press('late');
    await settle();
    assert.equal(gates.length, 1);
    gates[0]?.resolve();
    await Promise.all([...early, late]);
    assert.equal(usersIn().length, 1_201);
    assert.deepEqual(usersIn(), [...Array.from({ length: 1_200 }, (_, i) => `u${i}`), 'late']);
  });
  test('a row that is read otherwise meanwhile is found for those who wait, too, so that nobody overtakes them', async () => {
    held();
    const early = press('early');
    await settle();
    const next = press('next');
    on.door.know(rowOf('a'));
    await settle();
    await Promise.all([press('late'), early, next]);
    assert.deepEqual(usersIn(), ['early', 'next', 'late']);
  });
  test('created while a look-up was out, it is found by the next one', async () => {
    const gates = held();
    const before = press('ann', undefined, 'new');
    await settle();
    on.state.coupons.set('new', rowOf('new'));
    const after = press('bob', undefined, 'new');
    gates[0]?.resolve();
    assert.equal(codeOf(await before), 'UNKNOWN_COUPON');
    await settle();
    gates[1]?.resolve();
    assert.equal(codeOf(await after), 'accepted');
  });
  test('more of them than one look-up takes are asked for one look-up after the other', async () => {
    let answered = 0;
    for (let i = 0; i <= filterBatchMax; i++) {
      on.state.coupons.set(`c${i}`, rowOf(`c${i}`));
      void press('mia', undefined, `c${i}`).then(() => answered++);
    }
    for (let i = 0; i < 10 && answered <= filterBatchMax; i++) await settle();
    assert.deepEqual([answered, on.store.calls.get('coupons'), on.door.pending], [filterBatchMax + 1, 2, 0]);
  });
  test('those who wait for it are bounded like everybody', async () => {
    const gates = held();
    const waiting = Array.from({ length: acceptQueueMax }, (_, i) => press(`u${i}`));
    assert.equal(codeOf(await press('one-more')), 'NOT_ACCEPTED');
    gates[0]?.resolve();
    await settle();
    for (const gate of gates) gate.resolve();
    assert.equal((await Promise.all(waiting)).filter(answer => answer.kind === 'accepted').length, acceptQueueMax);
  });
});
