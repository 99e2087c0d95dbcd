/** What batching is worth to the ledger: entries through one script call a batch, and through a call each. */
import { Redis } from 'ioredis';
import type { CouponId, RequestKey, UserId } from '../src/coupon.ts';
import type { Located } from '../src/entry.ts';
import { createHost } from '../src/host.ts';
import { applyBatchMax } from '../src/limits.ts';
import { createRedisLedger, type RedisLedger } from '../src/redis/ledger.ts';
import type { Measurement } from './bench.ts';
import { alternate, median, type Side, summary } from './rounds.ts';

const couponId = 'all-win' as CouponId;
const stock = 10_000_000;
/** Calls of one entry that are under way at once, so that the way there and back is not what is measured. */
const underWay = 256;

export const reserve: Measurement = {
  name: 'reserve',
  about: "entries per second through the ledger's batch / one script call per entry",
  seconds: 20,
  async run(bench) {
    const { services } = await bench.cluster();
    const ledger = createRedisLedger({ url: services.redisUrl, prefix: 'bench-reserve', host: createHost() });
    const redis = new Redis(services.redisUrl);
    try {
      const sale = await Sale.open(ledger);
      const lean = new LeanSale(redis);
      const ms = Math.min(2, bench.seconds) * 500;
      const sides: Side<number>[] = [
        { name: 'batch', run: () => perSecond(ms, () => sale.apply(applyBatchMax)) },
        { name: 'single', run: () => perSecond(ms, () => sale.applyEach(underWay)) },
        { name: 'lean', run: () => perSecond(ms, () => lean.issueEach(underWay)) },
      ];
      for (const side of sides) await side.run(-1);
      bench.say(
        ` entries a second: ${applyBatchMax} a call | one a call, ${underWay} under way | the least script, one a call`,
      );
      const rounds = await alternate(sides, bench.pace);
      const of = (side: number) => (median(rounds.map(({ values }) => values[side] ?? 0)) / 1000).toFixed(1);
      return {
        lines: [
          {
            what: `reserve: entries/s, ${applyBatchMax} a script call / one a script call`,
            ...{ reach: 3.5, aim: 5, better: 'more', unit: '' },
            measured: summary(rounds, ([batch = 0, single = 1]) => batch / single),
            note: `${of(0)} of ${of(1)} k/s; ${of(2)} k/s by the least script that could decide one, without its record and its order`,
          },
        ],
        rounds,
      };
    } finally {
      redis.disconnect();
      await ledger.close();
    }
  },
};

/** Calls `work`, which answers how many it did, for `ms`. */
export async function perSecond(ms: number, work: () => Promise<number>): Promise<number> {
  const from = performance.now();
  let n = 0;
  while (performance.now() - from < ms) n += await work();
  return (n * 1000) / (performance.now() - from);
}

/** One partition of a ledger with one open sale; every request is another user's. */
class Sale {
  private readonly ledger: RedisLedger;
  private readonly build: string;
  private next = 0;

  private constructor(ledger: RedisLedger, build: string) {
    this.ledger = ledger;
    this.build = build;
  }

  static async open(ledger: RedisLedger): Promise<Sale> {
    const strays = { malformed: 0, unknown_coupon: 0 };
    const nothing = { frontier: { next: 0, clock: 0, hash: '', strays }, sales: [], malformed: [], holders: none() };
    const place = await ledger.rebuild(0, 'bench', nothing, undefined);
    if (place.kind === 'missing') throw new Error('the ledger could not be made');
    const sale = new Sale(ledger, place.build);
    const at = Date.now();
    await sale.send([{ type: 'opened', couponId, stock, opensAt: null, closesAt: null, offset: 0, at }]);
    return sale;
  }

  async apply(n: number): Promise<number> {
    await this.send(this.requests(n));
    return n;
  }

  async applyEach(n: number): Promise<number> {
    await Promise.all(this.requests(n).map(entry => this.send([entry])));
    return n;
  }

  private requests(n: number): Located[] {
    const at = Date.now();
    return Array.from({ length: n }, (_, i) => {
      const offset = this.next + i;
      const key = offset.toString(16).padStart(16, '0') as RequestKey;
      return { type: 'request', couponId, userId: `user-${offset}` as UserId, key, offset, at };
    });
  }

  private async send(entries: Located[]): Promise<void> {
    const from = (entries[0] as Located).offset;
    const next = from + entries.length;
    this.next = Math.max(this.next, next);
    const applied = await this.ledger.apply(0, this.build, { from, next, hash: 'bench', entries, alsoCount: [] });
    if (applied.kind !== 'applied' || applied.changes.length !== entries.length) {
      throw new Error(`the ledger did not take entries from ${from}: ${applied.kind}`);
    }
  }
}

async function* none() {}

/** One user and one unit a call, as short as a script can be: what one would write who wants it fast and no more. */
const leanScript = `
local taken = redis.call('HLEN', KEYS[1])
if taken >= tonumber(ARGV[2]) then return 0 end
return redis.call('HSETNX', KEYS[1], ARGV[1], taken + 1)`;

class LeanSale {
  private readonly redis: Redis & { issueOne: (key: string, user: string, stock: number) => Promise<number> };
  private users = 0;

  constructor(redis: Redis) {
    redis.defineCommand('issueOne', { numberOfKeys: 1, lua: leanScript });
    this.redis = redis as LeanSale['redis'];
  }

  async issueEach(n: number): Promise<number> {
    const { redis } = this;
    const calls = Array.from({ length: n }, () => redis.issueOne('bench-lean', `user-${++this.users}`, stock));
    for (const issued of await Promise.all(calls)) if (issued !== 1) throw new Error('the least script issued none');
    return n;
  }
}
