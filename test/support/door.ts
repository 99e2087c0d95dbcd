/** A front door with everything around it in the test's hand. */
import type { CouponRow } from '../../src/coupon.ts';
import { type DoorTools, FrontDoor } from '../../src/issue.ts';
import { noMetrics } from '../../src/metrics.ts';
import type { BoardView, LedgerView, SaleView } from '../../src/ports.ts';
import type { Phase } from '../../src/sale.ts';
import { breakable } from './breakable.ts';
import { c } from './entries.ts';
import { fakeHost } from './fake-host.ts';
import { LogDouble } from './log-double.ts';

export const rowOf = (couponId: string, body: Partial<CouponRow['body']> = {}, partition = 0): CouponRow => ({
  couponId: c(couponId),
  partition,
  body: { name: couponId, stock: 3, opensAt: null, closesAt: null, validUntil: null, discount: null, ...body },
  createdAt: 1,
  stock: 3,
  closed: false,
  issued: 0,
  firstIssuedAt: null,
  lastIssuedAt: null,
});

export const phase = (name: Phase, offset = 0) => ({
  offset,
  at: 1,
  stock: 3,
  opensAt: null,
  closesAt: null,
  closed: name === 'closed',
  phase: name,
  key: null,
});

/** Everything around the door, as it is when nothing is wrong and nobody has won. */
export function setUp() {
  const host = fakeHost();
  const log = new LogDouble(host, 2);
  const state = {
    coupons: new Map([['a', rowOf('a')]]),
    view: { next: 0, clock: 0, holder: undefined, changes: [phase('open')], malformed: false } as
      | LedgerView
      | undefined,
    board: { changeNext: 0, committedNext: 100, setAside: new Set<number>() } as BoardView | undefined,
    sales: new Map<string, SaleView>(),
  };
  const store = breakable({
    coupons: async (ids: readonly string[]) => ids.flatMap(id => state.coupons.get(id) ?? []),
  });
  const ledger = breakable({
    read: async (_: number, queries: readonly unknown[]) => queries.map(() => state.view),
    sales: async () => state.sales,
  });
  const board = breakable({ read: async () => state.board });
  const tools = { log, host, metrics: noMetrics, say() {}, store: store.it, ledger: ledger.it, board: board.it };
  return { host, log, state, store, ledger, board, door: new FrontDoor(tools as unknown as DoorTools) };
}

/** Lets everything run that does not wait for a timer. */
export const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 3; turn++) {
    await new Promise(resolve => setImmediate(resolve));
    for (let i = 0; i < 50; i++) await Promise.resolve();
  }
};
