import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import type { Change, Mark } from '../src/entry.ts';
import { stockMax } from '../src/limits.ts';
import { currentTerms, decide, noCounts, PartitionFold, phaseAt, phaseOf, type Sale } from '../src/sale.ts';
import {
  added,
  c,
  closed,
  fold,
  located,
  malformed,
  opened,
  request,
  type Timed,
  winnersOf,
} from './support/entries.ts';

const saleOf = (steps: readonly Timed[], coupon = 'a'): Sale => {
  const sale = fold(located(steps)).fold.sales.get(coupon);
  assert.ok(sale);
  return sale;
};
const phasesOf = (steps: readonly Timed[]) => saleOf(steps).changes.map(({ offset, phase }) => `${offset} ${phase}`);

suite('decide, in order of precedence', () => {
  // Each sale is built so that everything lower in the order would apply too.
  const held = [opened(1, { opensAt: 500, closesAt: 2_000 }), request('mia')];
  const table: [name: string, before: readonly Timed[], entry: Timed, decision: string][] = [
    ['malformed before everything', [...held, closed()], { ...malformed(), at: 9_000 }, 'malformed'],
    ['unknown coupon when it was never opened', [], request('mia'), 'unknown_coupon'],
    ['unknown coupon before another sale', held, request('mia', 0, 'b'), 'unknown_coupon'],
    ['duplicated before closed and sold out', [...held, closed()], request('mia', 7), 'duplicated'],
    ['duplicated before closed by the clock', held, { ...request('mia', 7), at: 9_000 }, 'duplicated'],
    ['duplicated for the very same key', held, request('mia'), 'duplicated'],
    ['closed before not open', [opened(0, { opensAt: 5_000 }), closed()], request('ben'), 'closed'],
    ['closed before sold out', [...held, closed()], request('ben'), 'closed'],
    ['closed by the clock before sold out', held, { ...request('ben'), at: 2_000 }, 'closed'],
    ['closed when it closes before it opens', [opened(1, { opensAt: 3_000, closesAt: 900 })], request('ben'), 'closed'],
    ['not open before sold out', [opened(0, { opensAt: 5_000 })], request('ben'), 'not_open'],
    ['not open one millisecond before', [opened(1, { opensAt: 1_001 })], request('ben'), 'not_open'],
    ['won in the millisecond of opening', [opened(1, { opensAt: 1_000 })], request('ben'), 'won 1'],
    ['won in the last millisecond', [opened(1, { closesAt: 1_001 })], request('ben'), 'won 1'],
    ['closed in the millisecond of closing', [opened(1, { closesAt: 1_000 })], request('ben'), 'closed'],
    ['sold out when every slot is taken', held, request('ben'), 'sold_out'],
    ['sold out with stock 0', [opened(0)], request('ben'), 'sold_out'],
    ['won with slot taken + 1', [opened(2), request('mia')], request('ben'), 'won 2'],
  ];
  for (const [name, before, entry, expected] of table) {
    test(name, () => {
      const state = fold(located(before)).fold;
      const [at] = located([entry], before.length);
      assert.ok(at);
      const clock = Math.max(state.frontier.clock, at.at);
      const sale = 'couponId' in entry ? state.sales.get(entry.couponId) : undefined;
      const decision = decide(sale, clock, at);
      const found =
        decision.kind === 'won' ? `won ${decision.slot}` : 'reason' in decision ? decision.reason : decision.kind;
      assert.equal(found, expected);
    });
  }
});

