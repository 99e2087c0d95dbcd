/**
 * Whether calls can have left the entries of their request, in any order that their times allow. Nobody knows which
 * order it was: only what is wrong in all of them is wrong.
 */

export interface Claimant {
  from: number;
  /** Infinite when nobody knows whether the call left an entry: it may come late. */
  to: number;
  /** Its entry stands from `low` on and before `high`. */
  low: number;
  high: number;
  /** How its entry ended, as it was told. */
  end: string | undefined;
  /** It left an entry for certain. */
  must: boolean;
}

export interface Claimed {
  offset: number;
  end: string;
}

/** Beyond these nothing is said: it takes hundreds of calls of one user, or of which many were told nothing. */
const claimantsMax = 500;
const stepsMax = 2_000;

/** `hasAll`: each entry is of one of these; else some are of calls of which nothing is known. */
export function canBe(entries: readonly Claimed[], claimants: readonly Claimant[], hasAll: boolean): boolean {
  if (claimants.length > claimantsMax) return true;
  let steps = 0;
  const goesOn = (i: number, left: readonly Claimant[]): boolean => {
    if (++steps > stepsMax) return true;
    const owed = left.filter(({ must }) => must);
    const [entry, rest] = [entries[i], entries.length - i];
    if (!entry || rest < owed.length) return owed.length === 0;
    if (hasAll && rest > left.length) return false;
    // One that was begun after another had ended does not stand before it.
    const fromMax = Math.min(...owed.map(({ to }) => to));
    const next = firstOfEach(left.filter(one => one.from <= fromMax && mayBeOf(one, entry)));
    if (next.some(one => goesOn(i + 1, without(left, one)))) return true;
    return !hasAll && goesOn(i + 1, left);
  };
  return goesOn(0, claimants);
}

const mayBeOf = ({ low, high, end }: Claimant, entry: Claimed): boolean =>
  (end ?? entry.end) === entry.end && entry.offset >= low && entry.offset < high;

const without = <T>(from: readonly T[], one: T): T[] => from.filter(each => each !== one);

/**
 * Of those that were told the same the one that ended first: whatever order begins with another of them, they may
 * change places in it. Who was told most comes first.
 */
function firstOfEach(claimants: readonly Claimant[]): Claimant[] {
  const kinds = [...Map.groupBy(claimants, ({ end, must }) => (must ? 2 : 0) + (end === undefined ? 0 : 1))];
  return kinds
    .sort(([a], [b]) => b - a)
    .map(([, same]) => same.reduce((first, each) => (each.to < first.to ? each : first)));
}
