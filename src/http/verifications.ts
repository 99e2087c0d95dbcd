/** Who asks for a verification gets one that began after they asked, and shares it with all who wait for the same. */
import type { ServerResponse } from 'node:http';
import type { CouponId } from '../coupon.ts';
import { Unavailable } from '../errors.ts';
import { verificationsWaitingMax } from './limits.ts';

/** Rejects when `signal` says that nobody waits any more. */
export type Verify = (couponId: CouponId | undefined, signal: AbortSignal) => Promise<unknown>;

interface Verification {
  askers: number;
  abort: AbortController;
  report: Promise<unknown>;
}

/** One at a time: each works for some 10 ms between two rests, and those of several would come together. */
export class Verifications {
  private readonly waiting = new Map<CouponId | undefined, Verification>();
  private last: Promise<unknown> = Promise.resolve();
  private readonly verify: Verify;

  constructor(verify: Verify) {
    this.verify = verify;
  }

  /** `res` is whose connection says whether it is still waited for. @throws Unavailable when too many wait. */
  async ask(couponId: CouponId | undefined, res: ServerResponse): Promise<unknown> {
    const verification = this.waiting.get(couponId) ?? this.begin(couponId);
    verification.askers++;
    res.once('close', () => {
      if (--verification.askers === 0) verification.abort.abort(new Unavailable('nobody waits for it any more'));
    });
    return verification.report;
  }

  private begin(couponId: CouponId | undefined): Verification {
    if (this.waiting.size >= verificationsWaitingMax)
      throw new Unavailable(`${verificationsWaitingMax} other verifications wait for their turn`);
    const abort = new AbortController();
    const report = this.last.then(() => {
      this.waiting.delete(couponId);
      abort.signal.throwIfAborted();
      return this.verify(couponId, abort.signal);
    });
    this.last = Promise.allSettled([report]);
    const verification = { askers: 0, abort, report };
    this.waiting.set(couponId, verification);
    return verification;
  }
}
