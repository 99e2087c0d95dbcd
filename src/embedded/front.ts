/**
 * The main thread's side of the embedded profile. It reads the file by a connection of its own and keeps a replica
 * of the ledger by following the change log, so that the filter and the status ask nobody; what writes goes to the
 * writing thread.
 */
import { stat } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { type Change, changeLog, type LogEntry, type LogName } from '../entry.ts';
import { Alarm, messageOf, Unavailable } from '../errors.ts';
import type { Host } from '../host.ts';
import { drainMsMax, refusingMs } from '../limits.ts';
import { MemoryBoard } from '../memory/board.ts';
import { MemoryLedger } from '../memory/ledger.ts';
import type { Log, Metrics } from '../metrics.ts';
import type { CouponStore, EventLog, LedgerReader, OutcomeBoard, ReadBatch } from '../ports.ts';
import { within } from '../retry.ts';
import { type Database, openDatabase } from '../sqlite/database.ts';
import { SqliteLogReader } from '../sqlite/log.ts';
import { SqliteReader } from '../sqlite/store-read.ts';
import type { StageLag } from '../stage.ts';
import {
  type AppendedChanges,
  type FromWriter,
  fromPlain,
  type Report,
  type Request,
  type StoreWrite,
  type StoreWriteArgs,
  type ToWriter,
  type Turn,
  type WriterOptions,
} from './protocol.ts';

const partition = 0;
/** Changes kept in memory: more than come between two batches of a stage that gathers. */
const recentMax = 16_384;
/** The names of the files are looked at this often. */
const fileWatchMs = 1_000;

export interface EmbeddedTools extends WriterOptions {
  host: Host;
  metrics: Metrics;
  say: Log;
  /** The writing thread is gone and cannot come back in this process. */
  lost(why: string): void;
}

export interface Embedded {
  log: EventLog;
  ledger: LedgerReader;
  store: CouponStore;
  board: OutcomeBoard;
  /** Lags of the stages that run in the writing thread. */
  lags(): StageLag[];
  /** Why the file takes nothing, if it did not a moment ago. */
  refusing(): string | undefined;
  stop(): Promise<void>;
}

/** @throws Refused when another process serves the file, or it is not one of ours. */
export async function startEmbedded(tools: EmbeddedTools): Promise<Embedded> {
  const writer = new WriterThread(tools);
  try {
    await writer.opened.promise;
    const database = openDatabase(tools.path, { readOnly: true });
    const store = new EmbeddedStore(database, writer);
    const log = new EmbeddedLog(database, tools.host, writer);
    const [ledger, board] = [new MemoryLedger(), new MemoryBoard()];
    // The writing thread loads the same holders at the same time; its turns wait here until ours are loaded.
    const loading = store.withSnapshot(partition, snapshot =>
      ledger.rebuild(partition, log.identity, snapshot, undefined),
    );
    await Promise.all([loading, writer.ready.promise]);
    await writer.listen(turn => takeTurn(turn, { ledger, board, log }));
    const unwatch = await watchFiles(tools, why => writer.end(new Alarm(why)));
    return {
      log,
      ledger,
      store,
      board,
      lags: () => writer.lags,
      refusing: () => writer.refusing(),
      async stop() {
        unwatch();
        await log.close();
        // Who closes last copies the WAL back into the file, and who only reads cannot.
        database.close();
        await writer.stop();
      },
    };
  } catch (error) {
    await writer.stop();
    throw error;
  }
}

/** A file that was deleted is written on, and is gone with the process; another one may serve its name by then. */
async function watchFiles({ path, host }: EmbeddedTools, gone: (why: string) => void): Promise<() => void> {
  // The lock's file too: without it a second server would get in.
  const files = [path, `${path}.lock`];
  const opened = await Promise.all(files.map(fileOf));
  const look = async () => {
    const now = await Promise.all(files.map(fileOf));
    const moved = files.find((_, i) => now[i] !== opened[i]);
    if (moved === undefined) return;
    stop();
    gone(`${moved} is not the file that was opened: it was deleted or replaced; see which one is whole, start again`);
  };
  // What cannot be asked now is asked again.
  const stop = host.every(fileWatchMs, () => void look().catch(() => {}));
  return stop;
}

