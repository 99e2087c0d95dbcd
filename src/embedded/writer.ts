/**
 * The writing thread of the embedded profile: the only writer of the file. It turns: everything that arrived while
 * the last transaction was being synced goes into the next one, with what reserve and persist make of it, so that a
 * request is appended, decided, told and committed by one sync. Then one message says all of it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { type Change, changeLog, type LogName } from '../entry.ts';
import { messageOf, NotAccepted, OutcomeUnknown, Refused } from '../errors.ts';
import { createHost, type Host } from '../host.ts';
import { MemoryLedger } from '../memory/ledger.ts';
import type { Log, Metrics } from '../metrics.ts';
import { persistStage } from '../persist.ts';
import type { BoardUpdate, BoardView, EventLog, OutcomeBoard } from '../ports.ts';
import { reserveStage } from '../reserve.ts';
import { seldom } from '../seldom.ts';
import { type Database, openDatabase } from '../sqlite/database.ts';
import { acquireLock, type Lock } from '../sqlite/lock.ts';
import { SqliteLog } from '../sqlite/log.ts';
import { SqliteStore } from '../sqlite/store.ts';
import { PartitionLoop } from '../stage.ts';
import {
  type Answer,
  type FromWriter,
  type Measured,
  type Request,
  type ToWriter,
  type Turn,
  toPlain,
  type WriterOptions,
} from './protocol.ts';

const port = parentPort as NonNullable<typeof parentPort>;
const partition = 0;
/** Batches of stages in one transaction: a backlog is worked off in transactions of this size. */
const batchesPerTurnMax = 16;
/** After so long without work the WAL is copied back into the file. */
const restMs = 1_000;

/** At most so often: as objects of each turn they would cost as much as a small turn itself. */
const reportMs = 50;

type Measurement = Pick<Measured, 'kind' | 'name' | 'label'> & { value: number };

const post = (message: FromWriter): void => port.postMessage(message);
const say: Log = (level, message, fields) => post({ kind: 'say', level, message, fields });

class Writer {
  private readonly host: Host;
  private readonly sayRefused: Log;
  private readonly database: Database;
  private readonly lock: Lock;
  private readonly log: SqliteLog;
  private readonly store: SqliteStore;
  private readonly ledger = new MemoryLedger();
  private readonly loops: PartitionLoop[];
  private readonly inbox: Request[] = [];
  private turn: Turn = emptyTurn();
  /** What the open transaction measured; then, by name and label, what is to be reported. */
  private measuring: Measurement[] = [];
  private readonly measured = new Map<string, Measured>();
  private reporting: NodeJS.Timeout | undefined;
  /** What the main thread's board was told last. */
  private shown: Omit<BoardView, 'setAside'> | undefined;
  private turning = false;
  /** The ledger has to be rebuilt, which reads all winners: not before the file takes a row again. */
  private undone = false;
  private closed = false;
  private rest: NodeJS.Timeout | undefined;

  constructor({ path, where }: WriterOptions, host: Host) {
    this.host = host;
    this.sayRefused = seldom(say, host);
    this.lock = acquireLock(path, where, host.now());
    this.database = openDatabase(path);
    this.log = new SqliteLog(this.database, host);
    this.store = new SqliteStore(this.database);
    const metrics = this.metrics();
    const [log, store, ledger, board] = [this.relayedLog(), this.store, this.ledger, this.relayedBoard()];
    const tools = { log, store, ledger, board, host, metrics, say };
    this.loops = [reserveStage(tools), persistStage(tools)].map(stage => new PartitionLoop(stage, partition, tools));
  }

  /** Works off what an earlier process left, so that the ledger is there when the first request comes. */
  async start(): Promise<void> {
    while (await this.transact([])) post(this.takeTurn([]));
    post(this.takeTurn([]));
  }

  receive(request: Request): void {
    this.inbox.push(request);
    this.schedule();
  }

  /** What arrived and was not begun is answered: surely not in the log. */
  close(): void {
    this.closed = true;
    clearTimeout(this.rest);
    this.report();
    const error = toPlain(new NotAccepted('the writing thread was stopped'));
    const answers = this.inbox.splice(0).map(({ id }) => ({ id, error }));
    if (answers.length > 0) post(this.takeTurn(answers));
    this.database.close();
    this.lock.close();
  }

  private schedule(): void {
    if (this.turning) return;
    this.turning = true;
    clearTimeout(this.rest);
    setImmediate(() => void this.run());
  }

  private async run(): Promise<void> {
    if (this.closed) return;
    const requests = this.inbox.splice(0);
    const answers: Answer[] = [];
    let more = false;
    let unknown: OutcomeUnknown | undefined;
    let refused: string | undefined;
    try {
      more = await this.transact(requests, answers);
    } catch (error) {
      if (error instanceof OutcomeUnknown) unknown = error;
      const known = error instanceof OutcomeUnknown || error instanceof Refused;
      const refusal = known ? error : new NotAccepted(messageOf(error));
      refused = messageOf(error);
      this.sayRefused('warn', `a transaction was not kept, nor its requests: ${refused}`);
      answers.length = 0;
      for (const { id } of requests) answers.push({ id, error: toPlain(refusal) });
    }
    post({ ...this.takeTurn(answers), ...(refused === undefined ? {} : { refused }) });
    if (unknown) return end(unknown);
    this.turning = false;
    if (more || this.inbox.length > 0) this.schedule();
    else this.rest = setTimeout(() => this.tidyUp(), restMs);
  }

