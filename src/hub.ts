/**
 * Who waits for which task in this process. A watcher subscribes first, then reads, then goes live; a push is only a
 * hint to read again. Hints may be lost: while there are watchers the frontiers are read once a second.
 */
import { messageOf } from './errors.ts';
import type { Host } from './host.ts';
import { frontierMs, progressMsMin } from './limits.ts';
import type { Log } from './metrics.ts';
import type { Status } from './outcome.ts';
import type { Hint, OutcomeBoard } from './ports.ts';
import { aheadOf, type StatusReader } from './status.ts';
import type { Task } from './task.ts';

export interface Watching {
  /** Called with what is new, `done` last and once; then the watcher is gone. */
  tell(status: Status, ahead: number | undefined): void;
}

interface Watcher extends Watching {
  task: Task;
  status: Status | undefined;
  ahead: number | undefined;
  /** When it was told last, ms. */
  toldAt: number;
  reading: boolean;
  /** Something may have changed since the reading under way was asked for. */
  again: boolean;
  gone: boolean;
}

interface Line {
  /** Not known to be decided, sorted by offset. */
  undecided: Watcher[];
  /** Decided, and waiting for the commit. */
  uncommitted: Set<Watcher>;
  decidedNext: number;
  committedNext: number;
}

/** Progress events of one process a second: beyond it each stream hears less often than twice a second. */
const progressPerSecondMax = 4_000;

export interface HubTools {
  status: StatusReader;
  board: OutcomeBoard;
  host: Host;
  say: Log;
  /** Hints may have been missed: whatever else was believed because of them is not known any more. */
  broken?: () => void;
}

export class Hub {
  private readonly lines = new Map<number, Line>();
  private readonly status: StatusReader;
  private readonly board: OutcomeBoard;
  private readonly host: Host;
  private readonly say: Log;
  private readonly broken: () => void;
  private subscription: { close(): Promise<void> } | undefined;
  private stopTicking: (() => void) | undefined;
  private frontierReadAt = Number.NEGATIVE_INFINITY;
  private toldProgressAt = Number.NEGATIVE_INFINITY;
  watching = 0;

  constructor(tools: HubTools) {
    this.status = tools.status;
    this.board = tools.board;
    this.host = tools.host;
    this.say = tools.say;
    this.broken = tools.broken ?? (() => {});
  }

  async start(): Promise<void> {
    this.subscription ??= await this.board.subscribe({
      hint: hint => this.hinted(hint),
      broken: () => {
        this.broken();
        this.frontierReadAt = Number.NEGATIVE_INFINITY;
      },
    });
  }

  async stop(): Promise<void> {
    this.stopTicking?.();
    this.stopTicking = undefined;
    await this.subscription?.close();
    this.subscription = undefined;
  }

  /** Answers how to leave. The first `tell` comes with what is known now. */
  watch(task: Task, watching: Watching): () => void {
    const watcher: Watcher = {
      tell: watching.tell.bind(watching),
      task,
      status: undefined,
      ahead: undefined,
      toldAt: Number.NEGATIVE_INFINITY,
      reading: false,
      again: false,
      gone: false,
    };
    const line = this.line(task.partition);
    if (task.offset < line.decidedNext) line.uncommitted.add(watcher);
    else insert(line.undecided, watcher);
    this.watching++;
    this.stopTicking ??= this.host.every(progressMsMin, () => this.tick());
    void this.look(watcher);
    return () => this.leave(watcher);
  }

  private line(partition: number): Line {
    let line = this.lines.get(partition);
    if (!line) {
      line = { undecided: [], uncommitted: new Set(), decidedNext: 0, committedNext: 0 };
      this.lines.set(partition, line);
    }
    return line;
  }

  private leave(watcher: Watcher): void {
    if (watcher.gone) return;
    watcher.gone = true;
    const line = this.line(watcher.task.partition);
    if (!line.uncommitted.delete(watcher)) remove(line.undecided, watcher);
    this.watching--;
    if (this.watching === 0) {
      this.stopTicking?.();
      this.stopTicking = undefined;
      this.lines.clear();
    }
  }

