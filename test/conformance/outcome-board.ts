/** What every OutcomeBoard does: each sentence of the port's comments, against the real thing. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { BoardUpdate, Hint, OutcomeBoard } from '../../src/ports.ts';

export interface BoardBench {
  board: OutcomeBoard;
  /** The same board as another instance sees it; the same object where there is only one process. */
  other: OutcomeBoard;
  /** Only where it can be broken from outside. */
  faults?: {
    loseAll(): Promise<void>;
    /** Cuts the connections over which `other` hears hints. */
    cutSubscriptions(): Promise<void>;
    forgetScripts(): Promise<void>;
  };
  close(): Promise<void>;
}

const update = (more: Partial<BoardUpdate>): BoardUpdate => ({
  base: 0,
  changeNext: 0,
  committedNext: 0,
  added: [],
  removed: [],
  ...more,
});

/** Collects hints of one partition and lets a test wait for what it expects. */
function listener(partition: number) {
  const hints: Hint[] = [];
  let broken = 0;
  let wake = Promise.withResolvers<void>();
  const woken = () => {
    wake.resolve();
    wake = Promise.withResolvers();
  };
  return {
    hints,
    on: {
      hint(hint: Hint) {
        if (hint.partition !== partition) return;
        hints.push(hint);
        woken();
      },
      broken() {
        broken++;
        woken();
      },
    },
    broken: () => broken,
    async until(holds: () => boolean): Promise<void> {
      while (!holds()) await wake.promise;
    },
  };
}

