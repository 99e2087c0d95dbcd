/**
 * Clean histories, seeded: a small service that makes no mistake, with a crowd that retries, comes back, loses its
 * streams and its answers, and an operator who restocks and closes. The fold and the status are those of the core.
 */
import type { Dump, RowLine } from '../../src/checker/dump.ts';
import type { Call, HistoryLine, Issue, Told } from '../../src/checker/history.ts';
import type { CouponId, UserId } from '../../src/coupon.ts';
import { decodeEntry, type Entry, encodeEntry } from '../../src/entry.ts';
import { clockSkewMsMax } from '../../src/limits.ts';
import { type Status, statusOf, type View } from '../../src/outcome.ts';
import { currentTerms, PartitionFold, type Phase } from '../../src/sale.ts';
import { keyHash } from '../../src/task.ts';

/** What the log's clock is ahead of the history's. */
const shift = 1_700_000_000_000;

export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = (seed + 1) * 0x9e3779b1;
  }

  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  between(low: number, high: number): number {
    return low + this.next() * (high - low);
  }

  int(low: number, high: number): number {
    return Math.floor(this.between(low, high + 1));
  }

  chance(p: number): boolean {
    return this.next() < p;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.int(0, from.length - 1)] as T;
  }
}

interface Lane {
  entries: { at: number; text: string }[];
  fold: PartitionFold;
  committedNext: number;
  setAside: Set<number>;
  clock: number;
}

interface Coupon {
  id: string;
  lane: number;
  stock: number;
  opensAt: number | null;
  closesAt: number | null;
}

interface Place {
  coupon: Coupon;
  user: string;
  offset: number;
  key: string;
}

export interface Sample {
  history: HistoryLine[];
  dump: Dump;
}

/** `rich`: a sale that is certain to have winners, losers, a restock, duplicates, streams and a dead letter. */
export function sampleOf(seed: number): Sample {
  return new Service(seed).run();
}

class Service {
  private readonly random: Random;
  private readonly queue: { at: number; n: number; run: () => void }[] = [];
  private readonly lanes: Lane[];
  private readonly coupons: Coupon[];
  private readonly history: HistoryLine[] = [];
  private readonly rows: RowLine[] = [];
  private readonly letters: Dump['letters'] = [];
  private now = 0;
  private events = 0;
  private streams = 0;
  private tasks = 0;
  private waiting = 0;

  constructor(seed: number) {
    const random = new Random(seed);
    this.random = random;
    this.lanes = Array.from({ length: random.int(1, 2) }, () => ({
      ...{ entries: [], fold: new PartitionFold(), committedNext: 0, setAside: new Set<number>(), clock: 0 },
    }));
    this.coupons = Array.from({ length: random.int(1, 3) }, (_, i) => {
      // The first is open from the start, and has winners and losers for certain.
      const opensAt = i > 0 && random.chance(0.4) ? shift + random.int(10, 3_500) : null;
      const closes = i > 0 && random.chance(0.3) ? shift + random.int(200, 4_000) : null;
      // A window that ends before it begins is none.
      const closesAt = closes === null ? null : Math.max(closes, (opensAt ?? 0) + 100);
      const stock = i === 0 ? random.int(3, 8) : random.int(0, 8);
      return { id: `c${i}`, lane: random.int(0, this.lanes.length - 1), stock, opensAt, closesAt };
    });
  }

  run(): Sample {
    const { random } = this;
    for (const coupon of this.coupons) this.create(coupon);
    const [first] = this.coupons as [Coupon];
    for (let user = 0; user < 24; user++) this.later(random.between(5, 600), () => this.press(first, `u${user}`, true));
    for (let i = 0; i < 40; i++) {
      const press = () => this.press(random.pick(this.coupons), `u${random.int(0, 40)}`, random.chance(0.9));
      this.later(random.between(5, 4_500), press);
    }
    for (const user of ['twice', 'thrice']) this.pressUnkeyed(first, user);
    for (const coupon of this.coupons) {
      if (coupon === first || random.chance(0.5)) this.later(random.between(650, 3_000), () => this.restock(coupon));
      if (random.chance(0.3)) this.later(random.between(2_500, 4_500), () => this.close(coupon));
    }
    this.later(300, () => this.put(first.lane, 'no entry'));
    for (let user = 50; user < 62; user++) this.later(4_400, () => this.press(first, `u${user}`, true));
    for (let at = 1; at < 5_500; at += random.between(2, 12)) this.later(at, () => this.work());
    while (this.queue.length > 0) {
      const event = this.queue.shift() as (typeof this.queue)[number];
      this.now = event.at;
      event.run();
    }
    if (this.waiting > 0) throw new Error(`${this.waiting} wait for ever`);
    const entries = this.lanes.flatMap((lane, partition) =>
      lane.entries.map((entry, offset) => ({ kind: 'entry' as const, partition, offset, ...entry })),
    );
    return { history: this.history, dump: { entries, rows: this.rows, letters: this.letters } };
  }