suite('operator entries', () => {
  test('a sold-out coupon re-opens with more stock, and slots go on', () => {
    const { changes, fold: state } = fold(
      located([opened(1), request('a'), request('b'), added(1), request('b'), request('c')]),
    );
    assert.deepEqual(winnersOf(changes), ['1 a', '2 b']);
    assert.deepEqual(state.sales.get('a')?.counts, { ...noCounts(), sold_out: 2 });
    assert.deepEqual(phasesOf([opened(1), request('a'), request('b'), added(1), request('b')]), [
      '0 open',
      '1 sold_out',
      '3 open',
      '4 sold_out',
    ]);
  });
  test('the same add again changes nothing', () => {
    const sale = saleOf([opened(1), added(2, 5), added(2, 5), added(9, 5)]);
    assert.equal(currentTerms(sale).stock, 3);
    assert.equal(sale.changes.length, 2);
  });
  test('two adds with two keys both count', () => {
    assert.equal(currentTerms(saleOf([opened(1), added(2, 5), added(2, 6)])).stock, 5);
  });
  test('the key of an add is kept with its change', () => {
    assert.deepEqual(
      saleOf([opened(1), added(2, 5), closed()]).changes.map(change => change.key),
      [null, '0000000000000005', null],
    );
  });
  test('an add after the close changes nothing', () => {
    const sale = saleOf([opened(1), closed(), added(2)]);
    assert.deepEqual([currentTerms(sale).stock, currentTerms(sale).closed, sale.changes.length], [1, true, 2]);
  });
  test('an add after closing time changes no stock, but begins the phase', () => {
    const sale = saleOf([opened(1, { closesAt: 2_000 }), { ...added(2), at: 2_000 }]);
    assert.deepEqual([currentTerms(sale).stock, currentTerms(sale).phase, currentTerms(sale).key], [1, 'closed', null]);
  });
  test('an add up to the greatest stock counts, one above changes nothing', () => {
    assert.equal(currentTerms(saleOf([opened(1), added(stockMax - 1)])).stock, stockMax);
    assert.equal(currentTerms(saleOf([opened(1), added(stockMax)])).stock, 1);
  });
  test('an add or a close before the opening changes nothing', () => {
    const { fold: state } = fold(located([added(2), closed(), opened(1), request('a')]));
    assert.deepEqual(
      state.sales.get('a')?.changes.map(change => change.phase),
      ['open', 'sold_out'],
    );
  });
  test('closing twice is closing once', () => {
    assert.deepEqual(phasesOf([opened(1), closed(), closed()]), ['0 open', '1 closed']);
  });
  test('closing after closing time keeps the sale closed for good', () => {
    const sale = saleOf([opened(1, { closesAt: 2_000 }), { ...request('a'), at: 2_000 }, closed()]);
    assert.deepEqual(
      sale.changes.map(change => change.closed),
      [false, false, true],
    );
  });
  test('opening twice keeps the first terms', () => {
    const sale = saleOf([opened(1, { opensAt: 10 }), opened(99)]);
    assert.deepEqual([currentTerms(sale).stock, currentTerms(sale).opensAt, sale.changes.length], [1, 10, 1]);
  });
  test('a coupon may be opened with stock 0 and filled later', () => {
    const { changes } = fold(located([opened(0), request('a'), added(1), request('a')]));
    assert.deepEqual(winnersOf(changes), ['1 a']);
  });
});

suite('the clock', () => {
  test('never steps back: the greatest append time so far counts', () => {
    const { changes, fold: state } = fold(
      located([opened(9, { closesAt: 2_000 }), { ...request('a'), at: 2_500 }, { ...request('b'), at: 1_500 }]),
    );
    assert.equal(state.frontier.clock, 2_500);
    assert.deepEqual(winnersOf(changes), []);
  });
  test('entries of other coupons and malformed ones move it too', () => {
    const { changes } = fold(
      located([
        opened(9, { opensAt: 2_000 }),
        { ...malformed(), at: 2_500 },
        { ...request('b'), at: 1_500 },
        { ...request('x', 0, 'other'), at: 1_500 },
      ]),
    );
    assert.deepEqual(winnersOf(changes), ['1 b']);
  });
  test('a winner keeps the time of its own entry', () => {
    const { changes } = fold(located([opened(9), { ...malformed(), at: 2_500 }, { ...request('b'), at: 1_500 }]));
    assert.deepEqual(
      changes.flatMap(change => (change.type === 'won' ? [change.at] : [])),
      [1_500],
    );
  });
});

