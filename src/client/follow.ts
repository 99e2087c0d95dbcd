/**
 * Waits for the outcome of one task. A stream is opened, again with `Last-Event-ID` when it breaks; when streams
 * fail in a row the status is read instead, and from time to time a stream is tried again.
 */
import { type Http, type OpenStream, ProblemError } from './http.ts';
import { SseParser } from './sse.ts';
import { backoffMs, type Clock, spread, type Timing } from './timing.ts';
import { type DoneTask, isProgress, isTask, type Progress, type TaskStatus } from './wire.ts';

/** The server fell silent. An accepted request stays in the queue: ask for the task, or again with the same key. */
export class UnansweredError extends Error {
  override name = 'UnansweredError';
  readonly couponId: string;
  /** The claim's Idempotency-Key: a claim with it again is the same request. */
  readonly key: string;
  /** Undefined when it is not known whether the request was taken. */
  readonly taskId: string | undefined;

  constructor(about: { couponId: string; key: string; taskId?: string }, why: string, cause?: unknown) {
    super(why, { cause });
    this.couponId = about.couponId;
    this.key = about.key;
    this.taskId = about.taskId;
  }
}

/** What all claims of a client know of its server. */
export interface Known {
  neverPushes: boolean;
  streamsOpen: number;
  streamsMax: number;
}

export interface Following {
  http: Http;
  timing: Timing;
  clock: Clock;
  server: Known;
  couponId: string;
  key: string;
  taskId: string;
  signal: AbortSignal;
  progress(progress: Progress): void;
}

export interface Followed {
  task: DoneTask;
  by: 'stream' | 'poll';
}

type Streamed =
  | { kind: 'done'; task: DoneTask }
  /** It said something and ended: a server that stops, a proxy with a time limit. */
  | { kind: 'ended' }
  | { kind: 'broken'; retryAfterMs: number | undefined }
  /** This server does not push (501), or as many streams as may be are open: it is asked. */
  | { kind: 'none' };

const notImplemented = 501;

export function follow(following: Following): Promise<Followed> {
  return new Follower(following).run();
}

class Follower {
  readonly #f: Following;
  readonly #path: string;
  /** How long nothing was heard while somebody asked, as of when. */
  #silentMs = 0;
  #silentAt: number;
  #lastEventId = '';
  #retryMs: number;
  #lastError: unknown;

  constructor(f: Following) {
    this.#f = f;
    this.#path = `/tasks/${encodeURIComponent(f.taskId)}`;
    this.#silentAt = f.clock.now();
    this.#retryMs = f.timing.streamRetryMs;
  }