  private later(ms: number, run: () => void): void {
    const event = { at: this.now + ms, n: this.events++, run };
    let [low, high] = [0, this.queue.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.queue[middle] as typeof event;
      if (other.at > event.at) high = middle;
      else low = middle + 1;
    }
    this.queue.splice(low, 0, event);
  }

  /** Notes the call with its answer, which comes a little later; without a status it is lost on its way. */
  private answer<T extends Call>(call: T, status: number | undefined, body: Told | undefined, then = () => {}): void {
    this.later(this.random.between(0.1, 3), () => {
      const lost = status === undefined;
      this.history.push({ ...call, ...(lost ? {} : { to: this.now, status, ...(body ? { body } : {}) }) });
      then();
    });
  }

  private put(partition: number, text: string): number {
    const lane = this.lanes[partition] as Lane;
    // A broker's clock may step back a little.
    const at = Math.floor(this.now + shift - (this.random.chance(0.05) ? 1 : 0));
    return lane.entries.push({ at, text }) - 1;
  }

  private append(coupon: Coupon, entry: Exclude<Entry, { type: 'malformed' }>): number {
    return this.put(coupon.lane, encodeEntry(entry));
  }

  private create(coupon: Coupon): void {
    const { id, stock, opensAt, closesAt } = coupon;
    const call = { op: 'create' as const, from: this.now, coupon: id, stock, opensAt, closesAt };
    this.append(coupon, { type: 'opened', couponId: id as CouponId, stock, opensAt, closesAt });
    this.answer(call, 201, undefined);
  }

  private press(coupon: Coupon, user: string, keyed: boolean): void {
    const key = keyed ? `k${this.random.int(0, 1e9)}` : undefined;
    this.send(coupon, user, key, keyed && this.random.chance(0.1) ? 2 : 1);
  }

  /** Again and again without a key: before it is answered, before it is told, or later. */
  private pressUnkeyed(coupon: Coupon, user: string): void {
    const { random } = this;
    const begin = random.between(5, 100);
    const press = () => this.press(coupon, user, false);
    this.later(begin, press);
    this.later(begin + random.between(0.1, 12), press);
    if (user === 'thrice') this.later(begin + random.between(0.1, 30), press);
  }

  private send(coupon: Coupon, user: string, key: string | undefined, times: number): void {
    const { random } = this;
    const call: Issue = { op: 'issue', from: this.now, coupon: coupon.id, user, ...(key === undefined ? {} : { key }) };
    const again = () => this.later(random.between(1, 400), () => this.send(coupon, user, key, 1));
    if (times > 1) again();
    this.later(random.between(0.1, 1), () => {
      const hash = keyHash(`${coupon.id} ${user}`, key ?? `${random.next()}`);
      const refused = this.filter(coupon, user, hash);
      if (refused) return this.answer(call, refused.status, refused.body);
      if (random.chance(0.03))
        return this.answer(call, 503, { code: 'NOT_ACCEPTED' }, key === undefined ? undefined : again);
      this.later(random.between(0.1, 2), () => {
        const silent = random.chance(0.06);
        if (silent && random.chance(0.5)) return this.answer(call, 503, { code: 'OUTCOME_UNKNOWN' }, again);
        const { id } = coupon;
        const offset = this.append(coupon, {
          type: 'request',
          couponId: id as CouponId,
          userId: user as UserId,
          key: hash,
        });
        const lost = random.chance(0.5) ? undefined : 503;
        if (silent) return this.answer(call, lost, lost && { code: 'OUTCOME_UNKNOWN' }, again);
        const task = `task-${this.tasks++}`;
        const place = { coupon, user, offset, key: hash };
        this.waiting++;
        this.answer(call, 202, { taskId: task, state: 'accepted' }, () => this.follow(task, place));
      });
    });
  }

  private filter(coupon: Coupon, user: string, key: string): { status: number; body: Told } | undefined {
    const { fold, committedNext, setAside } = this.lanes[coupon.lane] as Lane;
    const sale = fold.sales.get(coupon.id);
    const holder = sale?.holders.get(user);
    if (holder) {
      if (holder.offset >= committedNext || setAside.has(holder.offset)) return undefined;
      if (holder.key !== key) return { status: 409, body: { code: 'DUPLICATED_COUPON', slot: holder.slot } };
      const body = { taskId: `task-${this.tasks++}`, state: 'done', outcome: 'issued', slot: holder.slot };
      return { status: 200, body };
    }
    if (coupon.opensAt !== null && this.now + shift < coupon.opensAt - clockSkewMsMax) {
      return { status: 403, body: { code: 'INACTIVE_COUPON', reason: 'not_open' } };
    }
    const phase: Phase | undefined = sale && currentTerms(sale).phase;
    const shut = phase === 'sold_out' || phase === 'closed';
    return shut ? { status: 410, body: { code: 'INACTIVE_COUPON', reason: phase } } : undefined;
  }

