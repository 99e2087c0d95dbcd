import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { type Status, statusOf, type View } from '../src/outcome.ts';
import type { Holder, Phase, SaleChange } from '../src/sale.ts';
import { added, closed, fold, k, located, malformed, opened, request, type Step } from './support/entries.ts';

const change = (offset: number, phase: Phase): SaleChange => ({
  offset,
  at: 1,
  stock: 1,
  opensAt: null,
  closesAt: null,
  closed: phase === 'closed',
  phase,
  key: null,
});
const holder = (offset: number, key = 1): Holder => ({ slot: 3, offset, key: k(key), at: 55 });
const view = (part: Partial<View>): View => ({
  next: 100,
  committedNext: 100,
  holder: undefined,
  changes: [change(0, 'open')],
  malformed: false,
  holderSetAside: false,
  ...part,
});

suite('the state of the request at offset 50 with key 1', () => {
  const accepted: Status = { state: 'accepted' };
  const issued: Status = { state: 'done', outcome: 'issued', slot: 3, at: 55 };
  const duplicated: Status = { state: 'done', outcome: 'duplicated', slot: 3, at: 55 };
  const inactive = (reason: 'sold_out' | 'not_open' | 'closed'): Status => ({
    state: 'done',
    outcome: 'inactive',
    reason,
  });
  const table: [name: string, view: View | undefined, Status][] = [
    ['nothing is known', undefined, accepted],
    ['not decided yet', view({ next: 50, holder: holder(50) }), accepted],
    ['not decided yet, though the user holds it by an earlier one', view({ next: 50, holder: holder(4, 2) }), accepted],
    ['just decided', view({ next: 51, holder: holder(50) }), issued],
    ['malformed', view({ malformed: true }), { state: 'done', outcome: 'refused', reason: 'malformed' }],
    ['malformed, not decided yet', view({ malformed: true, next: 50 }), accepted],
    ['won, committed', view({ holder: holder(50) }), issued],
    [
      'won, the row is the next to be committed',
      view({ holder: holder(50), committedNext: 50 }),
      { state: 'reserved', slot: 3 },
    ],
    [
      'won, in the hand of a process beside a queue',
      view({ holder: holder(50), inHand: true }),
      { state: 'reserved', slot: 3 },
    ],
    ['won, committed exactly', view({ holder: holder(50), committedNext: 51 }), issued],
    ['won, set aside', view({ holder: holder(50), holderSetAside: true }), { state: 'set_aside' }],
    [
      'won, not committed and on the board of those set aside',
      view({ holder: holder(50), committedNext: 9, holderSetAside: true }),
      { state: 'reserved', slot: 3 },
    ],
    ['won by an earlier request with the same key, committed', view({ holder: holder(20) }), issued],
    [
      'won by an earlier request with the same key, not committed',
      view({ holder: holder(20), committedNext: 20 }),
      { state: 'reserved', slot: 3 },
    ],
    [
      'won by an earlier request with the same key, set aside',
      view({ holder: holder(20), holderSetAside: true }),
      { state: 'set_aside' },
    ],
    ['duplicated, the holder is committed', view({ holder: holder(20, 2), committedNext: 21 }), duplicated],
    ['duplicated, the holder is not committed', view({ holder: holder(20, 2), committedNext: 20 }), accepted],
    ['duplicated, the holder is set aside', view({ holder: holder(20, 2), holderSetAside: true }), accepted],
    [
      'duplicated comes before sold out',
      view({ holder: holder(20, 2), changes: [change(30, 'sold_out')] }),
      duplicated,
    ],
    [
      'won later by another request: this one lost',
      view({ holder: holder(60, 2), changes: [change(0, 'not_open')] }),
      inactive('not_open'),
    ],
    [
      'won later by the same key: this one lost',
      view({ holder: holder(60), changes: [change(0, 'not_open')] }),
      inactive('not_open'),
    ],
    ['sold out', view({ changes: [change(0, 'open'), change(50, 'sold_out')] }), inactive('sold_out')],
    [
      'sold out before, open again later',
      view({ changes: [change(3, 'sold_out'), change(51, 'open')] }),
      inactive('sold_out'),
    ],
    ['closed', view({ changes: [change(0, 'open'), change(49, 'closed')] }), inactive('closed')],
    ['not open', view({ changes: [change(50, 'not_open')] }), inactive('not_open')],
    [
      'before the first phase',
      view({ changes: [change(51, 'open')] }),
      { state: 'done', outcome: 'refused', reason: 'unknown_coupon' },
    ],
    ['no sale at all', view({ changes: [] }), { state: 'done', outcome: 'refused', reason: 'unknown_coupon' }],
    ['in an open phase without a holder: not final', view({ changes: [change(0, 'open')] }), accepted],
  ];
  for (const [name, v, expected] of table) {
    test(name, () => assert.deepEqual(statusOf({ offset: 50, key: k(1) }, v), expected));
  }
  test('offset 0 is a place like any other', () => {
    assert.deepEqual(statusOf({ offset: 0, key: k(1) }, view({ next: 0 })), accepted);
    assert.deepEqual(statusOf({ offset: 0, key: k(1) }, view({ next: 1, holder: holder(0) })), issued);
  });
});

