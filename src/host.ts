import { randomBytes as cryptoRandomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import type { Millis, RequestKey } from './coupon.ts';

/** Time and chance, handed to the core so that a whole cluster can run under a seeded clock (simulator/). */
export interface Host {
  now(): Millis;
  /** Ms of a clock that nobody sets, from any beginning: what has passed is counted by it. */
  elapsed(): number;
  randomBytes(n: number): Buffer;
  /** Resolves after `ms`, or at once when the signal fires. */
  delay(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls once after `ms`. Answers how to call it off. */
  after(ms: number, call: () => void): () => void;
  /** Calls every `ms` until it is called off. */
  every(ms: number, call: () => void): () => void;
  /** Calls once this turn of the event loop has read all that arrived. */
  soon(call: () => void): void;
}

const poolBytes = 16 * 1024;

/** The process's own timers, for adapters as well. */
export const timers: Pick<Host, 'after' | 'every' | 'soon'> = {
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
  every(ms, call) {
    const timer = setInterval(call, ms);
    return () => clearInterval(timer);
  },
  soon(call) {
    setImmediate(call);
  },
};

export function createHost(): Host {
  let pool = Buffer.alloc(0);
  let used = 0;
  return {
    ...timers,
    now: Date.now,
    elapsed: () => performance.now(),
    randomBytes(n) {
      if (used + n > pool.length) {
        pool = cryptoRandomBytes(Math.max(poolBytes, n));
        used = 0;
      }
      used += n;
      return pool.subarray(used - n, used);
    },
    async delay(ms, signal) {
      // It rejects only when the signal fires, which ends the wait.
      await wait(ms, undefined, signal ? { signal } : {}).catch(() => {});
    },
  };
}

export const randomKey = (host: Host): RequestKey => host.randomBytes(8).toString('hex') as RequestKey;