export function outcomeBoardSuite(name: string, open: () => Promise<BoardBench>): void {
  describe(`OutcomeBoard: ${name}`, { timeout: 30_000 }, () => {
    let bench: BoardBench;
    let board: OutcomeBoard;
    let partitions = 0;
    before(async () => {
      bench = await open();
      board = bench.board;
    });
    after(() => bench.close());

    async function restored(setAside: number[] = [], partition = partitions++): Promise<number> {
      await board.restore(partition, { changeNext: 10, committedNext: 100, setAside });
      return partition;
    }

    test('nothing is there: undefined, and a commit is behind, also one from the beginning', async () => {
      const partition = partitions++;
      assert.equal(await board.read(partition, [1]), undefined);
      assert.equal(await board.commit(partition, update({ base: 0, changeNext: 1, committedNext: 1 })), 'behind');
      assert.equal(await board.read(partition, [1]), undefined);
    });

    test('restore writes the whole of it', async () => {
      const partition = await restored([3, 5]);
      assert.deepEqual(await bench.other.read(partition, [3, 4, 5]), {
        changeNext: 10,
        committedNext: 100,
        setAside: new Set([3, 5]),
      });
      assert.deepEqual(await board.read(partition, []), { changeNext: 10, committedNext: 100, setAside: new Set() });
      await board.restore(partition, { changeNext: 11, committedNext: 101, setAside: [4] });
      assert.deepEqual(await board.read(partition, [3, 4, 5]), {
        changeNext: 11,
        committedNext: 101,
        setAside: new Set([4]),
      });
    });

    test('restore is ignored if the board has a greater or equal changeNext', async () => {
      const partition = await restored([3]);
      for (const changeNext of [9, 10]) await board.restore(partition, { changeNext, committedNext: 1, setAside: [] });
      assert.deepEqual(await board.read(partition, [3]), {
        changeNext: 10,
        committedNext: 100,
        setAside: new Set([3]),
      });
    });

    test('restore replaces a board that is ahead, if it is the one that was seen', async () => {
      const partition = await restored([3]);
      const back = { changeNext: 7, committedNext: 70, setAside: [5] };
      await board.restore(partition, back, 9);
      assert.deepEqual(await board.read(partition, [3]), {
        changeNext: 10,
        committedNext: 100,
        setAside: new Set([3]),
      });
      await board.restore(partition, back, 10);
      assert.deepEqual(await bench.other.read(partition, [3, 5]), {
        changeNext: 7,
        committedNext: 70,
        setAside: new Set([5]),
      });
    });

    test('commit writes set-aside and committedNext together', async () => {
      const partition = await restored([3, 5]);
      const next = update({ base: 10, changeNext: 12, committedNext: 120, added: [110, 111], removed: [5] });
      assert.equal(await board.commit(partition, next), 'ok');
      const view = await bench.other.read(partition, [3, 5, 110, 111, 112]);
      assert.deepEqual(view, { changeNext: 12, committedNext: 120, setAside: new Set([3, 110, 111]) });
    });

    test('a commit that was long on its way does not take the board back, whatever base it names', async () => {
      const partition = await restored([3]);
      const late = update({ base: 10, changeNext: 9, committedNext: 90, added: [4], removed: [3] });
      assert.equal(await board.commit(partition, late), 'ok');
      assert.deepEqual(await board.read(partition, [3, 4]), {
        changeNext: 10,
        committedNext: 100,
        setAside: new Set([3]),
      });
    });

    test('a commit that is not at base is behind and writes nothing', async () => {
      const partition = await restored();
      const ahead = update({ base: 11, changeNext: 12, committedNext: 120, added: [4] });
      assert.equal(await board.commit(partition, ahead), 'behind');
      const overlapping = update({ base: 9, changeNext: 12, committedNext: 120, added: [4] });
      assert.equal(await board.commit(partition, overlapping), 'behind');
      assert.deepEqual(await board.read(partition, [4]), { changeNext: 10, committedNext: 100, setAside: new Set() });
    });

    test('an older commit is ok and writes nothing, and so does a repeat', async () => {
      const partition = await restored();
      const one = update({ base: 10, changeNext: 11, committedNext: 110, added: [105] });
      const two = update({ base: 11, changeNext: 12, committedNext: 120, removed: [105] });
      for (const each of [one, one, two, two, one]) assert.equal(await board.commit(partition, each), 'ok');
      assert.deepEqual(await board.read(partition, [105]), { changeNext: 12, committedNext: 120, setAside: new Set() });
    });

    test('partitions do not touch each other', async () => {
      const one = await restored([3]);
      const two = await restored([4]);
      await board.commit(two, update({ base: 10, changeNext: 11, committedNext: 110, removed: [4] }));
      assert.deepEqual(await board.read(one, [3, 4]), { changeNext: 10, committedNext: 100, setAside: new Set([3]) });
    });

    test('places of sixteen digits are kept to the digit', async () => {
      const partition = partitions++;
      const place = 9_007_199_254_740_000;
      await board.restore(partition, { changeNext: place, committedNext: place - 9, setAside: [place - 10] });
      const next = update({ base: place, changeNext: place + 1, committedNext: place - 3, added: [place - 5] });
      assert.equal(await board.commit(partition, next), 'ok');
      const view = await board.read(partition, [place - 10, place - 5, place - 4]);
      assert.deepEqual(view, {
        changeNext: place + 1,
        committedNext: place - 3,
        setAside: new Set([place - 10, place - 5]),
      });
    });

    test('other instances hear of commits, restores and announcements, in order', async () => {
      const partition = partitions++;
      const heard = listener(partition);
      const subscription = await bench.other.subscribe(heard.on);
      await restored([], partition);
      await board.commit(partition, update({ base: 10, changeNext: 11, committedNext: 110 }));
      await board.announce(partition, 150);
      await heard.until(() => heard.hints.length === 3);
      assert.deepEqual(heard.hints, [
        { partition, committedNext: 100 },
        { partition, committedNext: 110 },
        { partition, decidedNext: 150 },
      ]);
      assert.equal(heard.broken(), 0);
      await subscription.close();
    });

    test('what a hint tells of is there when it comes', async () => {
      const partition = await restored();
      const heard = listener(partition);
      let view: Promise<unknown> | undefined;
      const on = {
        broken: heard.on.broken,
        hint(hint: Hint) {
          // The hint of the restore above may still be on its way.
          if (hint.committedNext !== 110) return;
          view ??= bench.other.read(partition, [105]);
          heard.on.hint(hint);
        },
      };
      const subscription = await bench.other.subscribe(on);
      await board.commit(partition, update({ base: 10, changeNext: 11, committedNext: 110, added: [105] }));
      await heard.until(() => heard.hints.length === 1);
      assert.deepEqual(await view, { changeNext: 11, committedNext: 110, setAside: new Set([105]) });
      await subscription.close();
    });

    test('a commit that writes nothing wakes nobody', async () => {
      const partition = await restored();
      const heard = listener(partition);
      const subscription = await bench.other.subscribe(heard.on);
      // The hint of the restore above may still be on its way.
      await board.announce(partition, 0);
      await heard.until(() => heard.hints.at(-1)?.decidedNext === 0);
      heard.hints.length = 0;
      await board.commit(partition, update({ base: 11, changeNext: 12, committedNext: 120 }));
      await board.restore(partition, { changeNext: 10, committedNext: 120, setAside: [] });
      await board.announce(partition, 1);
      await heard.until(() => heard.hints.length > 0);
      assert.deepEqual(heard.hints, [{ partition, decidedNext: 1 }]);
      await subscription.close();
    });

    test('several listeners each hear; one that closed hears no more', async () => {
      const partition = partitions++;
      const [one, two] = [listener(partition), listener(partition)];
      const first = await bench.other.subscribe(one.on);
      const second = await bench.other.subscribe(two.on);
      await board.announce(partition, 1);
      await Promise.all([one, two].map(each => each.until(() => each.hints.length === 1)));
      await first.close();
      await first.close();
      await board.announce(partition, 2);
      await two.until(() => two.hints.length === 2);
      assert.equal(one.hints.length, 1);
      await second.close();
    });

    const withFaults = (title: string, run: (faults: NonNullable<BoardBench['faults']>) => Promise<void>): void => {
      test(title, async t => {
        if (!bench.faults) return t.skip('it cannot be broken from outside');
        await run(bench.faults);
      });
    };

    withFaults('a lost board is nothing; behind, restore, and it goes on', async faults => {
      const partition = await restored([3]);
      await faults.loseAll();
      assert.equal(await board.read(partition, [3]), undefined);
      assert.equal(await board.commit(partition, update({ base: 10, changeNext: 11, committedNext: 110 })), 'behind');
      await restored([3], partition);
      assert.equal(await board.commit(partition, update({ base: 10, changeNext: 11, committedNext: 110 })), 'ok');
    });

    withFaults(
      'a lost subscription says broken, subscribes by itself, says so again, and hints come in',
      async faults => {
        const partition = partitions++;
        const heard = listener(partition);
        const subscription = await bench.other.subscribe(heard.on);
        await faults.cutSubscriptions();
        await heard.until(() => heard.broken() === 1);
        await heard.until(() => heard.broken() === 2);
        await board.announce(partition, 7);
        await heard.until(() => heard.hints.length === 1);
        assert.deepEqual(heard.hints, [{ partition, decidedNext: 7 }]);
        await subscription.close();
      },
    );

    withFaults('a server that forgot the scripts is taught them again', async faults => {
      const partition = await restored();
      await faults.forgetScripts();
      assert.equal(await board.commit(partition, update({ base: 10, changeNext: 11, committedNext: 110 })), 'ok');
    });

    test('after close, once or twice, nothing hangs', async () => {
      const last = await open();
      await last.board.subscribe(listener(0).on);
      await last.board.close();
      await last.close();
    });
  });
}
