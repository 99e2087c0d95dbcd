/**
 * One press of the button: POST /issue until the server has taken or refused it, always with the same
 * Idempotency-Key, then the push. The server's word, whichever it is, is an outcome; the promise is rejected only
 * when there is no word: aborted, or silence (UnansweredError).
 */
import { type Followed, follow, type Known, UnansweredError } from './follow.ts';
import { type Http, ProblemError, UnreachableError } from './http.ts';
import { backoffMs, type Clock, spread, type Timing } from './timing.ts';
import {
  type DoneTask,
  type InactiveReason,
  isInactiveReason,
  isTask,
  type Progress,
  type TaskStatus,
} from './wire.ts';

/** How a claim ended. `taskId` is there when the request was in the log, absent when it was refused at the door. */
export type ClaimOutcome = { couponId: string; taskId?: string } & (
  | { outcome: 'issued'; slot: number; userCouponId: string; issuedAt?: string }
  /** This user holds the coupon by an earlier request. */
  | { outcome: 'duplicated'; slot: number; userCouponId: string; issuedAt?: string }
  | { outcome: 'inactive'; reason: InactiveReason; opensAt?: string }
  /** `code` as in API.md: MALFORMED_REQUEST, UNKNOWN_COUPON, UNAUTHENTICATED, TOO_MANY_REQUESTS, NOT_ACCEPTED, ... */
  | { outcome: 'refused'; code: string; detail: string; status?: number; retryAfterMs?: number }
);

/** Who presses: a token, or a user id where the server asks for none. */
export type Identity = { userId: string; token?: undefined } | { token: string; userId?: undefined };

export type ClaimOptions = (Identity | { userId?: undefined; token?: undefined }) & {
  /** Idempotency-Key, 1 to 64 visible ASCII; random when absent. The same key is the same request. */
  key?: string;
  /** Ends everything at once; the outcome is rejected with its reason. */
  signal?: AbortSignal;
};

/** How the outcome came: at the door (no task), by the push, or by asking. */
export type Via = 'door' | 'stream' | 'poll';

export interface Claim extends AsyncIterable<Progress> {
  readonly couponId: string;
  readonly key: string;
  /**
   * The end. Rejected with the signal's reason, an UnansweredError (no word from the server; safe to claim again
   * with `key`), or a ProblemError UNKNOWN_TASK (the server is another one). Never unhandled.
   */
  readonly outcome: Promise<ClaimOutcome>;
  /** As soon as the request is durable; undefined when it was refused at the door. Rejected as `outcome` is. */
  readonly taskId: Promise<string | undefined>;
  /** How often it was sent so far. */
  readonly tries: number;
  /** Undefined until the outcome is there. */
  readonly via: Via | undefined;
  abort(reason?: unknown): void;
}

export interface ClaimBase {
  http: Http;
  timing: Timing;
  clock: Clock;
  server: Known;
}

export function startClaim(
  base: ClaimBase,
  couponId: string,
  identity: Record<string, string>,
  options: { key?: string | undefined; signal?: AbortSignal | undefined },
): Claim {
  return new RunningClaim(base, couponId, identity, options);
}

const noop = () => {};

class RunningClaim implements Claim {
  readonly couponId: string;
  readonly key: string;
  readonly outcome: Promise<ClaimOutcome>;
  readonly taskId: Promise<string | undefined>;
  tries = 0;
  via: Via | undefined;

  readonly #base: ClaimBase;
  readonly #headers: Record<string, string>;
  readonly #stop = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #outcome = Promise.withResolvers<ClaimOutcome>();
  readonly #taskId = Promise.withResolvers<string | undefined>();

  #progress: Progress | undefined;
  /** Counts what changed, so that each reader knows what it has seen. */
  #version = 0;
  #ended = false;
  #changed: PromiseWithResolvers<void> | undefined;