  /** Ends with the outcome, the signal, a refusal of the task id, or silence beyond `silenceMsMax`. */
  async run(): Promise<Followed> {
    const { clock, server, signal, timing } = this.#f;
    let failures = 0;
    let againMs = timing.streamAgainMsMin;
    for (;;) {
      const streamed = await this.#stream();
      switch (streamed.kind) {
        case 'done':
          return { task: streamed.task, by: 'stream' };
        case 'ended':
          failures = 0;
          againMs = timing.streamAgainMsMin;
          await clock.wait(spread(this.#retryMs, clock.random), signal);
          break;
        case 'broken': {
          failures++;
          if (failures >= timing.streamFailuresMax) {
            const task = await this.#poll(againMs);
            if (task) return { task, by: 'poll' };
            againMs = Math.min(againMs * 2, timing.streamAgainMsMax);
            // One stream is tried; if it breaks too, polling goes on.
            failures = timing.streamFailuresMax - 1;
          } else {
            this.#refuseSilence();
            await clock.wait(this.#patience(failures, streamed.retryAfterMs), signal);
          }
          break;
        }
        case 'none': {
          await clock.wait(spread(timing.pollMsMin, clock.random), signal);
          signal.throwIfAborted();
          const task = await this.#poll(server.neverPushes ? Number.POSITIVE_INFINITY : timing.streamAgainMsMax);
          if (task) return { task, by: 'poll' };
          break;
        }
        default:
          streamed satisfies never;
      }
      signal.throwIfAborted();
    }
  }

  async #stream(): Promise<Streamed> {
    const { server } = this.#f;
    if (server.neverPushes || server.streamsOpen >= server.streamsMax) return { kind: 'none' };
    server.streamsOpen++;
    try {
      return await this.#listen();
    } finally {
      server.streamsOpen--;
    }
  }

  async #listen(): Promise<Streamed> {
    const { http, server, signal, timing } = this.#f;
    let stream: OpenStream;
    try {
      stream = await http.open(
        `${this.#path}/events`,
        this.#lastEventId === '' ? {} : { 'last-event-id': this.#lastEventId },
        { answerMsMax: timing.answerMsMax, idleMsMax: timing.streamIdleMsMax },
        signal,
      );
    } catch (error) {
      const retryAfterMs = this.#endure(error);
      if (!(error instanceof ProblemError && error.status === notImplemented)) return { kind: 'broken', retryAfterMs };
      server.neverPushes = true;
      return { kind: 'none' };
    }
    const parser = new SseParser(this.#lastEventId);
    const decoder = new TextDecoder();
    let heard = false;
    try {
      for (;;) {
        const { done, value } = await stream.reader.read();
        if (done) {
          stream.ended();
          return heard ? { kind: 'ended' } : { kind: 'broken', retryAfterMs: undefined };
        }
        stream.touch();
        for (const event of parser.push(decoder.decode(value, { stream: true }))) {
          heard = true;
          if (event.event === 'outcome') {
            const task: unknown = JSON.parse(event.data);
            if (!isTask(task) || task.state !== 'done') throw new SyntaxError('the event is no outcome');
            void drain(stream, timing.lingerMsMax);
            return { kind: 'done', task };
          }
          if (event.event === 'progress') {
            const progress: unknown = JSON.parse(event.data);
            if (!isProgress(progress)) throw new SyntaxError('the event is no progress');
            this.#progress(progress);
          }
        }
        this.#heard();
        this.#lastEventId = parser.lastEventId;
        if (parser.retryMs !== undefined) this.#retryMs = Math.min(parser.retryMs, timing.streamRetryMsMax);
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      this.#lastError = error;
      // A server that says what cannot be read has said nothing.
      if (error instanceof SyntaxError) heard = false;
    }
    stream.close();
    return heard ? { kind: 'ended' } : { kind: 'broken', retryAfterMs: undefined };
  }

  /** Reads the status for about `ms`; undefined when there was no outcome by then. */
  async #poll(ms: number): Promise<DoneTask | undefined> {
    const { clock, http, signal, timing } = this.#f;
    const until = clock.now() + ms;
    let failures = 0;
    let pollMs = timing.pollMsMin;
    do {
      let waitMs: number;
      try {
        const task = await http.call<TaskStatus>({ method: 'GET', path: this.#path, signal, is: isTask });
        if (task.state === 'done') return task;
        this.#heard();
        this.#progress(task);
        failures = 0;
        waitMs = spread(pollMs, clock.random);
        pollMs = Math.min(pollMs * 1.5, timing.pollMsMax);
      } catch (error) {
        failures++;
        waitMs = this.#patience(failures, this.#endure(error));
        this.#refuseSilence();
      }
      await clock.wait(waitMs, signal);
      signal.throwIfAborted();
    } while (clock.now() < until);
    return undefined;
  }

  #progress(progress: Progress): void {
    const { state, ahead } = progress;
    this.#f.progress(ahead === undefined ? { state } : { state, ahead });
  }

  #patience(failures: number, retryAfterMs: number | undefined): number {
    const { clock, timing } = this.#f;
    const asked = retryAfterMs === undefined ? 0 : spread(Math.min(retryAfterMs, timing.retryAfterMsMax), clock.random);
    return Math.max(asked, backoffMs(failures, timing, clock.random));
  }

  /** What may pass is noted and answered with the wait that was asked for; what cannot is thrown. */
  #endure(error: unknown): number | undefined {
    if (this.#f.signal.aborted) throw this.#f.signal.reason;
    if (error instanceof ProblemError && error.code === 'UNKNOWN_TASK') throw error;
    this.#lastError = error;
    return error instanceof ProblemError ? error.retryAfterMs : undefined;
  }

  #heard(): void {
    this.#silentMs = 0;
    this.#silentAt = this.#f.clock.now();
  }

  /** A device that slept heard nothing either: what passed since the last time counts as one dead stream at most. */
  #refuseSilence(): void {
    const { clock, couponId, key, taskId, timing } = this.#f;
    const now = clock.now();
    this.#silentMs += Math.min(now - this.#silentAt, timing.streamIdleMsMax);
    this.#silentAt = now;
    if (this.#silentMs <= timing.silenceMsMax) return;
    const ms = Math.round(this.#silentMs);
    const why = `no word of task ${taskId} for ${ms} ms; it stays in the queue and may be asked for again`;
    throw new UnansweredError({ couponId, key, taskId }, why, this.#lastError);
  }
}

/** Lets the server end the stream, so that the connection can be used again. */
async function drain(stream: OpenStream, msMax: number): Promise<void> {
  stream.limit(msMax);
  try {
    while (!(await stream.reader.read()).done);
    stream.ended();
  } catch {
    // The outcome is known; how the stream ends is not of interest.
    stream.close();
  }
}
