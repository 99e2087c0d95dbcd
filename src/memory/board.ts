/** The board of one process: what is committed, and a direct call to those who wait. It never breaks. */
import type { BoardContent, BoardUpdate, BoardView, Hint, OutcomeBoard } from '../ports.ts';

interface PartitionBoard {
  changeNext: number;
  committedNext: number;
  setAside: Set<number>;
}

type Listener = (hint: Hint) => void;

export class MemoryBoard implements OutcomeBoard {
  private readonly boards = new Map<number, PartitionBoard>();
  private readonly listeners = new Set<Listener>();

  async commit(partition: number, update: BoardUpdate): Promise<'ok' | 'behind'> {
    const board = this.boards.get(partition);
    if (!board) return 'behind';
    const isLate = board.changeNext !== update.base || update.changeNext < update.base;
    if (isLate) return board.changeNext >= update.changeNext ? 'ok' : 'behind';
    board.changeNext = update.changeNext;
    board.committedNext = update.committedNext;
    for (const offset of update.added) board.setAside.add(offset);
    for (const offset of update.removed) board.setAside.delete(offset);
    this.wake({ partition, committedNext: update.committedNext });
    return 'ok';
  }

  async restore(partition: number, all: BoardContent, replaces?: number): Promise<void> {
    const { changeNext, committedNext } = all;
    const there = this.boards.get(partition)?.changeNext ?? -1;
    if (there >= changeNext && there !== replaces) return;
    this.boards.set(partition, { changeNext, committedNext, setAside: new Set(all.setAside) });
    this.wake({ partition, committedNext });
  }

  async read(partition: number, offsets: readonly number[]): Promise<BoardView | undefined> {
    const board = this.boards.get(partition);
    if (!board) return undefined;
    return {
      changeNext: board.changeNext,
      committedNext: board.committedNext,
      setAside: new Set(offsets.filter(offset => board.setAside.has(offset))),
    };
  }

  async announce(partition: number, decidedNext: number): Promise<void> {
    this.wake({ partition, decidedNext });
  }

  async subscribe(on: { hint(hint: Hint): void; broken(): void }): Promise<{ close(): Promise<void> }> {
    const listener: Listener = hint => on.hint(hint);
    this.listeners.add(listener);
    return {
      close: async () => {
        this.listeners.delete(listener);
      },
    };
  }

  async close(): Promise<void> {
    this.listeners.clear();
    this.boards.clear();
  }

  /** In a step of its own, so that a listener cannot fail the commit that woke it. */
  private wake(hint: Hint): void {
    for (const listener of this.listeners) {
      queueMicrotask(() => {
        if (this.listeners.has(listener)) listener(hint);
      });
    }
  }
}
