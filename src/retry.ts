import { Unavailable } from './errors.ts';
import { type Host, timers } from './host.ts';
import { retryMsMax, retryMsMin } from './limits.ts';

/** Exponential back-off with jitter, bounded: attempt 1 waits about retryMsMin, later ones up to retryMsMax. */
export function backoffMs(attempt: number, host: Host): number {
  const full = Math.min(retryMsMax, retryMsMin * 2 ** Math.min(attempt - 1, 16));
  const chance = (host.randomBytes(1)[0] as number) / 255;
  return full / 2 + (full / 2) * chance;
}

/** Rejects with Unavailable when `work` takes longer; the work itself goes on unobserved. */
export function within<T>(
  work: Promise<T>,
  ms: number,
  what: string,
  { after }: Pick<Host, 'after'> = timers,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const off = after(ms, () => reject(new Unavailable(`${what} did not answer within ${ms} ms`)));
    work.then(resolve, reject).finally(off);
  });
}
