/**
 * The stage that decides. It hands each batch of requests to the ledger, appends what the ledger says it changed to
 * the change log, then says so to the ledger (`told`). In this order, one batch after another: a crash between
 * deciding and telling is cured by starting at `told` and asking for the recorded answers.
 */
import {
  type Change,
  changeLog,
  decodeEntry,
  encodeChange,
  entryHash,
  type Located,
  type LogEntry,
  type RefusedEntry,
  requestLog,
} from './entry.ts';
import { Alarm, Unavailable } from './errors.ts';
import { applyBatchMax, gatherBatchMin, reserveBatchMax, reserveGatherMs } from './limits.ts';
import { appendInParts, checkLastEntry } from './log.ts';
import { withLostSlots } from './lost-slots.ts';
import type { Log, Metrics } from './metrics.ts';
import type { Applied, CouponReader, EventLog, OutcomeBoard, Place, StockLedger } from './ports.ts';
import { type Batch, done, type Stage, type Verdict } from './stage.ts';

export interface ReserveTools {
  log: EventLog;
  ledger: StockLedger;
  store: Pick<CouponReader, 'withSnapshot'>;
  board: Pick<OutcomeBoard, 'announce'>;
  metrics: Metrics;
  say: Log;
}

type Present = Extract<Place, { kind: 'present' }>;

/** What this process knows of a partition between batches; all of it is read again by `begin`. */
interface Tenure {
  build: string;
  /** Where the next mark begins: everything before it is told. */
  markFrom: number;
  /** Coupons decided about since markFrom, whose totals the next mark must name. */
  touched: Set<string>;
  /** Where the next batch begins: between markFrom and there `touched` is whole. */
  handledTo: number;
  /** Where the last mark that is in the change log ends: beyond markFrom while the ledger has not heard of it. */
  appendedTo: number;
}

/** `applyMax`: entries of one ledger call at most. */
export function reserveStage(tools: ReserveTools, applyMax = applyBatchMax): Stage {
  const tenures = new Map<number, Tenure>();
  const enter = async (partition: number, place: Present): Promise<number> => {
    await checkSameLog(partition, place, tools.log);
    const { build, told } = place;
    const from = Math.min(told, place.next);
    tenures.set(partition, { build, markFrom: told, touched: new Set(), handledTo: from, appendedTo: told });
    return from;
  };
  /**
   * Winners of a process that died, or was taken over, with its part of a queue are in its build of the ledger and will
   * never be rows. An older copy of our own has forgotten what a queue does not give again.
   */
  const isDoubtful = (partition: number, place: Present): boolean => {
    if (!tools.log.unhandled) return false;
    const tenure = tenures.get(partition);
    return place.build !== tenure?.build || place.told < tenure.markFrom;
  };
  /** A server that reads and does not write would else have the same changes appended at every try. */
  const tellAppended = async (partition: number, place: Present): Promise<Present> => {
    const tenure = tenures.get(partition);
    const { build, told } = place;
    // A queue is as lost as the ledger beside it: what was appended there may be gone, and is appended again.
    if (tools.log.unhandled) return place;
    if (tenure?.build !== build || tenure.markFrom !== told || tenure.appendedTo <= told) return place;
    return { ...place, told: (await tools.ledger.told(partition, build, told, tenure.appendedTo)) ?? told };
  };
  const begin = async (partition: number): Promise<number> => {
    const found = await tools.ledger.place(partition);
    const build = found.kind === 'present' ? found.build : undefined;
    if (found.kind === 'present' && !isDoubtful(partition, found))
      return enter(partition, await tellAppended(partition, found));
    // Until a rebuild has succeeded what is there is in doubt.
    tenures.delete(partition);
    return enter(partition, await rebuild(partition, build, tools));
  };
  const again = async (partition: number, replaces: string | undefined): Promise<Verdict> => {
    tenures.delete(partition);
    return { kind: 'go_back', to: await enter(partition, await rebuild(partition, replaces, tools)) };
  };
  /** The ledger is not where we left it. What it has forgotten can be read again, but not from a queue. */
  const anew = async (partition: number): Promise<Verdict> => {
    if (tools.log.unhandled) tenures.delete(partition);
    return { kind: 'go_back', to: await begin(partition) };
  };
  /** Two loops of a partition: the one that is ending must not take away what the other has touched since. */
  const unlessTakenOver =
    (partition: number, tenure: Tenure | undefined, from: number) =>
    async (mend: () => Promise<Verdict>): Promise<Verdict> =>
      tenures.get(partition) === tenure ? mend() : { kind: 'go_back', to: from };
  return {
    name: 'reserve',
    log: requestLog,
    batchMax: reserveBatchMax,
    gatherMs: reserveGatherMs,
    gatherBatchMin,
    begin,
    async handle(batch) {
      const { partition } = batch;
      const tenure = tenures.get(partition);
      // A loop that is ending may have begun behind this one, and left a tenure that knows nothing of its batches.
      if (tenure?.handledTo !== batch.from) return { kind: 'go_back', to: await begin(partition) };
      const mend = unlessTakenOver(partition, tenure, batch.from);
      const known = decodeKnown(batch);
      if (known.entries.length === 0) {
        tenure.handledTo = batch.next;
        return done;
      }
      const applied = await applyInParts(batch, known, tenure, tools, applyMax);
      switch (applied.kind) {
        case 'missing':
          return mend(() => again(partition, undefined));
        case 'damaged':
          tools.say('warn', `ledger damaged, rebuilding: ${applied.why}`, { partition });
          // Another's build beside a queue is that of a process that stood still: nothing in it can be gone on with.
          return mend(() => (tools.log.unhandled ? anew(partition) : again(partition, tenure.build)));
        case 'gap':
          return mend(() => anew(partition));
        case 'applied': {
          const told = await tell(batch, known, applied, tenure, tools);
          // Refused: the ledger was emptied, rolled back or rebuilt meanwhile, so its places are not ours.
          if (!told) return mend(() => anew(partition));
          tenure.handledTo = known.next;
          return known.next === batch.next ? done : { kind: 'go_back', to: known.next };
        }
      }
    },
    /** Notices a ledger that was emptied or rolled back while nobody presses the button. */
    async idle(partition, next) {
      const tenure = tenures.get(partition);
      const place = await tools.ledger.place(partition);
      const mend = unlessTakenOver(partition, tenure, next);
      if (place.kind === 'missing') return mend(() => again(partition, undefined));
      const moved = place.build !== tenure?.build || Math.min(place.told, place.next) < next;
      return moved ? mend(() => anew(partition)) : done;
    },
  };
}