  /** By streams that break, and at times by asking. */
  private follow(task: string, place: Place): void {
    const stream = this.streams++;
    let last = '';
    let ahead = Number.POSITIVE_INFINITY;
    const look = () => {
      const status = this.statusOf(place);
      const told = toldOf(status);
      const { next } = (this.lanes[place.coupon.lane] as Lane).fold.frontier;
      if (told.state === 'accepted') {
        ahead = Math.min(ahead, Math.max(0, place.offset - next));
        told.ahead = ahead;
      }
      const text = JSON.stringify(told);
      if (text !== last) {
        const event = status.state === 'done' ? 'outcome' : 'progress';
        this.history.push({ op: 'frame', at: this.now, stream, task, event, body: told });
      }
      last = text;
      if (status.state === 'done' || (status.state === 'set_aside' && this.now > 5_400)) {
        this.waiting--;
        if (this.random.chance(0.2)) this.ask(task, place);
        return;
      }
      if (status.state === 'accepted' && this.now > 5_400) this.waiting--;
      else if (this.random.chance(0.1)) this.later(this.random.between(1, 50), () => this.follow(task, place));
      else this.later(this.random.between(1, 30), look);
      if (this.random.chance(0.05)) this.ask(task, place);
    };
    look();
  }

  private ask(task: string, place: Place): void {
    const call = { op: 'task' as const, from: this.now, task };
    this.answer(call, 200, toldOf(this.statusOf(place)));
  }

  private statusOf({ coupon, user, offset, key }: Place): Status {
    const { fold, committedNext, setAside } = this.lanes[coupon.lane] as Lane;
    const sale = fold.sales.get(coupon.id);
    const holder = sale?.holders.get(user);
    const view: View = {
      ...{ next: fold.frontier.next, committedNext, holder, changes: sale?.changes ?? [], malformed: false },
      holderSetAside: holder !== undefined && setAside.has(holder.offset),
    };
    return statusOf({ offset, key: key as never }, view);
  }

  private restock(coupon: Coupon): void {
    const call = { op: 'stock' as const, from: this.now, coupon: coupon.id, add: this.random.int(1, 4), key: 'more' };
    const key = keyHash(coupon.id, 'more');
    const offset = this.append(coupon, { type: 'stock_added', couponId: coupon.id as CouponId, add: call.add, key });
    this.decided(coupon, offset, () => {
      const counted = (this.lanes[coupon.lane] as Lane).fold.sales.get(coupon.id)?.changes.some(c => c.key === key);
      this.answer(call, counted ? 200 : 409, counted ? undefined : { code: 'COUPON_CLOSED' });
    });
  }

  private close(coupon: Coupon): void {
    const call = { op: 'close' as const, from: this.now, coupon: coupon.id };
    const offset = this.append(coupon, { type: 'closed', couponId: coupon.id as CouponId });
    this.decided(coupon, offset, () => this.answer(call, 200, undefined));
  }

  private decided(coupon: Coupon, offset: number, then: () => void): void {
    const { next } = (this.lanes[coupon.lane] as Lane).fold.frontier;
    if (next > offset) then();
    else this.later(3, () => this.decided(coupon, offset, then));
  }

  /** Decides some, commits some: both stages lag. */
  private work(): void {
    this.lanes.forEach((lane, partition) => {
      const { fold, entries } = lane;
      const last = this.now > 5_200;
      if (last || this.random.chance(0.3)) lane.committedNext = fold.frontier.next;
      const until = last ? entries.length : Math.min(entries.length, fold.frontier.next + this.random.int(0, 6));
      for (let offset = fold.frontier.next; offset < until; offset++) {
        const entry = entries[offset] as Lane['entries'][number];
        const changes = fold.decide(decodeEntry({ offset, ...entry }));
        fold.frontier.next = offset + 1;
        if (fold.malformed.has(offset)) {
          const nobody = { coupon: null, user: null, slot: null, key: null };
          this.letters.push({ kind: 'letter', partition, offset, ...nobody, reason: 'malformed: not JSON' });
        }
        for (const change of changes) {
          if (change.type !== 'won') continue;
          const { couponId: coupon, userId: user, slot, key, at } = change;
          if (this.random.chance(0.05)) {
            lane.setAside.add(offset);
            const reason = 'refused_by_store: no';
            this.letters.push({ kind: 'letter', partition, offset, coupon, user, slot, key, reason });
          } else this.rows.push({ kind: 'row', coupon, user, slot, offset, key, at });
        }
      }
    });
  }
}

function toldOf(status: Status): Told {
  if (status.state !== 'done') return { state: status.state };
  const { outcome } = status;
  return outcome === 'issued' || outcome === 'duplicated'
    ? { state: 'done', outcome, slot: status.slot }
    : { state: 'done', outcome, reason: status.reason };
}