suite('phases', () => {
  test('are recorded where they begin, by the clock too', () => {
    const steps: Timed[] = [
      { ...opened(1, { opensAt: 2_000, closesAt: 4_000 }), at: 1_000 },
      { ...request('early'), at: 1_999 },
      { ...request('a'), at: 2_000 },
      { ...request('late'), at: 3_000 },
      { ...request('later'), at: 4_000 },
      { ...request('last'), at: 5_000 },
    ];
    assert.deepEqual(phasesOf(steps), ['0 not_open', '2 sold_out', '4 closed']);
  });
  test('begin with the first entry decided in them, even if that is a duplicate', () => {
    assert.deepEqual(phasesOf([opened(2, { closesAt: 2_000 }), request('a'), { ...request('a'), at: 2_000 }]), [
      '0 open',
      '2 closed',
    ]);
  });
  test('phaseOf gives the one that held at an offset', () => {
    const { changes } = saleOf([opened(1), request('a'), request('b'), added(1), request('c')]);
    assert.deepEqual(
      [0, 1, 2, 3, 4, 99].map(offset => phaseOf(changes, offset)),
      ['open', 'sold_out', 'sold_out', 'open', 'sold_out', 'sold_out'],
    );
    assert.equal(phaseOf(changes.slice(1), 0), undefined);
    assert.equal(phaseOf([], 7), undefined);
  });
  test('phaseAt: taken beyond the stock is sold out, never open', () => {
    const terms = { stock: 1, opensAt: null, closesAt: null, closed: false };
    assert.deepEqual(
      [0, 1, 2].map(taken => phaseAt(terms, taken, 0)),
      ['open', 'sold_out', 'sold_out'],
    );
  });
});

suite('counts', () => {
  test('everyone who did not win is counted once, by reason; strays by partition', () => {
    const { fold: state } = fold(
      located([
        request('x'),
        malformed(),
        opened(1, { opensAt: 2_000, closesAt: 4_000 }),
        request('early'),
        { ...request('a'), at: 2_000 },
        request('a'),
        request('b'),
        { ...request('c'), at: 4_000 },
      ]),
    );
    assert.deepEqual(state.sales.get('a')?.counts, { duplicated: 1, closed: 1, not_open: 1, sold_out: 1 });
    assert.deepEqual(state.frontier.strays, { malformed: 1, unknown_coupon: 1 });
    assert.deepEqual([...state.malformed], [1]);
  });
});

// --- properties ---------------------------------------------------------------------------------------------------

const user = fc.integer({ min: 0, max: 6 }).map(n => `u${n}`);
const coupon = fc.constantFrom('a', 'b');
const step: fc.Arbitrary<Timed> = fc
  .tuple(
    fc.oneof(
      { weight: 12, arbitrary: fc.tuple(user, fc.integer({ min: 0, max: 3 }), coupon).map(a => request(...a)) },
      {
        weight: 2,
        arbitrary: fc
          .tuple(
            fc.integer({ min: 0, max: 4 }),
            fc.option(fc.integer({ min: 900, max: 1_300 })),
            fc.option(fc.integer({ min: 900, max: 1_500 })),
            coupon,
          )
          .map(([stock, opensAt, closesAt, id]) => opened(stock, { opensAt, closesAt }, id)),
      },
      {
        weight: 2,
        arbitrary: fc
          .tuple(
            fc.oneof(fc.integer({ min: 1, max: 3 }), fc.constant(stockMax)),
            fc.integer({ min: 0, max: 4 }),
            coupon,
          )
          .map(a => added(...a)),
      },
      { weight: 1, arbitrary: coupon.map(closed) },
      { weight: 1, arbitrary: fc.constant(malformed()) },
    ),
    fc.integer({ min: 900, max: 1_600 }),
  )
  .map(([entry, at]) => ({ ...entry, at }));
const trace = fc.array(step, { maxLength: 60 });

