/** A crowd under faults whose every call and event is kept: it presses, retries, follows, and asks again at the end. */
import type { HistoryLine } from '../src/checker/history.ts';
import { createNodeFetch, type NodeFetch } from '../src/cli/node-fetch.ts';
import { recorded } from '../src/cli/record.ts';
import { createHttp, type FetchLike } from '../src/client/http.ts';
import { type Client, createClient } from '../src/client/index.ts';
import { defaultTiming, type Timing } from '../src/client/timing.ts';
import { eventually, testTiming } from '../test/support/sale.ts';
import { pressUnkeyed } from './unkeyed.ts';

const requestsMax = 64;
const streamsMax = 2_000;
/** Everybody is told within this once the faults are over. */
export const settleMsMax = 90_000;
/** Nobody gives up before the round does: who did would look like one who was turned away. */
const patience = { triesMax: Infinity, acceptMsMax: Infinity, silenceMsMax: Infinity };
/** Of a status asked at the end. */
const asksAtOnceMax = 50;
/** One of so many presses without a key, and one of so many twice at once. */
const unkeyedEach = 3;
const twiceEach = 6;

interface Press {
  user: string;
  /** Undefined of who presses without one. */
  key: string | undefined;
  ended: boolean;
  abort(): void;
}

export class Crowd {
  readonly history: HistoryLine[] = [];
  /** What those heard whom the service refused for good. */
  readonly turnedAway: string[] = [];
  readonly couponId: string;
  private readonly urls: readonly string[];
  private readonly fetches = new Map<string, NodeFetch>();
  private readonly presses: Press[] = [];
  private readonly fetch: FetchLike;
  private readonly timing: Timing;
  private users = 0;
  private underWay = 0;

  constructor(couponId: string, urls: readonly string[], timing: Partial<Timing> = testTiming) {
    this.timing = { ...defaultTiming, ...timing, ...patience };
    this.couponId = couponId;
    this.urls = urls;
    this.fetch = recorded(
      (url, init) => {
        if (url.endsWith('/issue')) this.underWay++;
        return this.fetchOf(new URL(url).origin).fetch(url, init);
      },
      line => {
        if (line.op === 'issue') this.underWay--;
        this.history.push(line);
      },
    );
  }

  /** A client of one of the API processes, by turns. */
  client(turn?: number): Client {
    return createClient({ baseUrl: this.urlOf(turn), fetch: this.fetch, timing: this.timing });
  }

  async open(stock: number, window: { opensAt?: string; closesAt?: string } = {}): Promise<void> {
    await this.client(0).coupons.create({ couponId: this.couponId, name: this.couponId, stock, ...window });
  }

  get size(): number {
    return this.presses.length;
  }

  get answered(): number {
    return this.presses.filter(({ ended }) => ended).length;
  }

  press(users: number): void {
    for (let i = 0; i < users; i++) {
      const user = `u${this.users++}`;
      if (this.users % unkeyedEach === 0) this.pressUnkeyed(user);
      else this.pressAs(user);
      if (this.users % twiceEach === 0) this.pressUnkeyed(user);
    }
  }

  private pressAs(user: string, key: string = `${user}-${this.presses.length}`): void {
    const claim = this.client().claim(this.couponId, { userId: user, key });
    const away = claim.outcome.then(told => (told.outcome === 'refused' ? `${told.code}, ${told.detail}` : undefined));
    this.follow({ user, key, ended: false, abort: () => claim.abort() }, away);
  }

  private pressUnkeyed(user: string): void {
    const { couponId, timing } = this;
    const http = createHttp(this.urlOf(), this.fetch, timing.answerMsMax);
    const stop = new AbortController();
    const away = pressUnkeyed({ http, timing, couponId, user, signal: stop.signal });
    this.follow({ user, key: undefined, ended: false, abort: () => stop.abort() }, away);
  }

  /** `away`: what turned the user away, if anything did. */
  private follow(press: Press, away: Promise<string | undefined>): void {
    this.presses.push(press);
    const end = (why?: string) => {
      press.ended = true;
      if (why !== undefined) this.turnedAway.push(`${press.user}: ${why}`);
    };
    away.then(end, (error: unknown) => end(String(error)));
  }

  /** Some who pressed already press again: with the same key or without one as before, or with another. */
  pressAgain(users: number): void {
    for (const { user, key } of this.presses.slice(0, users)) {
      if (this.presses.length % 2 !== 0) this.pressAs(user);
      else if (key === undefined) this.pressUnkeyed(user);
      else this.pressAs(user, key);
    }
  }

  /** New users all the time until it is ended. */
  pressing(eachMs: number): { [Symbol.dispose](): void } {
    const timer = setInterval(() => this.press(1), eachMs);
    return { [Symbol.dispose]: () => clearInterval(timer) };
  }

  /** The server may be away: it is tried with one key until it is answered. */
  async restock(add: number, key: string): Promise<void> {
    await eventually(
      'the restock is answered',
      () => this.client().coupons.addStock(this.couponId, add, { key }),
      () => true,
      settleMsMax,
    );
  }

  async answeredAtLeast(n: number, msMax = settleMsMax): Promise<void> {
    await eventually(
      `${n} of ${this.size} are told`,
      () => this.answered,
      answered => answered >= n,
      msMax,
    );
  }

  /** All are told; then each task is asked for once more. */
  async settle(): Promise<void> {
    await this.answeredAtLeast(this.size);
    const tasks = this.history.flatMap(line => (line.op === 'issue' && line.body?.taskId ? [line.body.taskId] : []));
    for (let i = 0; i < tasks.length; i += asksAtOnceMax) {
      await Promise.all(tasks.slice(i, i + asksAtOnceMax).map((task, n) => this.client(n).task(task)));
    }
  }

  /** Nobody presses any more, and each press that was under way is in the history, which a dump may now be held against. */
  async leave(): Promise<void> {
    for (const press of this.presses) press.abort();
    await eventually(
      'all presses have ended',
      () => this.underWay,
      underWay => underWay === 0,
    );
  }

  close(): void {
    for (const press of this.presses) press.abort();
    for (const { close } of this.fetches.values()) close();
  }

  private urlOf(turn = this.presses.length): string {
    return this.urls[turn % this.urls.length] as string;
  }

  private fetchOf(origin: string): NodeFetch {
    let made = this.fetches.get(origin);
    if (!made) {
      made = createNodeFetch(origin, { requestsMax, streamsMax });
      this.fetches.set(origin, made);
    }
    return made;
  }
}