/** The entries of a batch that this build knows, and where they end. */
interface Known {
  entries: Located[];
  next: number;
}

/** Entries up to the first one of a version that this build does not know; throws if that is the first of all. */
function decodeKnown(batch: Batch): Known {
  const entries: Located[] = [];
  for (const entry of batch.entries) {
    try {
      entries.push(decodeEntry(entry));
    } catch (error) {
      if (entries.length === 0) throw error;
      return { entries, next: entry.offset };
    }
  }
  return { entries, next: batch.next };
}

/**
 * One ledger call after the other, so that whatever else asks the ledger has its turn between them. The frontier is
 * that of the last. What the first ones decided when a later one fails is read from the record, as after a crash.
 */
async function applyInParts(
  { partition, from, entries: raw }: Batch,
  { entries, next }: Known,
  { build, touched }: Tenure,
  { ledger }: Pick<ReserveTools, 'ledger'>,
  applyMax: number,
): Promise<Applied> {
  const all: Extract<Applied, { kind: 'applied' }> = { kind: 'applied', changes: [], frontier: null, decided: 0 };
  for (let [i, place] = [0, from]; i < entries.length; ) {
    const part = entries.slice(i, i + applyMax);
    i += part.length;
    const last = raw[i - 1] as LogEntry;
    const partNext = i === entries.length ? next : last.offset + 1;
    const applied = await ledger.apply(partition, build, {
      from: place,
      next: partNext,
      hash: entryHash(last),
      entries: part,
      alsoCount: [...touched],
    });
    if (applied.kind !== 'applied') return applied;
    for (const change of applied.changes) all.changes.push(change);
    for (const entry of part) if (entry.type !== 'malformed') touched.add(entry.couponId);
    all.frontier = applied.frontier;
    all.decided += applied.decided;
    place = partNext;
  }
  return all;
}