/** Which file has this name. By `stat`: opening it would drop SQLite's locks. */
async function fileOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path, { bigint: true });
    return `${dev} ${ino}`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined;
  }
}

type Parts = { ledger: MemoryLedger; board: MemoryBoard; log: EmbeddedLog };

async function takeTurn(turn: Turn, { ledger, board, log }: Parts): Promise<void> {
  for (const appended of turn.changes) {
    for (const change of log.follow(appended)) ledger.follow(partition, change);
  }
  log.wake();
  for (const action of turn.board) {
    if (action.kind === 'announce') await board.announce(action.partition, action.decidedNext);
    else if (action.kind === 'restore') await board.restore(action.partition, action.all, action.replaces);
    else await board.commit(action.partition, action.update);
  }
}

/** The other thread, as a place to send requests to. */
class WriterThread {
  readonly opened = Promise.withResolvers<void>();
  readonly ready = Promise.withResolvers<void>();
  lags: StageLag[] = [];
  private readonly worker: Worker;
  private readonly tools: EmbeddedTools;
  private readonly waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  private readonly early: Turn[] = [];
  private take: ((turn: Turn) => Promise<void>) | undefined;
  private ids = 0;
  private refused: { why: string; at: number } | undefined;
  private gone = false;
  private isReady = false;
  private stopping = false;
  private readonly exited = Promise.withResolvers<void>();

  constructor(tools: EmbeddedTools) {
    this.tools = tools;
    const { path, where } = tools;
    this.worker = new Worker(new URL('./writer.ts', import.meta.url), {
      workerData: { path, where } satisfies WriterOptions,
      name: 'dibs writer',
    });
    this.worker.on('message', (message: FromWriter) => this.receive(message));
    this.worker.on('error', error => this.end(error));
    this.worker.on('exit', () => {
      this.end(new Unavailable('the writing thread has ended'));
      this.exited.resolve();
    });
    // Both may fail before anybody waits for them.
    this.opened.promise.catch(() => {});
    this.ready.promise.catch(() => {});
  }

  get alive(): boolean {
    return !this.gone && !this.stopping;
  }

  /** Takes the turns that came early, then each as it comes. */
  async listen(take: (turn: Turn) => Promise<void>): Promise<void> {
    for (let turn = this.early.shift(); turn; turn = this.early.shift()) await take(turn);
    this.take = take;
  }

  request(make: (id: number) => Request): Promise<unknown> {
    if (!this.alive) return Promise.reject(new Unavailable('the writing thread has ended'));
    const id = ++this.ids;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.send(make(id));
    });
  }

  async stop(): Promise<void> {
    if (!this.stopping) this.send({ kind: 'stop' });
    this.stopping = true;
    await within(this.exited.promise, drainMsMax, 'the writing thread').catch(async error => {
      this.tools.say('warn', `${messageOf(error)}: it is ended`);
      await this.worker.terminate();
    });
  }

  private send(message: ToWriter): void {
    this.worker.postMessage(message);
  }

  private receive(message: FromWriter): void {
    switch (message.kind) {
      case 'turn':
        this.receiveTurn(message);
        return;
      case 'report':
        this.receiveReport(message);
        return;
      case 'say':
        this.tools.say(message.level, message.message, message.fields);
        return;
      case 'opened':
        this.opened.resolve();
        return;
      case 'ready':
        this.isReady = true;
        this.ready.resolve();
        return;
      case 'failed':
        this.end(fromPlain(message.error));
        return;
      case 'stopped':
        return;
    }
  }

  private receiveReport({ measured, lags }: Report): void {
    const { metrics } = this.tools;
    for (const m of measured) {
      for (const value of m.values) {
        if (m.kind === 'count') metrics.count(m.name, value, m.label);
        else metrics.observe(m.name, value, m.label);
      }
    }
    this.lags = lags;
  }

  /** It is tried again by whoever presses, and forgotten when nobody does. */
  refusing(): string | undefined {
    const { refused, tools } = this;
    return refused && tools.host.elapsed() - refused.at < refusingMs ? refused.why : undefined;
  }

  private receiveTurn(turn: Turn): void {
    const { refused: why } = turn;
    this.refused = why === undefined ? undefined : { why, at: this.tools.host.elapsed() };
    if (!this.take) {
      this.early.push(turn);
    } else {
      this.take(turn).catch(error => this.end(error));
    }
    for (const answer of turn.answers) {
      const waiting = this.waiting.get(answer.id);
      this.waiting.delete(answer.id);
      if ('error' in answer) waiting?.reject(fromPlain(answer.error));
      else waiting?.resolve(answer.value);
    }
  }

  end(error: Error): void {
    if (this.gone) return;
    this.gone = true;
    this.opened.reject(error);
    this.ready.reject(error);
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
    // What fails before is the start's own error.
    if (this.isReady && !this.stopping)
      this.tools.lost(error instanceof Alarm ? error.message : `the writing thread has ended: ${error.message}`);
  }
}

