/** Every wait and bound of the client, by name and with its unit. All may be set on `createClient`. */
export interface Timing {
  /** One request may take this long until its answer is whole (a stream: until its head is there). */
  answerMsMax: number;
  /** A claim that was not accepted is sent again with the same key, at most so often and for so long in all. */
  triesMax: number;
  acceptMsMax: number;
  /** Back-off between tries doubles from min to max; the wait is between half of it and all of it. */
  backoffMsMin: number;
  backoffMsMax: number;
  /** A server that asks for more patience (`Retry-After`) than this is not waited for. */
  retryAfterMsMax: number;
  /** Between two streams when the server says nothing (`retry:`), and what of its word is honoured. */
  streamRetryMs: number;
  streamRetryMsMax: number;
  /** A stream that is silent for this long is dead: the server writes a comment every 15 s. */
  streamIdleMsMax: number;
  /** Streams that failed in a row before the claim asks for the status instead. */
  streamFailuresMax: number;
  /** Between two status reads, growing from min to max. */
  pollMsMin: number;
  pollMsMax: number;
  /** How long it polls before it tries a stream again, doubling from min to max. */
  streamAgainMsMin: number;
  streamAgainMsMax: number;
  /** An accepted claim gives up once the server has said nothing at all for this long. */
  silenceMsMax: number;
  /** After the outcome the server ends the stream; beyond this the client does, and the connection is lost. */
  lingerMsMax: number;
}

export const defaultTiming: Readonly<Timing> = {
  answerMsMax: 10_000,
  triesMax: 12,
  acceptMsMax: 60_000,
  backoffMsMin: 100,
  backoffMsMax: 5_000,
  retryAfterMsMax: 30_000,
  streamRetryMs: 1_000,
  streamRetryMsMax: 30_000,
  streamIdleMsMax: 40_000,
  streamFailuresMax: 3,
  pollMsMin: 250,
  pollMsMax: 3_000,
  streamAgainMsMin: 10_000,
  streamAgainMsMax: 60_000,
  silenceMsMax: 120_000,
  lingerMsMax: 1_000,
};

/** Time and chance, so that a test can own them. */
export interface Clock {
  /** Milliseconds that only go forward, whatever is done to the time of day. */
  now(): number;
  /** 0 <= x < 1. */
  random(): number;
  /** Resolves after `ms`, or at once when the signal fires. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
}

/** Timers know 31 bits; beyond them, as for Infinity, they fire at once. */
export const timerMsMax = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  random: () => Math.random(),
  wait(ms, signal) {
    if (signal.aborted) return Promise.resolve();
    return new Promise(resolve => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, Math.min(ms, timerMsMax));
      signal.addEventListener('abort', end);
    });
  },
};

/** The wait after the `failures`th failure in a row: 1-based, jittered, never above backoffMsMax. */
export function backoffMs(failures: number, timing: Timing, random: () => number): number {
  const full = Math.min(timing.backoffMsMax, timing.backoffMsMin * 2 ** Math.min(failures - 1, 30));
  return full / 2 + (full / 2) * random();
}

/** What a server asked for is a least: never sooner, and up to a quarter later so that a crowd spreads. */
export const spread = (ms: number, random: () => number): number => ms + (ms / 4) * random();