// --- property -----------------------------------------------------------------------------------------------------

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(fc.constantFrom('u', 'v', 'w', 'x'), fc.nat({ max: 2 })).map(a => request(...a)) },
  { weight: 1, arbitrary: fc.nat({ max: 3 }).map(stock => opened(stock)) },
  { weight: 1, arbitrary: fc.nat({ max: 9 }).map(key => added(1, key)) },
  { weight: 1, arbitrary: fc.constant(closed()) },
  { weight: 1, arbitrary: fc.constant(malformed()) },
);
const ranks = { accepted: 0, reserved: 1, set_aside: 2, done: 3 };

/** What is seen of the fold at `next`, with rows up to `committedNext`, some of them set aside. */
function viewAt(
  steps: readonly Step[],
  user: string,
  offset: number,
  next: number,
  committedNext: number,
  aside: Set<number>,
) {
  const { fold: state } = fold(located(steps.slice(0, next)));
  const sale = state.sales.get('a');
  const held = sale?.holders.get(user);
  return {
    next,
    committedNext,
    holder: held,
    changes: sale?.changes ?? [],
    malformed: state.malformed.has(offset),
    holderSetAside: held !== undefined && aside.has(held.offset),
  } satisfies View;
}

suite('what was shown is never contradicted', () => {
  test('while next and committedNext grow and what is set aside is redriven', () => {
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 1, maxLength: 25 }),
        fc.array(fc.tuple(fc.nat({ max: 25 }), fc.nat({ max: 25 })), { maxLength: 8 }),
        fc.array(fc.nat({ max: 25 })),
        (steps, moments, asideList) => {
          const aside = new Set(asideList);
          const all = steps.length;
          const clamp = (n: number) => Math.min(n, all);
          const nexts = moments.map(([a]) => clamp(a)).sort((a, b) => a - b);
          const committed = moments.map(([, b]) => clamp(b)).sort((a, b) => a - b);
          for (const [offset, s] of steps.entries()) {
            if (s.type !== 'request') continue;
            let shown: Status = { state: 'accepted' };
            const see = (next: number, committedNext: number, setAside: Set<number>) => {
              const v = viewAt(steps, s.userId, offset, next, Math.min(next, committedNext), setAside);
              const now = statusOf({ offset, key: s.key }, v);
              assert.ok(ranks[now.state] >= ranks[shown.state], `${shown.state} then ${now.state}`);
              if (shown.state === 'done') assert.deepEqual(now, shown);
              if (shown.state === 'reserved' && 'slot' in now) assert.equal(now.slot, shown.slot);
              shown = now;
            };
            for (const [i, next] of nexts.entries()) see(next, committed[i] as number, aside);
            see(all, all, aside);
            see(all, all, new Set());
            assert.equal(shown.state, 'done');
          }
        },
      ),
    );
  });
  test('the end agrees with the decision', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), steps => {
        const { changes } = fold(located(steps));
        for (const [offset, s] of steps.entries()) {
          if (s.type !== 'request') continue;
          const won = changes.find(ch => ch.type === 'won' && ch.offset === offset);
          const end = statusOf(
            { offset, key: s.key },
            viewAt(steps, s.userId, offset, steps.length, steps.length, new Set()),
          );
          assert.equal(end.state, 'done');
          if (won) assert.ok('slot' in end && end.outcome === 'issued' && 'slot' in won && end.slot === won.slot);
        }
      }),
    );
  });
});
