import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, suite, test } from 'node:test';
import { Hub } from '../src/hub.ts';
import { frontierMs, progressMsMin, statusBatchMax, statusQueueMax } from '../src/limits.ts';
import type { Status, View } from '../src/outcome.ts';
import type { Checkpoint, Hint, LedgerReader, OutcomeBoard } from '../src/ports.ts';
import type { Holder } from '../src/sale.ts';
import { StatusReader } from '../src/status.ts';
import type { Task } from '../src/task.ts';
import { c, k, u } from './support/entries.ts';
import { fakeHost } from './support/fake-host.ts';

/** A sale of which the test says who holds what and how far it is decided and committed. */
function setUp() {
  const host = fakeHost();
  const state = {
    next: 0,
    committedNext: 0,
    holders: new Map<string, Holder>(),
    setAside: new Set<number>(),
    soldOutAt: Number.POSITIVE_INFINITY,
    ledgerAway: false,
    storeAway: false,
    /** Reads wait for it before they look. */
    gate: undefined as Promise<void> | undefined,
    /** Answers wait for it after they looked. */
    answerGate: undefined as Promise<void> | undefined,
    reads: [] as number[],
    storeReads: 0,
  };
  const phase = (offset: number, name: 'open' | 'sold_out') => ({
    ...{ offset, at: 1, stock: 9, opensAt: null, closesAt: null, closed: false, key: null },
    phase: name,
  });
  const changes = () => [
    phase(0, 'open'),
    ...(state.soldOutAt < state.next ? [phase(state.soldOutAt, 'sold_out')] : []),
  ];
  const viewOf = (userId: string, next: number) => {
    const held = state.holders.get(userId);
    return { next, holder: held && held.offset < next ? held : undefined, changes: changes(), malformed: false };
  };
  let listener: Parameters<OutcomeBoard['subscribe']>[0] | undefined;
  const ledger = {
    async read(_: number, queries: readonly { userId: string }[]) {
      state.reads.push(queries.length);
      await state.gate;
      if (state.ledgerAway) throw new Error('ledger away');
      const views = queries.map(q => viewOf(q.userId, state.next));
      await state.answerGate;
      return views;
    },
  } as unknown as LedgerReader;
  const board = {
    read: async (_: number, offsets: readonly number[]) => ({
      changeNext: 0,
      committedNext: state.committedNext,
      setAside: new Set(offsets.filter(o => state.setAside.has(o))),
    }),
    async subscribe(on: typeof listener) {
      listener = on;
      return {
        async close() {
          listener = undefined;
        },
      };
    },
  } as unknown as OutcomeBoard;
  const store = {
    async read(_: number, queries: readonly { userId: string }[]) {
      state.storeReads++;
      if (state.storeAway) throw new Error('store away');
      return queries.map(
        q =>
          ({
            ...viewOf(q.userId, state.committedNext),
            committedNext: state.committedNext,
            holderSetAside: false,
          }) as View,
      );
    },
    checkpoint: async () => ({ changeNext: 0 }) as Checkpoint,
  };
  const status = new StatusReader({ ledger, board, store });
  const hub = new Hub({ status, board, host, say() {} });
  return {
    host,
    state,
    status,
    hub,
    hint: (hint: Omit<Hint, 'partition'>) => listener?.hint({ partition: 0, ...hint }),
    broken: () => listener?.broken(),
  };
}

let on: ReturnType<typeof setUp>;
beforeEach(async () => {
  mock.timers.enable({ apis: ['setInterval'] });
  on = setUp();
  await on.hub.start();
});
afterEach(async () => {
  await on.hub.stop();
  mock.timers.reset();
});

const settle = async () => {
  for (let i = 0; i < 40; i++) await Promise.resolve();
};
const task = (user: string, offset: number): Task => ({
  couponId: c('a'),
  userId: u(user),
  partition: 0,
  offset,
  key: k(offset),
});
const hold = (user: string, offset: number, slot: number) =>
  on.state.holders.set(user, { slot, offset, key: k(offset), at: 5 });
