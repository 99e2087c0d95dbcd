/**
 * The stage that makes it last. One transaction a batch: rows, sale changes, what is set aside, and the checkpoint;
 * then the board, then the push. It never decides who wins.
 */
import type { RequestKey } from './coupon.ts';
import {
  type Change,
  changeDeadLetters,
  changeLog,
  decodeChange,
  entryHash,
  type LogEntry,
  requestDeadLetters,
  requestLog,
} from './entry.ts';
import { Alarm, messageOf, Unavailable } from './errors.ts';
import type { Host } from './host.ts';
import { gatherBatchMin, persistBatchMax, persistGatherMs } from './limits.ts';
import { appendInParts, checkLastEntry } from './log.ts';
import type { Log, Metrics } from './metrics.ts';
import type { Checkpoint, CouponStore, EventLog, OutcomeBoard, SetAside, StoreBatch } from './ports.ts';
import { type Batch, done, type Stage, type Verdict } from './stage.ts';

export interface PersistTools {
  log: EventLog;
  store: Pick<CouponStore, 'checkpoint' | 'commit' | 'setAside'>;
  board: OutcomeBoard;
  host: Host;
  metrics: Metrics;
  say: Log;
}

/** The board as this process last wrote it; undefined when that is not known, so that all of it is written. */
type Shown = number | undefined;

export function persistStage(tools: PersistTools): Stage {
  const checkpoints = new Map<number, Checkpoint>();
  const shown = new Map<number, Shown>();
  /** Partitions of which a mark was held against the request log since `begin`. */
  const proven = new Set<number>();

  const begin = async (partition: number): Promise<number> => {
    const checkpoint = await tools.store.checkpoint(partition);
    await checkLastEntry(tools.log, changeLog, partition, checkpoint.changeNext, checkpoint.changeHash);
    checkpoints.set(partition, checkpoint);
    proven.delete(partition);
    shown.set(partition, undefined);
    await show(partition, checkpoint, [], []);
    return checkpoint.changeNext;
  };

  /** The board is a convenience: while it is away rows go on, and it is written whole when it is back. */
  const show = async (partition: number, checkpoint: Checkpoint, added: number[], removed: number[]): Promise<void> => {
    const { changeNext, next: committedNext } = checkpoint;
    const base = shown.get(partition);
    shown.set(partition, undefined);
    try {
      const answer =
        base === undefined
          ? 'behind'
          : await tools.board.commit(partition, { base, changeNext, committedNext, added, removed });
      shown.set(partition, answer === 'behind' ? await showAll(partition) : changeNext);
    } catch (error) {
      tools.say('debug', `board not written: ${messageOf(error)}`, { partition });
    }
  };

  /**
   * Replaces the board that is read, if it is still there. A board is written after the commit: read before the
   * checkpoint, one that is ahead of it tells of commits that the store has lost (a backup, a failover); and one that
   * is not may have been, until the store had as many changes again. Answers the changes that are shown now.
   */
  const showAll = async (partition: number): Promise<number> => {
    const board = await tools.board.read(partition, []);
    const { changeNext, next: committedNext } = await tools.store.checkpoint(partition);
    if (board && board.changeNext > changeNext)
      tools.say('warn', 'the store has gone back behind what the board shows', { partition });
    const setAside = await winnersSetAside(partition, tools.store);
    const { changeNext: still } = await tools.store.checkpoint(partition);
    // Letters of before it are missing there, and their winners would be told that they have a row.
    if (still < changeNext) throw new Unavailable('the store went back while it was read');
    await tools.board.restore(partition, { changeNext, committedNext, setAside }, board?.changeNext);
    return changeNext;
  };

  const handle = async (batch: Batch): Promise<Verdict> => {
    const { partition } = batch;
    const checkpoint = checkpoints.get(partition);
    if (checkpoint?.changeNext !== batch.from) return { kind: 'go_back', to: await begin(partition) };
    const { plan, hole } = planBatch(batch, checkpoint, tools.log.unhandled !== undefined);
    const { next, hash } = plan.checkpoint;
    if (next > checkpoint.next && !proven.has(partition)) {
      // The winners of a request log that is gone are not mixed into the rows of the one made anew.
      await checkLastEntry(tools.log, requestLog, partition, next, hash);
      proven.add(partition);
    }
    // Before the commit: of what is behind the checkpoint nobody would make copies any more.
    const { [requestLog]: malformed = [], [changeLog]: unreadable = [] } = Object.groupBy(plan.setAside, a => a.log);
    await copyToDeadLetters(partition, malformed, tools, requestDeadLetters);
    await copyToDeadLetters(partition, unreadable, tools);
    if (plan.checkpoint.changeNext > batch.from) {
      const committed = await tools.store.commit(partition, plan);
      if (committed.kind === 'moved') return { kind: 'go_back', to: await begin(partition) };
      checkpoints.set(partition, plan.checkpoint);
      await show(
        partition,
        plan.checkpoint,
        committed.refused.map(r => r.offset),
        committed.restored,
      );
      report(plan, committed, tools);
      await copyToDeadLetters(partition, committed.refused, tools).catch(error =>
        tools.say('warn', `the copy of ${committed.refused.length} dead letters was not appended: ${messageOf(error)}`),
      );
    }
    return hole === undefined ? done : { kind: 'alarm', why: hole };
  };

  return {
    name: 'persist',
    log: changeLog,
    batchMax: persistBatchMax,
    gatherMs: persistGatherMs,
    gatherBatchMin,
    begin,
    handle,
    /** Notices a board that was emptied or rolled back, and a store that went back while nobody presses the button. */
    async idle(partition) {
      const view = await tools.board.read(partition, []).catch(() => undefined);
      const { changeNext } = await tools.store.checkpoint(partition);
      const known = [checkpoints.get(partition)?.changeNext, view?.changeNext, shown.get(partition)];
      if (known.every(place => place === changeNext)) return done;
      return { kind: 'go_back', to: await begin(partition) };
    },
  };
}

