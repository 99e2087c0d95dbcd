import type { CouponId, CouponRow } from './coupon.ts';
import { messageOf } from './errors.ts';
import type { Host } from './host.ts';
import { latchCouponsMax, latchMsMax } from './limits.ts';
import type { Log } from './metrics.ts';
import type { LedgerReader } from './ports.ts';
import type { Phase } from './sale.ts';

/** The background read comes a little before the last one's lease ends, so that there is no gap. */
const readEveryMs = latchMsMax * 0.8;
/** A coupon that nobody asked for in this time is not followed any more. */
const followMs = 10_000;

/**
 * Remembers for at most `latchMsMax` a coupon's phase, so that the crowd of one that is not open is refused from memory.
 * The lease counts from when the read that confirmed it was sent; only that read sets it.
 */
export class Latch {
  private readonly leases = new Map<string, { phase: Phase; until: number }>();
  private readonly followed = new Map<CouponId, { partition: number; askedAt: number }>();
  private readonly tools: { ledger: LedgerReader; host: Host; say: Log };
  private stopReading: (() => void) | undefined;
  private reading = false;

  constructor(tools: { ledger: LedgerReader; host: Host; say: Log }) {
    this.tools = tools;
  }

  /** Why nobody can win any more. */
  shut(couponId: string): 'sold_out' | 'closed' | undefined {
    const phase = this.phase(couponId);
    return phase === 'sold_out' || phase === 'closed' ? phase : undefined;
  }

  phase(couponId: string): Phase | undefined {
    const lease = this.leases.get(couponId);
    if (!lease) return undefined;
    const now = this.tools.host.elapsed();
    if (lease.until <= now) return undefined;
    const followed = this.followed.get(couponId as CouponId);
    if (followed) followed.askedAt = now;
    return lease.phase;
  }

  watch({ couponId, partition }: CouponRow): void {
    const followed = this.followed.get(couponId);
    if (followed) followed.askedAt = this.tools.host.elapsed();
    else if (this.followed.size < latchCouponsMax) {
      this.followed.set(couponId, { partition, askedAt: this.tools.host.elapsed() });
    }
    this.stopReading ??= this.tools.host.every(readEveryMs, () => void this.read());
  }

  /** Forgets everything: after a broken subscription nothing is known. */
  drop(): void {
    this.leases.clear();
  }

  stop(): void {
    this.stopReading?.();
    this.stopReading = undefined;
  }

  private async read(): Promise<void> {
    const { host, ledger, say } = this.tools;
    const sentAt = host.elapsed();
    for (const [couponId, { askedAt }] of this.followed) {
      if (sentAt - askedAt <= followMs) continue;
      this.followed.delete(couponId);
      this.leases.delete(couponId);
    }
    if (this.followed.size === 0) return this.stop();
    if (this.reading) return;
    this.reading = true;
    try {
      const wanted = [...this.followed].map(([couponId, { partition }]) => ({ couponId, partition }));
      const sales = await ledger.sales(wanted);
      for (const { couponId } of wanted) {
        const phase = sales.get(couponId)?.phase;
        if (phase) this.leases.set(couponId, { phase, until: sentAt + latchMsMax });
        else this.leases.delete(couponId);
      }
    } catch (error) {
      say('debug', `background read failed: ${messageOf(error)}`);
    } finally {
      this.reading = false;
    }
  }
}