  constructor(
    base: ClaimBase,
    couponId: string,
    identity: Record<string, string>,
    options: { key?: string | undefined; signal?: AbortSignal | undefined },
  ) {
    this.#base = base;
    this.couponId = couponId;
    this.key = options.key ?? randomKey();
    this.#headers = { ...identity, 'idempotency-key': this.key };
    this.outcome = this.#outcome.promise;
    this.taskId = this.#taskId.promise;
    // Whoever uses only one of iterable, taskId and outcome must not be told of the others.
    this.outcome.catch(noop);
    this.taskId.catch(noop);
    this.#outer = options.signal;
    if (this.#outer?.aborted) {
      this.#onAbort();
      return;
    }
    this.#outer?.addEventListener('abort', this.#onAbort);
    this.#run().catch(error => this.#fail(error));
  }

  abort(reason?: unknown): void {
    if (this.#ended) return;
    this.#stop.abort(reason);
    this.#fail(this.#stop.signal.reason);
  }

  /** The newest progress whenever there is news; what a slow reader did not see is left out. Ends at the outcome. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Progress, void, void> {
    let seen = 0;
    for (;;) {
      if (this.#version > seen && this.#progress) {
        seen = this.#version;
        yield this.#progress;
      } else if (this.#ended) {
        await this.outcome;
        return;
      } else {
        this.#changed ??= Promise.withResolvers<void>();
        await this.#changed.promise;
      }
    }
  }

  readonly #onAbort = () => this.abort(this.#outer?.reason);

  async #run(): Promise<void> {
    const answer = await this.#accept();
    if ('outcome' in answer && !('state' in answer)) return this.#finish(answer, 'door');
    if (answer.state === 'done') {
      this.#taskId.resolve(answer.taskId);
      return this.#finish(outcomeOf(answer), 'poll');
    }
    const { taskId } = answer;
    this.#taskId.resolve(taskId);
    this.#tell(answer.ahead === undefined ? { state: answer.state } : { state: answer.state, ahead: answer.ahead });
    const { task, by }: Followed = await follow({
      ...this.#base,
      couponId: this.couponId,
      key: this.key,
      taskId,
      signal: this.#stop.signal,
      progress: progress => this.#tell(progress),
    });
    this.#finish(outcomeOf(task), by);
  }

  /** Sends the request until it is taken or refused for good; bounded by triesMax and acceptMsMax. */
  async #accept(): Promise<TaskStatus | ClaimOutcome> {
    const { clock, http, timing } = this.#base;
    const { signal } = this.#stop;
    const path = `/coupons/${encodeURIComponent(this.couponId)}/issue`;
    const until = clock.now() + timing.acceptMsMax;
    let mayBeQueued = false;
    for (;;) {
      this.tries++;
      let failure: ProblemError | UnreachableError;
      try {
        return await http.call<TaskStatus>({ method: 'POST', path, headers: this.#headers, signal, is: isTask });
      } catch (error) {
        if (signal.aborted || !(error instanceof ProblemError || error instanceof UnreachableError)) throw error;
        failure = error;
      }
      const asked = failure instanceof ProblemError ? failure.retryAfterMs : undefined;
      if (failure instanceof ProblemError) {
        if (!mayPass(failure)) {
          if (!mayBeQueued || isVerdict(failure)) return refusalOf(this.couponId, failure);
          throw this.#unanswered(failure);
        }
        // A proxy's 502 says as little as a cut connection.
        if (failure.code !== 'NOT_ACCEPTED' && failure.status !== 429) mayBeQueued = true;
      } else mayBeQueued = true;

      const back = backoffMs(this.tries, timing, clock.random);
      const waitMs = asked === undefined ? back : Math.max(back, spread(asked, clock.random));
      const over = this.tries >= timing.triesMax || clock.now() + waitMs > until;
      if (over || (asked ?? 0) > timing.retryAfterMsMax) {
        if (!mayBeQueued && failure instanceof ProblemError) return refusalOf(this.couponId, failure);
        throw this.#unanswered(failure);
      }
      await clock.wait(waitMs, signal);
      signal.throwIfAborted();
    }
  }

  #unanswered(failure: ProblemError | UnreachableError): UnansweredError {
    const why = `no answer to the request after ${this.tries} tries: ${failure.message}`;
    return new UnansweredError({ couponId: this.couponId, key: this.key }, why, failure);
  }

  /** One claim never goes back, whichever streams and status reads it was pieced together from. */
  #tell({ state, ahead }: Progress): void {
    const before = this.#progress;
    const next: Progress = {
      state: before && before.state !== 'accepted' && state === 'accepted' ? before.state : state,
    };
    const least = Math.min(ahead ?? Infinity, before?.ahead ?? Infinity);
    if (least !== Infinity) next.ahead = least;
    if (this.#ended || (before?.state === next.state && before.ahead === next.ahead)) return;
    this.#progress = next;
    this.#version++;
    this.#wake();
  }

  #finish(outcome: ClaimOutcome, via: Via): void {
    if (this.#ended) return;
    this.via = via;
    this.#outcome.resolve(outcome);
    this.#taskId.resolve(outcome.taskId);
    this.#end();
  }

  #fail(error: unknown): void {
    if (this.#ended) return;
    this.#outcome.reject(error);
    this.#taskId.reject(error);
    this.#end();
  }

  #end(): void {
    this.#ended = true;
    this.#outer?.removeEventListener('abort', this.#onAbort);
    this.#wake();
  }