type Told = [state: string, ahead: number | undefined];
function watch(user: string, offset: number): { told: Told[]; last(): Status | undefined; leave(): void } {
  const told: Told[] = [];
  let last: Status | undefined;
  const leave = on.hub.watch(task(user, offset), {
    tell(status, ahead) {
      last = status;
      told.push([status.state, ahead]);
    },
  });
  return { told, last: () => last, leave };
}
const tick = async (ms = progressMsMin) => {
  on.host.time += ms;
  mock.timers.tick(ms);
  await settle();
};
const issued = (slot: number): Status => ({ state: 'done', outcome: 'issued', slot, at: 5 });

suite('one watcher', () => {
  test('early: accepted with its place, reserved, done; then it is gone', async () => {
    const mia = watch('mia', 7);
    await settle();
    assert.deepEqual(mia.told, [['accepted', 7]]);
    on.state.next = 8;
    hold('mia', 7, 3);
    on.hint({ decidedNext: 8 });
    await settle();
    on.state.committedNext = 8;
    on.hint({ committedNext: 8 });
    await settle();
    assert.deepEqual(mia.told, [
      ['accepted', 7],
      ['reserved', undefined],
      ['done', undefined],
    ]);
    assert.deepEqual(mia.last(), issued(3));
    assert.equal(on.hub.watching, 0);
  });
  test('late: told at once', async () => {
    [on.state.next, on.state.committedNext] = [20, 20];
    hold('mia', 7, 3);
    const mia = watch('mia', 7);
    await settle();
    assert.deepEqual(mia.told, [['done', undefined]]);
  });
  test('a loser is told as soon as it is decided, before any commit', async () => {
    const mia = watch('mia', 7);
    [on.state.next, on.state.soldOutAt] = [8, 2];
    on.hint({ decidedNext: 8 });
    await settle();
    assert.deepEqual(mia.last(), { state: 'done', outcome: 'inactive', reason: 'sold_out' });
  });
  test('decided between subscribing and reading: the hint that came meanwhile is not lost', async () => {
    const answered = Promise.withResolvers<void>();
    on.state.answerGate = answered.promise;
    const mia = watch('mia', 7);
    await settle();
    // The read under way has looked already, and saw nothing.
    [on.state.next, on.state.committedNext] = [8, 8];
    hold('mia', 7, 1);
    on.hint({ committedNext: 8 });
    on.state.answerGate = undefined;
    answered.resolve();
    await settle();
    assert.deepEqual(mia.last(), issued(1));
  });
  test('one who comes behind what is decided, while only the store answers, is told by the push of the commit', async () => {
    const first = watch('leo', 6);
    on.hint({ decidedNext: 8 });
    on.state.ledgerAway = true;
    const [mia, nia] = [watch('mia', 7), watch('nia', 5)];
    await settle();
    // Nobody asks before the push.
    [on.state.next, on.state.committedNext] = [8, 8];
    hold('mia', 7, 1);
    hold('nia', 5, 2);
    hold('leo', 6, 3);
    on.hint({ committedNext: 8 });
    await settle();
    assert.deepEqual([mia.last(), nia.last(), first.last()], [issued(1), issued(2), issued(3)]);
  });
  test('a hint that is lost is made good by reading the frontier once a second', async () => {
    const mia = watch('mia', 7);
    await settle();
    [on.state.next, on.state.committedNext] = [8, 8];
    hold('mia', 7, 1);
    await tick(frontierMs);
    await tick();
    assert.deepEqual(mia.last(), issued(1));
  });
  test('after a broken subscription the frontier is read at the next tick', async () => {
    watch('mia', 7);
    await settle();
    await tick(frontierMs);
    const reads = on.state.reads.length;
    await tick(progressMsMin);
    assert.equal(on.state.reads.length, reads);
    on.broken();
    await tick(progressMsMin);
    assert.ok(on.state.reads.length > reads);
  });
  test('is told done once, however many hints come', async () => {
    [on.state.next, on.state.committedNext] = [8, 8];
    hold('mia', 7, 1);
    const mia = watch('mia', 7);
    for (let i = 0; i < 5; i++) on.hint({ decidedNext: 8 + i, committedNext: 8 + i });
    await settle();
    await tick(frontierMs);
    assert.equal(mia.told.filter(([state]) => state === 'done').length, 1);
  });
  test('one that has left hears nothing more', async () => {
    const mia = watch('mia', 7);
    mia.leave();
    mia.leave();
    await settle();
    [on.state.next, on.state.committedNext] = [8, 8];
    on.hint({ committedNext: 8 });
    await tick(frontierMs);
    assert.deepEqual([mia.told, on.hub.watching], [[], 0]);
  });
  test('set aside, then redriven: within a second it is issued', async () => {
    [on.state.next, on.state.committedNext] = [8, 8];
    on.state.setAside.add(7);
    hold('mia', 7, 1);
    const mia = watch('mia', 7);
    await settle();
    assert.equal(mia.last()?.state, 'set_aside');
    on.state.setAside.clear();
    await tick(frontierMs);
    await tick();
    assert.deepEqual(mia.last(), issued(1));
  });
  test('a duplicate waits for the row of the one that won', async () => {
    [on.state.next, on.state.committedNext] = [20, 5];
    hold('mia', 7, 1);
    const second = watch('mia', 9);
    await settle();
    assert.equal(second.last()?.state, 'accepted');
    on.state.committedNext = 8;
    await tick(frontierMs);
    await tick();
    assert.deepEqual(second.last(), { state: 'done', outcome: 'duplicated', slot: 1, at: 5 });
  });
  test('while the ledger is away the store answers, and the state never goes back', async () => {
    [on.state.next, on.state.committedNext] = [8, 3];
    hold('mia', 7, 1);
    const mia = watch('mia', 7);
    await settle();
    on.state.ledgerAway = true;
    await tick(frontierMs);
    await tick(frontierMs);
    on.state.ledgerAway = false;
    await tick(frontierMs);
    assert.deepEqual(mia.told, [['reserved', undefined]]);
    on.state.ledgerAway = true;
    on.state.committedNext = 8;
    on.hint({ committedNext: 8 });
    await settle();
    assert.deepEqual(mia.last(), issued(1));
    assert.ok(on.state.storeReads > 0);
  });
});

