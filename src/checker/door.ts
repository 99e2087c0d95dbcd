/** What was refused at the door, before the log: only who could not win, and never a key that had won. */
import type { Asked } from './asked.ts';
import type { Found } from './findings.ts';
import type { Call, Issue } from './history.ts';
import type { Judged, Truth } from './truth.ts';

/** What two clocks may differ by before a window is spoken of, and what a measured shift may be wrong by, ms. */
const skewMsMax = 2_500;

export class Door {
  /** Calls by the code of an answer of which a history does not know whether it was due: rates, tokens, what broke. */
  readonly unjudged: Record<string, number> = {};
  private readonly asked: Asked;
  private readonly truth: Truth;
  private readonly aside: ReadonlySet<string>;
  private readonly found: Found;

  /** `aside`: whose win is a dead letter, as `coupon user`. */
  constructor(asked: Asked, truth: Truth, aside: ReadonlySet<string>, found: Found) {
    this.asked = asked;
    this.truth = truth;
    this.aside = aside;
    this.found = found;
  }

  check(call: Call): void {
    if (call.op === 'issue') this.press(call);
    else this.countUnjudged(call);
  }

  private press(call: Issue): void {
    switch (call.body?.code) {
      case 'INACTIVE_COUPON':
        this.inactive(call, call.body.reason);
        this.neverLost(call);
        return;
      case 'DUPLICATED_COUPON':
        this.duplicated(call, call.body.slot);
        this.neverLost(call);
        return;
      case 'UNKNOWN_COUPON': {
        const created = this.asked.createdBefore(call.coupon, call.from);
        if (created) this.contradicted('unknown, and created before', call, created);
        else this.count(call);
        return;
      }
      default:
        this.countUnjudged(call);
        return;
    }
  }

  private countUnjudged(call: Call): void {
    if (!isJudged(call)) this.count(call);
  }

  private count({ body, status }: Call): void {
    const code = body?.code ?? `HTTP_${status}`;
    this.unjudged[code] = (this.unjudged[code] ?? 0) + 1;
  }

  private inactive(call: Issue, reason: string | undefined): void {
    const sale = this.truth.sales.get(call.coupon);
    if (!sale) {
      this.contradicted('refused as inactive, and never opened', call);
      return;
    }
    const places = this.asked.placesOf(call.coupon);
    const high = places.high(call.to ?? Number.POSITIVE_INFINITY);
    switch (reason) {
      case 'sold_out': {
        const heard = this.asked.heard(call.coupon, call.from).map(({ line }) => line.offset + 1);
        if (!sale.wasSoldOut(Math.max(0, ...heard), high)) this.contradicted('it was not sold out', call);
        return;
      }
      case 'closed':
        if (!sale.wasClosed(high)) this.contradicted('it was not closed', call);
        return;
      case 'not_open': {
        const { opensAt, partition } = sale;
        const { low, high: most } = places.shift;
        // Two measurements that exclude each other tell of a clock that was set: nothing follows from them.
        const even = low <= most + skewMsMax;
        const seen = partition.clockAt(places.low(call.from));
        const clock = Math.max(seen, even ? call.from + low - skewMsMax : 0);
        if (opensAt === null || clock >= opensAt) this.contradicted('it was open', call);
        // One without a key is refused from memory, which hears of a close a moment later.
        else if (call.key !== undefined && sale.wasClosed(places.low(call.from)))
          this.contradicted('it was closed for good', call);
        return;
      }
      default:
        this.contradicted(`no such reason: ${reason}`, call);
        return;
    }
  }

  private duplicated(call: Issue, slot: number | undefined): void {
    const win = this.truth.sales.get(call.coupon)?.wins.get(call.user);
    const high = this.asked.placesOf(call.coupon).high(call.to ?? Number.POSITIVE_INFINITY);
    if (this.aside.has(`${call.coupon} ${call.user}`)) this.contradicted('a duplicate of a win without a row', call);
    if (win?.slot !== slot)
      this.contradicted(`said to hold slot ${slot}, the log gives ${win?.slot}`, call, win?.entry.line);
    else if (!win || win.entry.line.offset >= high)
      this.contradicted('said to hold what nobody can have won by then', call, win?.entry.line);
  }

  /** A request with the key that won must not be told that it lost, whatever became of the answer to the first. */
  private neverLost(call: Issue): void {
    const won = this.truth.sales.get(call.coupon)?.wins.get(call.user)?.entry;
    if (call.key === undefined || !won || !this.asked.requestOf(call)?.entries.includes(won)) return;
    const reason = call.body?.reason;
    // It may have come again when the sale was open.
    if (reason === 'not_open' && won.line.offset >= this.asked.placesOf(call.coupon).low(call.from)) return;
    if (reason === 'sold_out' && this.isBehindRestock(won, call)) return;
    this.contradicted('refused with the key that won', call, won.line);
  }

  /** Nobody had heard of the restock yet that let it win. */
  private isBehindRestock(won: Judged, call: Issue): boolean {
    const heard = new Set(this.asked.heard(call.coupon, call.from));
    const stocked = [...(this.truth.sales.get(call.coupon)?.stocked.values() ?? [])];
    return stocked.some(restock => restock.line.offset < won.line.offset && !heard.has(restock));
  }

  private contradicted(why: string, ...witnesses: unknown[]): void {
    this.found.add('contradicted', `at the door: ${why}`, ...witnesses);
  }
}

/** That there is no stream for who asks so, for one more of one address, or at all: the status is there to be asked. */
const noStream: ReadonlySet<number> = new Set([406, 429, 501]);

/** 503 is how the service says that it cannot at present; no other failure is ever due. */
function isJudged(call: Call): boolean {
  const { op, status } = call;
  if (status === undefined || status === 503) return true;
  switch (op) {
    case 'issue':
      return status === 200 || status === 202;
    case 'task':
      return status === 200 || status === 404 || (call.stream === true && noStream.has(status));
    case 'create':
    case 'stock':
    case 'close':
      return status < 500;
  }
}