  #wake(): void {
    this.#changed?.resolve();
    this.#changed = undefined;
  }
}

/** What time may cure: rates, overload, a log that is away, a proxy without its server, a 202 that was cut short. */
function mayPass({ status }: ProblemError): boolean {
  return status === 202 || status === 408 || status === 429 || status >= 500;
}

const verdicts = new Set(['DUPLICATED_COUPON', 'INACTIVE_COUPON', 'UNKNOWN_COUPON', 'MALFORMED_REQUEST']);

/** Said of the coupon and the request, whichever try brings it. Anything else says nothing of an earlier try. */
const isVerdict = ({ code }: ProblemError): boolean => verdicts.has(code);

function refusalOf(couponId: string, error: ProblemError): ClaimOutcome {
  const { problem, code, detail, status, retryAfterMs } = error;
  if (code === 'DUPLICATED_COUPON' && typeof problem.slot === 'number' && typeof problem.userCouponId === 'string') {
    return { outcome: 'duplicated', couponId, slot: problem.slot, userCouponId: problem.userCouponId };
  }
  const { reason } = problem;
  if (code === 'INACTIVE_COUPON' && isInactiveReason(reason)) {
    const opens = typeof problem.opensAt === 'string' ? { opensAt: problem.opensAt } : {};
    return { outcome: 'inactive', couponId, reason, ...opens };
  }
  return {
    outcome: 'refused',
    couponId,
    code,
    detail,
    status,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
}

export function outcomeOf(task: DoneTask): ClaimOutcome {
  const { taskId, couponId } = task;
  switch (task.outcome) {
    case 'issued':
    case 'duplicated': {
      const { outcome, slot, userCouponId, issuedAt } = task;
      return { outcome, couponId, taskId, slot, userCouponId, ...(issuedAt === undefined ? {} : { issuedAt }) };
    }
    case 'inactive':
      return { outcome: 'inactive', couponId, taskId, reason: task.reason };
    case 'refused':
      return task.reason === 'malformed'
        ? { outcome: 'refused', couponId, taskId, code: 'MALFORMED_REQUEST', detail: 'the request could not be read' }
        : { outcome: 'refused', couponId, taskId, code: 'UNKNOWN_COUPON', detail: `no coupon ${couponId}` };
  }
}

const keyBytes = 16;
/** Randomness is fetched for many keys at once: a call costs ten times what its bytes cost. */
const pool = new Uint8Array(keyBytes * 64);
let poolUsed = pool.length;

/** 128 random bits: two claims never meet in one key. */
function randomKey(): string {
  if (poolUsed === pool.length) {
    crypto.getRandomValues(pool);
    poolUsed = 0;
  }
  let key = '';
  for (const byte of pool.subarray(poolUsed, poolUsed + keyBytes)) key += byte.toString(16).padStart(2, '0');
  poolUsed += keyBytes;
  return key;
}
