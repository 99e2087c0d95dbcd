/** Requests over any fetch: whole answers as JSON, problems as errors, streams by their reader. */
import { timerMsMax } from './timing.ts';
import type { Problem } from './wire.ts';

/** The part of `fetch` that the client uses: the global one fits, and so does a small one of one's own. */
export type FetchLike = (url: string, init: FetchInit) => Promise<FetchAnswer>;

export interface FetchInit {
  method: string;
  headers: Record<string, string>;
  body?: string;
  signal: AbortSignal;
  /** Of a POST `manual`: followed, it may arrive as a GET. */
  redirect?: 'follow' | 'manual';
}

export interface FetchAnswer {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  text(): Promise<string>;
  readonly body: { getReader(): ChunkReader } | null;
}

export interface ChunkReader {
  read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>;
  cancel(): Promise<unknown>;
}

/**
 * The server refused. `code` is stable (API.md); `HTTP_502`, `NOT_DIBS`, `REDIRECTED` and the like when the answer is no
 * problem of dibs.
 */
export class ProblemError extends Error {
  override name = 'ProblemError';
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  /** What `Retry-After` asked for. */
  readonly retryAfterMs: number | undefined;
  /** The body with all its members. */
  readonly problem: Problem;

  constructor(status: number, problem: Problem, retryAfterMs?: number) {
    const said = [problem.detail, problem.title].find(text => typeof text === 'string');
    const detail = said ?? `the server answered ${status}`;
    super(detail);
    this.status = status;
    this.code = typeof problem.code === 'string' ? problem.code : `HTTP_${status}`;
    this.detail = detail;
    this.retryAfterMs = retryAfterMs;
    this.problem = problem;
  }
}

/** No answer came, or not the whole of it. `cause` says why. */
export class UnreachableError extends Error {
  override name = 'UnreachableError';
  readonly url: string;

  constructor(url: string, why: string, cause?: unknown) {
    super(why, { cause });
    this.url = url;
  }
}

export interface Call {
  method: 'GET' | 'POST';
  path: string;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  answerMsMax?: number;
  /** What a 2xx answer must be; another is a ProblemError NOT_DIBS. */
  is?: (body: unknown) => boolean;
}

/** An open stream; `touch` puts off its death of silence. */
export interface OpenStream {
  reader: ChunkReader;
  touch(): void;
  /** From now on it may last this long in all. */
  limit(ms: number): void;
  /** It was read to its end. */
  ended(): void;
  /** Ends it before its end. */
  close(): void;
}

export interface Http {
  /**
   * The body of a 2xx answer, parsed.
   * @throws ProblemError for any other status, UnreachableError when no whole answer came, the signal's reason.
   */
  call<T>(call: Call): Promise<T>;
  /** Opens an event stream. Throws as `call` does; an answer that is no event stream is a ProblemError too. */
  open(
    path: string,
    headers: Record<string, string>,
    times: { answerMsMax: number; idleMsMax: number },
    signal: AbortSignal,
  ): Promise<OpenStream>;
}

export function createHttp(baseUrl: string, fetch: FetchLike, answerMsMax: number): Http {
  const base = baseUrl.replace(/\/+$/, '');
  return {
    async call<T>(call: Call): Promise<T> {
      const url = base + call.path;
      const limit = new TimeLimit(call.signal);
      limit.arm(call.answerMsMax ?? answerMsMax);
      const init: FetchInit = { method: call.method, headers: { ...call.headers }, signal: limit.signal };
      if (call.body !== undefined) {
        init.body = JSON.stringify(call.body);
        init.headers['content-type'] = 'application/json';
      }
      if (call.method === 'POST') init.redirect = 'manual';
      try {
        refuseUnsendable(init.headers);
        const answer = await fetch(url, init);
        // Read whatever it is: connections may be given back, and calls recorded, at an answer's end.
        const text = await answer.text();
        if (init.redirect && isRedirect(answer.status)) throw redirected(answer);
        if (answer.status < 200 || answer.status > 299) throw problemOf(answer, text);
        return parseBody(answer.status, text, call.is) as T;
      } catch (error) {
        throw limit.explain(url, error);
      } finally {
        limit.close();
      }
    },

    async open(path, headers, times, signal) {
      const url = base + path;
      const limit = new TimeLimit(signal);
      limit.arm(times.answerMsMax);
      try {
        const answer = await fetch(url, {
          method: 'GET',
          headers: { ...headers, accept: 'text/event-stream' },
          signal: limit.signal,
        });
        if (answer.status !== 200) throw problemOf(answer, await answer.text());
        const type = answer.headers.get('content-type') ?? '';
        if (!type.startsWith('text/event-stream') || !answer.body) {
          throw new ProblemError(answer.status, {
            code: 'NO_STREAM',
            detail: `${url} gave "${type}", no event stream`,
          });
        }
        limit.arm(times.idleMsMax);
        return {
          reader: answer.body.getReader(),
          touch: () => limit.touch(),
          limit: ms => limit.arm(ms),
          ended: () => limit.close(),
          close: () => limit.cut(cutShort),
        };
      } catch (error) {
        limit.cut(cutShort);
        throw limit.explain(url, error);
      }
    },
  };
}

