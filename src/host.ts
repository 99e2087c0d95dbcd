import { randomBytes as cryptoRandomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import type { Millis, RequestKey } from './coupon.ts';

/** Time and chance, handed to the core so that a whole cluster can run under a seeded clock. */
export interface Host {
  now(): Millis;
  randomBytes(n: number): Buffer;
  /** Resolves after `ms`, or at once when the signal fires. */
  delay(ms: number, signal?: AbortSignal): Promise<void>;
}

const poolBytes = 16 * 1024;

export function createHost(): Host {
  let pool = Buffer.alloc(0);
  let used = 0;
  return {
    now: Date.now,
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
