/** A crowd under faults whose every call and event is kept: it presses, retries, follows, and asks again at the end. */
import type { HistoryLine } from '../src/checker/history.ts';
import { createNodeFetch, type NodeFetch } from '../src/cli/node-fetch.ts';
import { recorded } from '../src/cli/record.ts';
import type { FetchLike } from '../src/client/http.ts';
import { type Claim, type Client, createClient } from '../src/client/index.ts';
import type { Timing } from '../src/client/timing.ts';
import { eventually, testTiming } from '../test/support/sale.ts';

const requestsMax = 64;
const streamsMax = 2_000;
/** Everybody is told within this once the faults are over. */
export const settleMsMax = 90_000;
/** Nobody gives up before the round does: who did would look like one who was turned away. */
const patience = { triesMax: Infinity, acceptMsMax: Infinity, silenceMsMax: Infinity };
/** Of a status asked at the end. */
const asksAtOnceMax = 50;

export class Crowd {
  readonly history: HistoryLine[] = [];
  /** What those heard whom the service refused for good. */
  readonly turnedAway: string[] = [];
  readonly couponId: string;
  private readonly urls: readonly string[];
  private readonly fetches = new Map<string, NodeFetch>();
  private readonly claims: { claim: Claim; user: string; key: string; ended: boolean }[] = [];
  private readonly fetch: FetchLike;
  private readonly timing: Partial<Timing>;
  private users = 0;
  private underWay = 0;

  constructor(couponId: string, urls: readonly string[], timing: Partial<Timing> = testTiming) {
    this.timing = { ...timing, ...patience };
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
  client(turn = this.claims.length): Client {
    const baseUrl = this.urls[turn % this.urls.length] as string;
    return createClient({ baseUrl, fetch: this.fetch, timing: this.timing });
  }

  async open(stock: number, window: { opensAt?: string; closesAt?: string } = {}): Promise<void> {
    await this.client(0).coupons.create({ couponId: this.couponId, name: this.couponId, stock, ...window });
  }

  get size(): number {
    return this.claims.length;
  }

  get answered(): number {
    return this.claims.filter(({ ended }) => ended).length;
  }

  press(users: number): void {
    for (let i = 0; i < users; i++) this.pressAs(`u${this.users++}`);
  }

  pressAs(user: string, key: string = `${user}-${this.claims.length}`): void {
    const claim = this.client().claim(this.couponId, { userId: user, key });
    const press = { claim, user, key, ended: false };
    this.claims.push(press);
    const end = (away?: string) => {
      press.ended = true;
      if (away !== undefined) this.turnedAway.push(`${user}: ${away}`);
    };
    claim.outcome.then(
      told => end(told.outcome === 'refused' ? `${told.code}, ${told.detail}` : undefined),
      (error: unknown) => end(String(error)),
    );
  }

  /** Some who pressed already press again, with the same key or with another. */
  pressAgain(users: number): void {
    for (const { user, key } of this.claims.slice(0, users)) {
      this.pressAs(user, this.claims.length % 2 === 0 ? key : undefined);
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
    for (const { claim } of this.claims) claim.abort();
    await eventually(
      'all presses have ended',
      () => this.underWay,
      underWay => underWay === 0,
    );
  }

  close(): void {
    for (const { claim } of this.claims) claim.abort();
    for (const { close } of this.fetches.values()) close();
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