/** One for all: an abort without a reason makes an exception with a stack each time. Never shown to anybody. */
const cutShort = new Error('the request was cut short');

/** Aborts one request when its time is over or when the caller's signal fires. */
class TimeLimit {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ms = 0;
  #touchedAt = 0;
  #overMs: number | undefined;
  readonly #onAbort = () => this.cut(this.#outer?.reason);

  constructor(outer: AbortSignal | undefined) {
    this.#outer = outer;
    if (outer?.aborted) this.#controller.abort(outer.reason);
    else outer?.addEventListener('abort', this.#onAbort);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  arm(ms: number): void {
    clearTimeout(this.#timer);
    this.#ms = ms;
    this.#touchedAt = performance.now();
    this.#timer = setTimeout(this.#look, Math.min(ms, timerMsMax));
  }

  /** Starts the time anew; costs no timer. */
  touch(): void {
    this.#touchedAt = performance.now();
  }

  readonly #look = () => {
    const left = this.#touchedAt + this.#ms - performance.now();
    if (left > 0) {
      this.#timer = setTimeout(this.#look, Math.min(left, timerMsMax));
      return;
    }
    this.#overMs = this.#ms;
    this.#controller.abort(cutShort);
  };

  /** The request is over. */
  close(): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener('abort', this.#onAbort);
  }

  /** Ends the request, whatever it is at. */
  cut(reason: unknown): void {
    this.close();
    this.#controller.abort(reason);
  }

  explain(url: string, error: unknown): unknown {
    if (this.#outer?.aborted) return this.#outer.reason;
    if (error instanceof ProblemError) return error;
    if (this.#overMs !== undefined) return new UnreachableError(url, `no answer within ${this.#overMs} ms`, error);
    return new UnreachableError(url, messageOf(error), error);
  }
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause instanceof Error && cause.message ? `${error.message}: ${cause.message}` : error.message;
}

/** What no server could be asked: fetch would say so as if nothing answered, and with the value, which may be a token. */
function refuseUnsendable(headers: Record<string, string>): void {
  for (const [name, value] of Object.entries(headers)) {
    const isKey = name === 'idempotency-key';
    if ((isKey ? /^[\x21-\x7e]{1,64}$/ : /^[\x20-\x7e]*$/).test(value)) continue;
    const detail = `the header ${name} holds what is not ${isKey ? '1 to 64 visible' : 'printable'} ASCII`;
    throw new ProblemError(400, { code: 'MALFORMED_REQUEST', detail });
  }
}

function parseBody(status: number, text: string, is?: (body: unknown) => boolean): unknown {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ProblemError(status, { code: 'NOT_DIBS', detail: 'the answer is not JSON' });
  }
  if (typeof body !== 'object' || body === null) {
    throw new ProblemError(status, { code: 'NOT_DIBS', detail: 'the answer is no JSON object' });
  }
  if (is && !is(body)) throw new ProblemError(status, { code: 'NOT_DIBS', detail: 'the answer is no task' });
  return body;
}

/** A browser shows neither status nor address of a redirection that it does not follow. */
const isRedirect = (status: number): boolean => status === 0 || (status >= 300 && status <= 399);

function redirected({ headers, status }: FetchAnswer): ProblemError {
  const to = headers.get('location');
  const detail = `the server redirects${to === null ? '' : ` to ${to}`}: use the address that it redirects to`;
  return new ProblemError(status, { code: 'REDIRECTED', detail });
}

function problemOf(answer: FetchAnswer, text: string): ProblemError {
  let problem: Problem = {};
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null) problem = body as Problem;
  } catch {
    // A proxy's page: the status has to do.
  }
  return new ProblemError(answer.status, problem, parseRetryAfter(answer.headers.get('retry-after')));
}

/** Seconds or an HTTP date, as ms from now; undefined when absent or neither. */
function parseRetryAfter(text: string | null): number | undefined {
  if (text === null || text === '') return undefined;
  if (/^[0-9]+$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}