suite('the place in the line', () => {
  test('shrinks with the hints, is told at most twice a second, and never grows', async () => {
    const mia = watch('mia', 1_000);
    await settle();
    for (const next of [100, 400, 300, 900]) {
      on.state.next = next;
      on.hint({ decidedNext: next });
    }
    await tick();
    on.state.next = 200;
    on.hint({ decidedNext: 200 });
    await tick(frontierMs);
    await tick(frontierMs);
    assert.deepEqual(mia.told, [
      ['accepted', 1_000],
      ['accepted', 100],
    ]);
  });
  test('is told at most twice a second to who came between two ticks, too', async () => {
    watch('first', 500);
    await tick(progressMsMin - 50);
    const mia = watch('mia', 1_000);
    await settle();
    on.hint({ decidedNext: 300 });
    await tick(50);
    assert.deepEqual(mia.told, [['accepted', 1_000]]);
    await tick();
    assert.deepEqual(mia.told, [
      ['accepted', 1_000],
      ['accepted', 700],
    ]);
  });
  test('is absent while it is not known', async () => {
    on.state.ledgerAway = true;
    const mia = watch('mia', 7);
    await settle();
    assert.deepEqual(mia.told, [['accepted', undefined]]);
  });
});

suite('many watchers', () => {
  test('one batched read, not one each', async () => {
    const all = Array.from({ length: 300 }, (_, i) => watch(`u${i}`, i));
    await settle();
    assert.deepEqual(on.state.reads, [300]);
    [on.state.next, on.state.committedNext, on.state.soldOutAt] = [300, 300, 0];
    on.hint({ committedNext: 300 });
    await settle();
    assert.ok(all.every(w => w.last()?.state === 'done'));
    assert.ok(on.state.reads.length <= 4, on.state.reads.join());
  });
  test('a read is bounded; more go in the next one', async () => {
    for (let i = 0; i < statusBatchMax + 20; i++) watch(`u${i}`, i);
    await settle();
    assert.deepEqual(on.state.reads, [statusBatchMax, 20]);
  });
  test('a hint looks only at those whom it concerns', async () => {
    for (let i = 0; i < 10; i++) watch(`u${i}`, i * 10);
    await settle();
    on.state.reads.length = 0;
    on.state.next = 25;
    on.hint({ decidedNext: 25 });
    await settle();
    assert.deepEqual(on.state.reads, [3]);
  });
  test('whose first reading failed are all told within a second of when it works again', async () => {
    [on.state.ledgerAway, on.state.storeAway] = [true, true];
    [on.state.next, on.state.committedNext, on.state.soldOutAt] = [50, 50, 0];
    // Somebody else waits, so the frontier is known when they come, and no later hint will name them.
    watch('late', 900);
    on.hint({ committedNext: 50 });
    const all = Array.from({ length: 20 }, (_, i) => watch(`u${i}`, i));
    await settle();
    assert.ok(all.every(w => w.last() === undefined));
    [on.state.ledgerAway, on.state.storeAway] = [false, false];
    await tick(frontierMs);
    assert.ok(all.every(w => w.last()?.state === 'done'));
  });
  test('the frontiers are read once a second while the clock of the host is set back', async () => {
    watch('mia', 5);
    await tick(frontierMs);
    on.state.reads.length = 0;
    on.host.clockSet = -600_000;
    await tick(frontierMs);
    await tick(frontierMs);
    assert.deepEqual(on.state.reads, [1, 1]);
  });
  test('nobody waits: nothing is read', async () => {
    const mia = watch('mia', 5);
    await settle();
    mia.leave();
    on.state.reads.length = 0;
    await tick(frontierMs);
    await tick(frontierMs);
    on.hint({ committedNext: 100 });
    await settle();
    assert.deepEqual(on.state.reads, []);
  });
});