  /** Acts only on frontiers that moved, so that a reading that finds nothing new cannot chase itself. */
  private hinted({ partition, decidedNext, committedNext }: Hint): void {
    const line = this.lines.get(partition);
    if (!line) return;
    const decided = Math.max(decidedNext ?? 0, committedNext ?? 0);
    if (decided > line.decidedNext) {
      line.decidedNext = decided;
      let due = 0;
      while (due < line.undecided.length && (line.undecided[due] as Watcher).task.offset < decided) due++;
      for (const watcher of line.undecided.splice(0, due)) {
        line.uncommitted.add(watcher);
        void this.look(watcher);
      }
    }
    if (committedNext !== undefined && committedNext > line.committedNext) {
      line.committedNext = committedNext;
      for (const watcher of line.uncommitted) if (watcher.task.offset < committedNext) void this.look(watcher);
    }
  }

  private async look(watcher: Watcher): Promise<void> {
    watcher.again = true;
    if (watcher.reading) return;
    watcher.reading = true;
    const { task } = watcher;
    try {
      while (watcher.again && !watcher.gone) {
        watcher.again = false;
        const { status, next, committedNext } = await this.status.read(task);
        this.learn(watcher, status, next);
        this.hinted({ partition: task.partition, decidedNext: next ?? 0, committedNext });
      }
    } catch (error) {
      this.say('debug', `status not read: ${messageOf(error)}`);
    }
    watcher.reading = false;
  }

  private learn(watcher: Watcher, status: Status, next: number | undefined): void {
    if (watcher.gone || rank(status) < rank(watcher.status)) return;
    const news = rank(status) > rank(watcher.status);
    watcher.status = status;
    if (status.state === 'done') {
      this.leave(watcher);
      watcher.tell(status, undefined);
      return;
    }
    const ahead = aheadOf(watcher.task.offset, next);
    if (ahead !== undefined) watcher.ahead = Math.min(ahead, watcher.ahead ?? ahead);
    if (next !== undefined && watcher.task.offset < next) this.decided(watcher);
    if (news) this.progress(watcher);
  }

  private decided(watcher: Watcher): void {
    const line = this.line(watcher.task.partition);
    if (line.uncommitted.has(watcher)) return;
    remove(line.undecided, watcher);
    line.uncommitted.add(watcher);
  }

  private progress(watcher: Watcher): void {
    watcher.toldAt = this.host.elapsed();
    watcher.tell(watcher.status as Status, watcher.status?.state === 'accepted' ? watcher.ahead : undefined);
  }

  private tick(): void {
    const now = this.host.elapsed();
    const progressMs = Math.max(progressMsMin, (this.watching / progressPerSecondMax) * 1000);
    if (now - this.toldProgressAt >= progressMs) {
      this.toldProgressAt = now;
      for (const line of this.lines.values()) this.tellProgress(line, now);
    }
    if (now - this.frontierReadAt < frontierMs) return;
    this.frontierReadAt = now;
    for (const line of this.lines.values()) {
      // The answer for one of each brings the frontiers for all; those that should be final are asked about again.
      const firsts = [line.undecided[0], line.uncommitted.values().next().value];
      for (const watcher of firsts) if (watcher) void this.look(watcher);
      // One whose first reading failed may be met by no later hint.
      for (const watcher of line.undecided) if (!watcher.status) void this.look(watcher);
      for (const watcher of line.uncommitted) {
        const waits = watcher.status?.state === 'reserved' && watcher.task.offset >= line.committedNext;
        if (!waits) void this.look(watcher);
      }
    }
  }

  private tellProgress(line: Line, now: number): void {
    for (const watcher of line.undecided) {
      const ahead = aheadOf(watcher.task.offset, line.decidedNext);
      if (watcher.status?.state !== 'accepted' || ahead === undefined) continue;
      if (watcher.ahead !== undefined && ahead >= watcher.ahead) continue;
      // One who came between two ticks hears of it at the next but one; ticks are a little early at times.
      if (now - watcher.toldAt < progressMsMin - tickEarlyMsMax) continue;
      watcher.ahead = ahead;
      this.progress(watcher);
    }
  }
}

const tickEarlyMsMax = 50;

const ranks = { accepted: 0, reserved: 1, set_aside: 2, done: 3 } as const;
const rank = (status: Status | undefined): number => (status ? ranks[status.state] : -1);

function insert(sorted: Watcher[], watcher: Watcher): void {
  let at = sorted.length;
  while (at > 0 && (sorted[at - 1] as Watcher).task.offset > watcher.task.offset) at--;
  if (at === sorted.length) sorted.push(watcher);
  else sorted.splice(at, 0, watcher);
}

function remove(sorted: Watcher[], watcher: Watcher): void {
  const at = sorted.indexOf(watcher);
  if (at >= 0) sorted.splice(at, 1);
}