suite('properties of the fold', () => {
  test('without windows and operators the winners are the first N distinct users', () => {
    fc.assert(
      fc.property(fc.array(user, { maxLength: 80 }), fc.integer({ min: 0, max: 9 }), (users, stock) => {
        const { changes } = fold(located([opened(stock), ...users.map((name, i) => request(name, i))]));
        const first = [...new Set(users)].slice(0, stock).map((name, i) => `${i + 1} ${name}`);
        assert.deepEqual(winnersOf(changes), first);
      }),
    );
  });
  test('at any instant: no more taken than stock, slots without gaps, one a user, in order of offset', () => {
    fc.assert(
      fc.property(trace, steps => {
        const state = new PartitionFold();
        for (const entry of located(steps)) {
          fold([entry], state);
          for (const sale of state.sales.values()) {
            assert.ok(sale.taken <= currentTerms(sale).stock);
            const holders = [...sale.holders.entries()].map(([, holder]) => holder);
            assert.deepEqual(
              holders.map(h => h.slot),
              holders.map((_, i) => i + 1),
            );
            assert.equal(sale.taken, holders.length);
            assert.ok(holders.every((h, i) => i === 0 || h.offset > (holders[i - 1]?.offset ?? 0)));
          }
        }
      }),
    );
  });
  test('every request is a win or is counted', () => {
    fc.assert(
      fc.property(trace, steps => {
        const { changes, fold: state } = fold(located(steps));
        let counted = winnersOf(changes).length + state.frontier.strays.unknown_coupon;
        for (const { counts } of state.sales.values()) for (const n of Object.values(counts)) counted += n as number;
        assert.equal(counted, steps.filter(s => s.type === 'request').length);
      }),
    );
  });
  test('recorded() equals what was decided, however much came after it', () => {
    fc.assert(
      fc.property(trace, steps => {
        const entries = located(steps);
        const state = new PartitionFold();
        const decided = entries.map(entry => fold([entry], state).changes);
        assert.deepEqual(
          entries.map(entry => state.recorded(entry)),
          decided,
        );
      }),
    );
  });
  test('follow() of the changes and their marks, repeats included, equals decide()', () => {
    fc.assert(
      fc.property(
        trace,
        fc.integer({ min: 1, max: 9 }),
        fc.tuple(fc.nat({ max: 50 }), fc.nat({ max: 50 })),
        (steps, batch, again) => {
          const entries = located(steps);
          const [decider, follower] = [new PartitionFold(), new PartitionFold()];
          const log: Change[] = [];
          for (let from = 0; from < entries.length; from += batch) {
            const part = entries.slice(from, from + batch);
            log.push(...fold(part, decider).changes, ...refusals(part), markOf(decider, from));
          }
          for (const change of [...log, ...log.slice(...again)]) follower.follow(change);
          assert.deepEqual(stateOf(follower), stateOf(decider));
        },
      ),
    );
  });
});

const refusals = (entries: ReturnType<typeof located>): Change[] =>
  entries.flatMap(({ type, offset, at }) =>
    type === 'malformed' ? [{ type: 'refused', offset, at, reason: 'malformed', why: '', bytes: '' }] : [],
  );

const markOf = ({ frontier, sales }: PartitionFold, from: number): Mark => ({
  type: 'mark',
  from,
  next: frontier.next,
  clock: frontier.clock,
  hash: frontier.hash,
  strays: { ...frontier.strays },
  counts: Object.fromEntries([...sales].map(([id, sale]) => [id, { ...sale.counts }])),
});

const stateOf = ({ frontier, sales, malformed: refused }: PartitionFold) => ({
  frontier,
  malformed: [...refused],
  sales: [...sales].map(([id, { changes, taken, counts, holders }]) => ({
    id,
    changes,
    taken,
    counts,
    holders: [...holders.entries()],
  })),
});

test('following an earlier mark after a later one moves nothing back', () => {
  const state = fold(located([opened(1), request('a'), request('b')])).fold;
  const [later, earlier] = [
    markOf(state, 0),
    { ...markOf(state, 0), next: 1, hash: 'older', counts: { a: noCounts() } },
  ];
  state.follow(later);
  state.follow(earlier);
  assert.deepEqual([state.frontier.next, state.frontier.hash], [3, 'hash of 2']);
  assert.equal(state.sales.get('a')?.counts.sold_out, 1);
});

suite('holders', () => {
  test('keep every field, for many slots', () => {
    const { holders } = saleOf([opened(1_000), ...Array.from({ length: 500 }, (_, i) => request(`u${i}`, i * 7_919))]);
    assert.equal(holders.size, 500);
    assert.deepEqual(holders.get('u499'), {
      slot: 500,
      offset: 500,
      key: (499 * 7_919).toString(16).padStart(16, '0'),
      at: 1_000,
    });
    assert.equal(holders.get('nobody'), undefined);
  });
  test('keep keys of all 64 bits', () => {
    const sale = saleOf([opened(1), { ...request('a'), key: 'ffffffffffffffff' as never }]);
    assert.equal(sale.holders.get('a')?.key, 'ffffffffffffffff');
    assert.equal(c('a'), 'a');
  });
});