suite('the status reader', () => {
  test('fails only when neither ledger nor store answers', async () => {
    on.state.ledgerAway = true;
    assert.deepEqual((await on.status.read(task('mia', 5))).status, { state: 'accepted' });
    on.state.storeAway = true;
    await assert.rejects(on.status.read(task('mia', 5)), /store away/);
    [on.state.ledgerAway, on.state.storeAway] = [false, false];
    assert.equal((await on.status.read(task('mia', 5))).next, 0);
  });
  test('while one read is out the others wait, and go together', async () => {
    const gate = Promise.withResolvers<void>();
    on.state.gate = gate.promise;
    const first = on.status.read(task('u0', 0));
    await settle();
    const rest = Array.from({ length: 9 }, (_, i) => on.status.read(task(`u${i + 1}`, i + 1)));
    await settle();
    assert.deepEqual(on.state.reads, [1]);
    gate.resolve();
    await Promise.all([first, ...rest]);
    assert.deepEqual(on.state.reads, [1, 9]);
  });
  test('more than can wait are refused at once, and those who wait are answered', async () => {
    const gate = Promise.withResolvers<void>();
    on.state.gate = gate.promise;
    const asked = [on.status.read(task('first', 0))];
    await settle();
    for (let i = 0; i < statusQueueMax; i++) asked.push(on.status.read(task('ann', 0)));
    await assert.rejects(on.status.read(task('zoe', 0)), /Unavailable: too many wait/);
    gate.resolve();
    assert.equal((await Promise.all(asked)).length, statusQueueMax + 1);
    assert.equal((await on.status.read(task('zoe', 0))).status.state, 'accepted');
  });

  test('a ledger whose state is missing is answered for by the store', async () => {
    on.state.committedNext = 8;
    hold('mia', 7, 1);
    const missing = { read: async () => [undefined] } as unknown as LedgerReader;
    (on.status as unknown as { tools: { ledger: LedgerReader } }).tools.ledger = missing;
    const reading = await on.status.read(task('mia', 7));
    assert.deepEqual([reading.status, reading.next, reading.committedNext], [issued(1), undefined, 8]);
  });
});

test('stopping twice is stopping once, and a stopped hub hears no hints', async () => {
  watch('mia', 5);
  await settle();
  await on.hub.stop();
  await on.hub.stop();
  const reads = on.state.reads.length;
  on.hint({ committedNext: 9 });
  await tick(frontierMs);
  assert.equal(on.state.reads.length, reads);
});
