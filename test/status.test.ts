import assert from 'node:assert/strict';
import { afterEach, beforeEach, suite, test } from 'node:test';
import { requestLog } from '../src/entry.ts';
import { Unavailable } from '../src/errors.ts';
import { StatusReader } from '../src/status.ts';
import { afterCall } from './support/breakable.ts';
import { c, k, u } from './support/entries.ts';
import { createWorld, type World } from './support/world.ts';

suite('a board that is behind the store', () => {
  let world: World;
  let status: StatusReader;
  beforeEach(async () => {
    world = createWorld();
    status = new StatusReader({ ledger: world.ledger.it, board: world.board.it, store: world.store.it });
    await world.open('a', 5);
    world.crowd(0, 2);
    await world.drainAll();
    world.crowd(2, 4);
    await world.drain(world.reserve);
  });
  afterEach(() => world.close());

  /** Of u2, who pressed third. */
  const state = async () => {
    const task = { couponId: c('a'), userId: u('u2'), partition: 0, offset: 3, key: k(2) };
    return (await status.read(task)).status.state;
  };
  const commitUnshown = async (): Promise<void> => {
    world.board.always('commit', new Unavailable('away'));
    world.board.always('restore', new Unavailable('away'));
    await world.persist.step(0);
    world.board.heal();
  };
  const withoutLedger = async (): Promise<string> => {
    world.ledger.once('read', 'before', new Unavailable('slow'));
    return state();
  };

  test('takes back nothing that was told from the store', async () => {
    await commitUnshown();
    assert.equal(await state(), 'reserved', 'the board does not know better');
    assert.equal(await withoutLedger(), 'done');
    assert.equal(await state(), 'done');
    world.store.always('read', new Unavailable('away'));
    await assert.rejects(state(), Unavailable);
  });
  // Of a lost board nothing tells that a write is older than what was there.
  test('since an old write came late to one that was lost takes back nothing that was told from it', async () => {
    await world.drain(world.persist);
    assert.equal(await state(), 'done');
    const { changeNext } = (await world.board.it.read(0, [])) ?? { changeNext: 0 };
    await world.board.it.restore(0, { changeNext: 1, committedNext: 1, setAside: [] }, changeNext);
    assert.equal(await state(), 'done');
  });
  test('nor what was committed between the two reads of the store', async () => {
    const meanwhile = afterCall(1, commitUnshown);
    world.store.it.read = meanwhile(world.store.it.read);
    world.store.it.checkpoint = meanwhile(world.store.it.checkpoint);
    const told = [await withoutLedger(), await state()];
    assert.deepEqual(told, ['accepted', 'done'], 'the rows tell of no more than the checkpoint that is read after');
  });
  test('takes the answers of who was asked for together from nobody but those it could take one back from', async () => {
    world.crowd(4, 6);
    await world.drain(world.reserve);
    await commitUnshown();
    assert.equal(await withoutLedger(), 'done');
    world.store.always('read', new Unavailable('away'));
    const loser = { couponId: c('a'), userId: u('u5'), partition: 0, offset: 6, key: k(5) };
    const [undecided, decided] = await Promise.allSettled([state(), status.read(loser)]);
    assert.equal(undecided.status, 'rejected');
    assert.deepEqual(decided.status === 'fulfilled' && decided.value.status, {
      state: 'done',
      outcome: 'inactive',
      reason: 'sold_out',
    });
  });
  test('is believed again once it shows as much', async () => {
    await commitUnshown();
    assert.equal(await withoutLedger(), 'done');
    await world.drain(world.newPersist());
    const reads = world.store.calls.get('read');
    assert.equal(await state(), 'done');
    world.crowd(4, 5);
    await world.drain(world.reserve);
    const offset = world.log.of(requestLog).length - 1;
    const task = { couponId: c('a'), userId: u('u4'), partition: 0, offset, key: k(4) };
    assert.equal((await status.read(task)).status.state, 'reserved');
    assert.equal(world.store.calls.get('read'), reads, 'the store is not asked');
  });
  test('is believed again when the store has gone back', async () => {
    const before = await world.realStore.checkpoint(0);
    await commitUnshown();
    assert.equal(await withoutLedger(), 'done');
    world.database.db.exec(`DELETE FROM user_coupon WHERE offset >= ${before.next};
      UPDATE checkpoint SET next = ${before.next}, change_next = ${before.changeNext}`);
    assert.equal(await state(), 'reserved');
    const reads = world.store.calls.get('read');
    assert.equal(await state(), 'reserved');
    assert.equal(world.store.calls.get('read'), reads, 'the store is not asked');
  });
});
