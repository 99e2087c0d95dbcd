/** Token buckets: each holder of a name may do so many a second, and as many at once as one second brings. */
import type { Host } from '../host.ts';
import { bucketsMax, debtMsMax } from './limits.ts';
import { type Problem, problem } from './problem.ts';

interface Bucket {
  tokens: number;
  /** ms */
  at: number;
}

export class Buckets {
  /** Oldest use first. One that is forgotten was left alone for long, so it was full or is one of too many. */
  private readonly buckets = new Map<string, Bucket>();
  private readonly perMs: number;
  private readonly burst: number;

  constructor(perSecond: number) {
    this.perMs = perSecond / 1000;
    this.burst = Math.max(1, perSecond);
  }

  /** Takes one token; otherwise answers after how many ms there will be one. */
  take(name: string, now: number): number {
    const bucket = this.bucketOf(name, now);
    if (bucket.tokens < 1) return (1 - bucket.tokens) / this.perMs;
    bucket.tokens--;
    return 0;
  }

  /** Takes one token, there or not: it is owed then, up to what `debtMsMax` bring. */
  charge(name: string, now: number): void {
    const bucket = this.bucketOf(name, now);
    bucket.tokens = Math.max(-debtMsMax * this.perMs, bucket.tokens - 1);
  }

  private bucketOf(name: string, now: number): Bucket {
    let bucket = this.buckets.get(name);
    if (bucket) {
      this.buckets.delete(name);
      bucket.tokens = Math.min(this.burst, bucket.tokens + Math.max(0, now - bucket.at) * this.perMs);
      bucket.at = now;
    } else {
      bucket = { tokens: this.burst, at: now };
      if (this.buckets.size >= bucketsMax) this.buckets.delete(this.buckets.keys().next().value as string);
    }
    this.buckets.set(name, bucket);
    return bucket;
  }

  /** How many ms until there is a token; none is taken. One who was never seen has some. */
  waitMs(name: string, now: number): number {
    const bucket = this.buckets.get(name);
    if (!bucket) return 0;
    return Math.max(0, (1 - bucket.tokens) / this.perMs - Math.max(0, now - bucket.at));
  }

  get size(): number {
    return this.buckets.size;
  }
}

export interface Rates {
  /** Undefined: go on. */
  refuse(userId: string, address: () => string): Problem | undefined;
}

/** Requests a second; undefined or 0 for no limit. */
export function createRates(
  { ratePerUser, ratePerAddress }: { ratePerUser?: number | undefined; ratePerAddress?: number | undefined },
  host: Host,
): Rates {
  const users = ratePerUser ? new Buckets(ratePerUser) : undefined;
  const addresses = ratePerAddress ? new Buckets(ratePerAddress) : undefined;
  return {
    refuse(userId, address) {
      if (addresses) {
        const waitMs = addresses.take(networkOf(address()), host.elapsed());
        if (waitMs > 0) return tooMany('address', waitMs);
      }
      const waitMs = users?.take(userId, host.elapsed()) ?? 0;
      return waitMs > 0 ? tooMany('user', waitMs) : undefined;
    },
  };
}

const tooMany = (who: string, waitMs: number): Problem =>
  problem('TOO_MANY_REQUESTS', `more requests than one ${who} may make in this time`, { retryAfterS: waitMs / 1000 });

/** One who has an IPv6 address has a whole /64 of them. */
export function networkOf(address: string): string {
  if (address.startsWith('::ffff:') && address.includes('.')) return address.slice(7);
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  const rest = tail ? tail.split(':') : [];
  while (tail !== undefined && groups.length + rest.length < 8) groups.push('0');
  return [...groups, ...rest].slice(0, 4).join(':');
}
