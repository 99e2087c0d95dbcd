/** What befalls the memory ledger and board as it befalls a Redis: emptied, back at an older state, a key lost. */
import { MemoryBoard } from '../src/memory/board.ts';
import { MemoryLedger } from '../src/memory/ledger.ts';
import { Holders, PartitionFold, type Sale } from '../src/sale.ts';

interface LedgerState {
  fold: PartitionFold;
  told: number;
  identity: string;
  build: string;
}

export type KeptLedger = Map<number, LedgerState>;
export type KeptBoard = Map<number, BoardState>;

/** The state is the ledger's own; only this folder looks into it. */
const statesOf = (ledger: MemoryLedger): Map<number, LedgerState> =>
  (ledger as unknown as { states: Map<number, LedgerState> }).states;

export class SharedLedger extends MemoryLedger {
  stateOf(partition: number): LedgerState | undefined {
    return statesOf(this).get(partition);
  }

  keep(): KeptLedger {
    return new Map([...statesOf(this)].map(([partition, state]) => [partition, copyOf(state)]));
  }

  goBackTo(kept: KeptLedger): void {
    statesOf(this).clear();
    for (const [partition, state] of kept) statesOf(this).set(partition, copyOf(state));
  }

  empty(): void {
    statesOf(this).clear();
  }

  /** Loses the newest holder of the sale that has most. Answers whether there was one. */
  loseHolder(): boolean {
    const sales = [...statesOf(this).values()].flatMap(({ fold }) => [...fold.sales.values()]);
    const sale = sales.sort((a, b) => b.holders.size - a.holders.size)[0];
    if (!sale || sale.holders.size === 0) return false;
    const kept = [...sale.holders.entries()].slice(0, -1);
    sale.holders = new Holders();
    for (const [userId, holder] of kept) sale.holders.add(userId, holder);
    return true;
  }
}

function copyOf({ fold, told, identity, build }: LedgerState): LedgerState {
  const copy = new PartitionFold();
  copy.frontier = structuredClone(fold.frontier);
  for (const offset of fold.malformed) copy.malformed.add(offset);
  for (const [couponId, { changes, taken, holders, counts }] of fold.sales) {
    const sale: Sale = { changes: [...changes], taken, holders: new Holders(), counts: { ...counts } };
    for (const [userId, holder] of holders.entries()) sale.holders.add(userId, holder);
    copy.sales.set(couponId, sale);
  }
  return { fold: copy, told, identity, build };
}

interface BoardState {
  changeNext: number;
  committedNext: number;
  setAside: Set<number>;
}

const boardsOf = (board: MemoryBoard): Map<number, BoardState> =>
  (board as unknown as { boards: Map<number, BoardState> }).boards;

export class SharedBoard extends MemoryBoard {
  stateOf(partition: number): BoardState | undefined {
    return boardsOf(this).get(partition);
  }

  keep(): KeptBoard {
    return new Map([...boardsOf(this)].map(([partition, state]) => [partition, structuredClone(state)]));
  }

  goBackTo(kept: KeptBoard): void {
    boardsOf(this).clear();
    for (const [partition, state] of kept) boardsOf(this).set(partition, structuredClone(state));
  }

  empty(): void {
    boardsOf(this).clear();
  }
}