class EmbeddedLog extends SqliteLogReader implements EventLog {
  /** Messages keep their order; what arrives while a transaction is synced goes into the next one, there. */
  readonly appendsMax = 8;
  private readonly writer: WriterThread;
  /** The end of the change log as the turns brought it, decoded, for the stages of this thread. */
  private recent: LogEntry[] = [];

  constructor(database: Database, host: Host, writer: WriterThread) {
    super(database, host);
    this.writer = writer;
  }

  async append(log: LogName, p: number, values: readonly string[]): Promise<number> {
    if (p !== partition) throw new RangeError(`this log has one partition, 0, not ${p}`);
    if (values.some(value => value.includes('\n'))) throw new RangeError('a value of this log is one line');
    return (await this.writer.request(id => ({ kind: 'append', id, log, lines: values.join('\n') }))) as number;
  }

  /** Keeps what the writing thread appended, and answers what it says. */
  follow({ from, at, lines }: AppendedChanges): Change[] {
    const texts = lines.split('\n');
    const changes = JSON.parse(`[${texts.join(',')}]`) as Change[];
    if (this.recent.at(-1)?.offset !== from - 1) this.recent = [];
    else if (this.recent.length > 2 * recentMax) this.recent = this.recent.slice(-recentMax);
    changes.forEach((change, i) => {
      this.recent.push({ offset: from + i, at, text: texts[i] as string, change });
    });
    return changes;
  }

  /** From memory as far as it goes; what only the file knows, its end too, is asked there. */
  override readNow(log: LogName, p: number, from: number, max: number): ReadBatch {
    const { recent } = this;
    const first = recent[0]?.offset ?? Number.POSITIVE_INFINITY;
    const end = first + recent.length;
    if (log !== changeLog || from < first || from >= end) return super.readNow(log, p, from, max);
    const entries = recent.slice(from - first, from - first + max);
    return { entries, next: from + entries.length, end };
  }

  override reachable(): boolean {
    return this.writer.alive;
  }
}

class EmbeddedStore extends SqliteReader implements CouponStore {
  private readonly writer: WriterThread;

  constructor(database: Database, writer: WriterThread) {
    super(database);
    this.writer = writer;
  }

  claim = this.forward('claim');
  createCoupon = this.forward('createCoupon');
  redeem = this.forward('redeem');
  saveStats = this.forward('saveStats');
  savePlace = this.forward('savePlace');

  async commit(): Promise<never> {
    throw new Error('persist runs in the writing thread');
  }

  /** The connection is the front's to close. */
  async close(): Promise<void> {}

  private forward<M extends StoreWrite>(method: M): CouponStore[M] {
    const forwarded = (...args: StoreWriteArgs<M>) => this.writer.request(id => ({ kind: 'write', id, method, args }));
    return forwarded as CouponStore[M];
  }
}
