/**
 * What this process knows of the log's clock, which alone says whether a window is open: hosts' clocks are not asked.
 * An entry that was handed over at T and is decided was appended at or after T, at a time no greater than the
 * partition's clock C. So the log's clock was at most C at T, and is at most C and what has passed since.
 */
import type { Millis } from './coupon.ts';
import type { Host } from './host.ts';
import { clockSkewMsMax, logClockMsMax, logClockRenewMs } from './limits.ts';

/** Between two requests that are let through to find out, ms. */
const renewEveryMs = 1_000;

interface Known {
  /** An acknowledged entry whose decision is still to be seen. */
  asked: { offset: number; sentAt: number; dayMs: Millis } | undefined;
  /** At `at` the log's clock was at most this, and the host's, which began `dayMs` before `elapsed`, said `at + dayMs`. */
  most: { clock: Millis; at: number; dayMs: Millis } | undefined;
  renewedAt: number;
}

export class LogClock {
  private readonly partitions = new Map<number, Known>();
  private readonly host: Pick<Host, 'elapsed' | 'now'>;

  constructor(host: Pick<Host, 'elapsed' | 'now'>) {
    this.host = host;
  }

  /** The entry at `offset` was handed over at `sentAt` (`elapsed`) and is acknowledged. */
  appended(partition: number, offset: number, sentAt: number): void {
    const known = this.of(partition);
    // One that waits for its decision is not replaced by ever newer ones, but for one that nobody may ever see.
    if (known.asked && sentAt - known.asked.sentAt < logClockMsMax) return;
    known.asked = { offset, sentAt, dayMs: this.dayMs() };
  }

  /** The ledger has decided what is before `next`, with this clock. */
  seen(partition: number, next: number, clock: Millis): void {
    const known = this.of(partition);
    if (!known.asked || next <= known.asked.offset) return;
    const { sentAt, dayMs } = known.asked;
    known.most = { clock, at: sentAt, dayMs };
    known.asked = undefined;
  }

  /** The host's clock for what is shown, less what it is surely ahead: that does not age, or a sale would close and reopen. */
  shown(partition: number): Millis {
    const most = this.measured(partition);
    return this.host.now() - (most ? Math.max(0, most.at + most.dayMs - most.clock) : 0);
  }

  /**
   * How long until `time` by the log's clock, ms; undefined when it may be reached, or to find that out. Only who
   * `asks` sends a request that is let through to the log, so only that uses up the one of this second.
   */
  msBefore(partition: number, time: Millis, asks: boolean): number | undefined {
    const known = this.of(partition);
    const most = this.measured(partition);
    if (!most) return undefined;
    const now = this.host.elapsed();
    const ageMs = now - most.at;
    const left = time - (most.clock + ageMs);
    if (ageMs > logClockMsMax || left <= clockSkewMsMax) return undefined;
    if (ageMs > logClockRenewMs && now - known.renewedAt > renewEveryMs) {
      if (asks) known.renewedAt = now;
      return undefined;
    }
    return left;
  }

  /** Nothing when somebody set the host's clock since, or the host slept, in which what has passed is not counted. */
  private measured(partition: number): Known['most'] {
    const most = this.partitions.get(partition)?.most;
    return most && Math.abs(this.dayMs() - most.dayMs) <= clockSkewMsMax ? most : undefined;
  }

  private dayMs(): Millis {
    return this.host.now() - this.host.elapsed();
  }

  private of(partition: number): Known {
    let known = this.partitions.get(partition);
    if (!known) {
      known = { asked: undefined, most: undefined, renewedAt: Number.NEGATIVE_INFINITY };
      this.partitions.set(partition, known);
    }
    return known;
  }
}