  private tidyUp(): void {
    try {
      this.database.checkpoint();
    } catch (error) {
      // A full disk, most likely: the WAL stays, and the next turn says whether it can be written.
      say('warn', `the WAL was not copied back: ${messageOf(error)}`);
    }
  }

  /** One transaction: the requests, then what the stages make of them. Answers whether stages have more to do. */
  private async transact(requests: readonly Request[], answers: Answer[] = []): Promise<boolean> {
    // What fails here has changed nothing, so there is nothing to undo.
    if (this.undone) this.database.setMeta('probed', String(this.host.now()));
    this.database.begin();
    this.undone = false;
    try {
      return await this.fold(requests, answers);
    } catch (error) {
      this.undo();
      throw error;
    }
  }

  private async fold(requests: readonly Request[], answers: Answer[]): Promise<boolean> {
    for (const request of requests) answers.push(await this.obey(request));
    let more = true;
    for (let batches = 0; more && batches < batchesPerTurnMax; batches++) {
      more = false;
      for (const loop of this.loops) more = (await loop.step(0)) || more;
    }
    this.database.commit();
    return more;
  }

  private async obey(request: Request): Promise<Answer> {
    const { id } = request;
    if (request.kind === 'append') {
      return { id, value: this.append(request.log, partition, request.lines.split('\n')) };
    }
    const method = this.store[request.method] as (...args: unknown[]) => Promise<unknown>;
    return { id, value: await method.apply(this.store, request.args) };
  }

  /** The transaction is undone: what memory made of it is forgotten, and read again from the file. */
  private undo(): void {
    this.undone = true;
    this.database.rollback();
    this.ledger.clear(partition);
    this.shown = undefined;
    for (const loop of this.loops) loop.restart();
    this.turn = emptyTurn();
    // What it cost was spent all the same.
    this.measuring = this.measuring.filter(({ name }) => name === 'rebuilds' || name === 'retries');
  }

  private takeTurn(answers: Answer[]): Turn {
    const turn = this.turn;
    turn.answers = answers;
    this.turn = emptyTurn();
    for (const { kind, name, value, label } of this.measuring) {
      const id = `${kind} ${name} ${label}`;
      const same = this.measured.get(id);
      if (same) same.values.push(value);
      else this.measured.set(id, { kind, name, label, values: [value] } as Measured);
    }
    this.measuring = [];
    this.reporting ??= setTimeout(() => this.report(), reportMs);
    return turn;
  }

  private report(): void {
    clearTimeout(this.reporting);
    this.reporting = undefined;
    post({ kind: 'report', measured: [...this.measured.values()], lags: this.loops.map(loop => loop.lag()) });
    this.measured.clear();
  }

  /** Appends, with an ear for what comes into the change log. */
  private append(log: LogName, p: number, values: readonly string[], changes?: readonly Change[]): number {
    const base = this.log.appendNow(log, p, values, changes);
    const first = log === changeLog ? this.log.readNow(log, p, base, 1).entries[0] : undefined;
    if (first) this.turn.changes.push({ from: base, at: first.at, lines: values.join('\n') });
    return base;
  }

  /** The log as the stages see it. */
  private relayedLog(): EventLog {
    const append: EventLog['append'] = async (log, p, values, _keys, changes) => this.append(log, p, values, changes);
    return new Proxy(this.log, {
      get: (log, name) => {
        if (name === 'append') return append;
        const value = log[name as keyof SqliteLog] as unknown;
        return typeof value === 'function' ? value.bind(log) : value;
      },
    });
  }

  /** The board is the main thread's; what is written here goes there with the turn, after the commit. */
  private relayedBoard(): OutcomeBoard {
    const act = (action: Turn['board'][number]) => void this.turn.board.push(action);
    return {
      commit: async (p: number, update: BoardUpdate) => {
        act({ kind: 'commit', partition: p, update });
        this.shown = { changeNext: update.changeNext, committedNext: update.committedNext };
        return 'ok';
      },
      restore: async (p, all, replaces) => {
        act({ kind: 'restore', partition: p, all, replaces });
        this.shown = { changeNext: all.changeNext, committedNext: all.committedNext };
      },
      announce: async (p, decidedNext) => act({ kind: 'announce', partition: p, decidedNext }),
      read: async () => this.shown && { ...this.shown, setAside: new Set<number>() },
      subscribe: async () => ({ async close() {} }),
      async close() {},
    };
  }

  private metrics(): Metrics {
    const measure = (kind: Measured['kind']) => (name: Measured['name'], value: number, label?: string) =>
      void this.measuring.push({ kind, name, value, label });
    return { count: measure('count'), observe: measure('observe') };
  }
}

const emptyTurn = (): Turn => ({ kind: 'turn', answers: [], changes: [], board: [] });

let writer: Writer | undefined;

/** Ends the thread, and so the process: what the file holds now is known only to who opens it anew. */
function end(error: unknown): void {
  writer?.close();
  post({ kind: 'failed', error: toPlain(error) });
  port.close();
}

try {
  writer = new Writer(workerData as WriterOptions, createHost());
  post({ kind: 'opened' });
  await writer.start();
  post({ kind: 'ready' });
  const started = writer;
  port.on('message', (message: ToWriter) => {
    if (message.kind !== 'stop') {
      started.receive(message);
      return;
    }
    started.close();
    post({ kind: 'stopped' });
    port.close();
  });
} catch (error) {
  end(error);
}
