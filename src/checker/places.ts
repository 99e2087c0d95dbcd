/**
 * Where a call must stand in the log by when it was made. An entry whose call was answered before another was begun
 * stands before that one's. What is known of the calls of which it is certain which entry is theirs bounds all others.
 */
import type { Call } from './history.ts';
import type { Judged } from './truth.ts';

export interface Placed {
  call: Call;
  judged: Judged;
}

/** Entries from `offset` on were not in the log before `from`. */
export interface Begun {
  from: number;
  offset: number;
}

export class Places {
  private readonly byEnd: { to: number; latest: Placed }[] = [];
  private readonly byBegin: Begun[] = [];
  /** What the log's clock is ahead of the history's, at least and at most, by each call alone, ms. */
  readonly shift = { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };

  /** `answered`: of these it is only certain that the entry was in the log when the call was answered. */
  constructor(certain: readonly Placed[], answered: readonly Placed[] = [], begun: readonly Begun[] = []) {
    const hasEnded = ({ call }: Placed): boolean => call.to !== undefined;
    const ended = certain.filter(hasEnded);
    for (const placed of [...ended, ...answered.filter(hasEnded)].toSorted(
      (a, b) => (a.call.to as number) - (b.call.to as number),
    )) {
      const before = this.byEnd.at(-1)?.latest;
      const latest = before && offsetOf(before) > offsetOf(placed) ? before : placed;
      this.byEnd.push({ to: placed.call.to as number, latest });
    }
    let offset = Number.POSITIVE_INFINITY;
    const all = [...begun, ...certain.map(placed => ({ from: placed.call.from, offset: offsetOf(placed) }))];
    for (const one of all.toSorted((a, b) => b.from - a.from)) {
      offset = Math.min(offset, one.offset);
      this.byBegin.push({ from: one.from, offset });
    }
    this.byBegin.reverse();
    for (const { call, judged } of ended) {
      this.shift.low = Math.max(this.shift.low, judged.line.at - (call.to as number));
      this.shift.high = Math.min(this.shift.high, judged.line.at - call.from);
    }
  }

  /** The last in the log of those that were answered before `from`. */
  before(from: number): Placed | undefined {
    const i = firstIndex(this.byEnd, ({ to }) => to >= from);
    return this.byEnd[i - 1]?.latest;
  }

  /** Entries that were surely in the log at `from`. */
  low(from: number): number {
    const placed = this.before(from);
    return placed ? offsetOf(placed) + 1 : 0;
  }

  /** Entries from here on were surely not in the log at `to`. */
  high(to: number): number {
    return this.byBegin[firstIndex(this.byBegin, ({ from }) => from > to)]?.offset ?? Number.POSITIVE_INFINITY;
  }
}

const offsetOf = ({ judged }: Placed): number => judged.line.offset;

/** In a list where what is so comes last. */
function firstIndex<T>(sorted: readonly T[], isSo: (item: T) => boolean): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isSo(sorted[middle] as T)) high = middle;
    else low = middle + 1;
  }
  return low;
}