/** Appends what the batch changed, then says so to the ledger. False when the ledger refuses to hear it. */
async function tell(
  batch: Batch,
  { entries, next }: Known,
  applied: Extract<Applied, { kind: 'applied' }>,
  tenure: Tenure,
  { log, ledger, board, metrics }: ReserveTools,
): Promise<boolean> {
  const { partition } = batch;
  const { frontier } = applied;
  const refused = refusedOf(batch.entries, entries);
  const changes = inOrder(applied.changes, refused);
  if (frontier) {
    const { clock, hash, counts, strays } = frontier;
    changes.push({ type: 'mark', from: tenure.markFrom, next, clock, hash, counts, strays });
  }
  await appendInParts(log, changeLog, partition, changes.map(encodeChange), changes.map(keyOf), changes);
  if (frontier) {
    tenure.appendedTo = next;
    const told = await ledger.told(partition, tenure.build, tenure.markFrom, next);
    if (told === undefined) return false;
    tenure.markFrom = next;
    tenure.touched.clear();
  }
  countDecided(applied, entries, refused.length, metrics);
  // Losers may be told now; when all of them won, the commit's own announcement is soon enough. One that is lost is
  // made good by the hubs, which read the frontiers every second.
  if (frontier && entries.length > applied.changes.length) await board.announce(partition, next).catch(() => {});
  return true;
}

const refusedOf = (raw: readonly LogEntry[], entries: readonly Located[]): RefusedEntry[] =>
  entries.flatMap((entry, i) => {
    if (entry.type !== 'malformed') return [];
    const { text, bytes } = raw[i] as LogEntry;
    const base64 = Buffer.from(bytes ?? Buffer.from(text)).toString('base64');
    return [
      { type: 'refused', offset: entry.offset, at: entry.at, reason: 'malformed', why: entry.why, bytes: base64 },
    ];
  });

/** The batch's changes, merged in order of offset. */
function inOrder(changes: Extract<Applied, { kind: 'applied' }>['changes'], refused: RefusedEntry[]): Change[] {
  if (refused.length === 0) return [...changes];
  const merged: Change[] = [];
  let r = 0;
  for (const change of changes) {
    while (r < refused.length && (refused[r] as RefusedEntry).offset < change.offset) {
      merged.push(refused[r++] as RefusedEntry);
    }
    merged.push(change);
  }
  merged.push(...refused.slice(r));
  return merged;
}

const keyOf = (change: Change): string => ('couponId' in change ? change.couponId : '');

function countDecided(
  applied: Extract<Applied, { kind: 'applied' }>,
  entries: readonly Located[],
  malformed: number,
  metrics: Metrics,
): void {
  if (applied.decided === 0) return;
  let won = 0;
  for (const change of applied.changes) if (change.type === 'won') won++;
  let requests = 0;
  for (const entry of entries) if (entry.type === 'request') requests++;
  if (won > 0) metrics.count('decided', won, 'won');
  if (requests > won) metrics.count('decided', requests - won, 'lost');
  if (malformed > 0) metrics.count('decided', malformed, 'malformed');
}

async function rebuild(partition: number, replaces: string | undefined, tools: ReserveTools): Promise<Present> {
  const { log, ledger, store, metrics, say } = tools;
  const onTheWay = (await log.unhandled?.(changeLog, partition)) ?? 0;
  const place = await store.withSnapshot(partition, async snapshot =>
    ledger.rebuild(partition, log.identity, log.unhandled ? await withLostSlots(snapshot) : snapshot, replaces),
  );
  if (place.kind === 'missing') throw new Error('the ledger was emptied again while it was being rebuilt');
  metrics.count('rebuilds', 1);
  if (place.next > 0) say('info', `ledger rebuilt from the store up to offset ${place.next}`, { partition });
  // Their entries cannot be read again to be decided again, so nothing is decided before they are rows.
  if (onTheWay > 0) throw new Unavailable(`${onTheWay} changes are still on their way to the store`);
  return place;
}

async function checkSameLog(partition: number, place: Present, log: EventLog): Promise<void> {
  if (place.identity !== log.identity) {
    throw new Alarm(
      `the ledger of partition ${partition} belongs to another log (${place.identity}): give this log a ledger of its own or empty that one`,
    );
  }
  await checkLastEntry(log, requestLog, partition, place.next, place.hash);
}