const winnersSetAside = async (partition: number, store: PersistTools['store']): Promise<number[]> =>
  (await store.setAside({ partition, winners: true, limit: Number.MAX_SAFE_INTEGER })).map(a => a.offset);

/** What one batch of the change log, which may be a queue, does to the store, given where the store is. Pure. */
export function planBatch(
  batch: Batch,
  checkpoint: Checkpoint,
  isQueue = false,
): { plan: StoreBatch; hole: string | undefined } {
  const plan: StoreBatch = {
    expectChangeNext: checkpoint.changeNext,
    checkpoint: { ...checkpoint },
    won: [],
    sales: [],
    setAside: [],
    counts: {},
  };
  let last: LogEntry | undefined;
  let hole: string | undefined;
  for (const entry of batch.entries) {
    const change = decodeKnown(entry);
    if (change instanceof Alarm) {
      hole = change.message;
      break;
    }
    if (typeof change === 'string') {
      plan.setAside.push(unreadableChange(batch.partition, entry, change));
    } else if (change.type === 'mark' && change.from > plan.checkpoint.next && !isQueue) {
      hole = `hole in ${changeLog}: the mark at ${entry.offset} begins at request ${change.from}, rows are complete only up to ${plan.checkpoint.next}`;
      break;
    } else {
      addChange(plan, batch.partition, change);
      if (isQueue) coverHole(plan.checkpoint, change);
    }
    last = entry;
  }
  if (last) {
    plan.checkpoint.changeNext = last.offset + 1;
    plan.checkpoint.changeHash = entryHash(last);
  }
  return { plan, hole };
}

/** What comes before an entry of a version that this build does not know is kept, so its alarm is not thrown here. */
function decodeKnown(entry: LogEntry): Change | string | Alarm {
  try {
    return decodeChange(entry);
  } catch (error) {
    if (error instanceof Alarm) return error;
    throw error;
  }
}

/**
 * The mark behind a change may die in a queue. What is stored must be covered all the same, or a rebuild would leave
 * it out and give its slot away again; what lies before it and is not stored is dead.
 */
function coverHole(checkpoint: Checkpoint, change: Change): void {
  if (change.type === 'mark' || change.offset < checkpoint.next) return;
  checkpoint.next = change.offset + 1;
  checkpoint.clock = Math.max(checkpoint.clock, change.at);
}

function addChange(plan: StoreBatch, partition: number, change: Change): void {
  switch (change.type) {
    case 'won':
      plan.won.push(change);
      return;
    case 'sale':
      plan.sales.push(change);
      return;
    case 'refused':
      plan.setAside.push({
        ...nobody,
        log: requestLog,
        partition,
        offset: change.offset,
        at: change.at,
        reason: `malformed: ${change.why}`,
        bytes: change.bytes,
      });
      return;
    case 'mark': {
      // A repeat of an earlier range: the greatest stands.
      if (change.next < plan.checkpoint.next) return;
      const { next, clock, hash, strays, counts } = change;
      Object.assign(plan.checkpoint, { next, clock, hash, strays });
      Object.assign(plan.counts, counts);
      return;
    }
  }
}

const nobody = { couponId: null, userId: null, slot: null, key: null as RequestKey | null };

const unreadableChange = (partition: number, entry: LogEntry, why: string): SetAside => ({
  ...nobody,
  log: changeLog,
  partition,
  offset: entry.offset,
  at: entry.at,
  reason: `unreadable: ${why}`,
  bytes: Buffer.from(entry.bytes ?? Buffer.from(entry.text)).toString('base64'),
});

async function copyToDeadLetters(
  partition: number,
  letters: readonly SetAside[],
  { log }: Pick<PersistTools, 'log'>,
  copies: typeof requestDeadLetters | typeof changeDeadLetters = changeDeadLetters,
): Promise<void> {
  const values = letters.map(letter => JSON.stringify({ v: 1, ...letter }));
  await appendInParts(log, copies, partition, values);
}

function report(plan: StoreBatch, committed: { inserted: number; refused: SetAside[] }, tools: PersistTools): void {
  const { metrics, host } = tools;
  if (committed.inserted > 0) metrics.count('issued', committed.inserted);
  const oldest = plan.won[0];
  if (oldest) metrics.observe('outcome_ms', host.now() - oldest.at);
  for (const { log } of plan.setAside) metrics.count('set_aside', 1, log);
  if (committed.refused.length > 0) metrics.count('set_aside', committed.refused.length, changeLog);
  for (const { reason, offset } of committed.refused) tools.say('warn', `set aside: ${reason}`, { offset });
}
