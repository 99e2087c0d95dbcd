/** What was asked, held against the log: nothing accepted is missing, nothing is there that nobody asked for. */
import { createHash } from 'node:crypto';
import { boundsOf } from './counted.ts';
import type { Found } from './findings.ts';
import {
  type AddStock,
  type Call,
  type Close,
  type Create,
  type HistoryLine,
  type Issue,
  isAccepted,
  isUnknown,
} from './history.ts';
import { type Placed, Places } from './places.ts';
import { type Judged, type Partition, requestId, type Sale, stockId, stockMax, type Truth } from './truth.ts';

/** As an Idempotency-Key stands in an entry. */
const keyHash = (scope: string, key: string): string =>
  createHash('sha256').update(`${scope}\n${key}`).digest('hex').slice(0, 16);

/** All calls that are the same request: one key, or one user's without keys. */
export interface Request {
  coupon: string;
  user: string;
  calls: Issue[];
  /** In the order of the log. */
  entries: Judged[];
}

const isDone = ({ status }: Call): boolean => status === 200 || status === 201;

/** Whether an operator's call may have left an entry; it may be told `UNAVAILABLE` or that its entry changed nothing after it was appended. */
const mayStand = ({ status = 0, body }: Call): boolean =>
  body?.code !== 'NOT_ACCEPTED' && (status < 400 || status === 409 || status >= 500);

type OperatorsCall = Create | AddStock | Close;

export class Asked {
  readonly requests = new Map<string, Request>();
  readonly creates = new Map<string, Create[]>();
  readonly stocks = new Map<string, AddStock[]>();
  readonly closes = new Map<string, Close[]>();
  private readonly places = new Map<Partition, Places>();
  private readonly truth: Truth;
  private readonly found: Found;

  constructor(history: readonly HistoryLine[], truth: Truth, found: Found) {
    this.truth = truth;
    this.found = found;
    for (const line of history) this.sort(line);
    this.attribute();
    const certain = Map.groupBy(this.certain(), ({ judged }) => judged.partition);
    const bounds = [...this.requests.values()].map(request => boundsOf(request, this.hasAllOf(request.coupon)));
    const answered = Map.groupBy(
      [...this.answeredOperators(), ...bounds.flatMap(bound => bound.answered)],
      ({ judged }) => judged.partition,
    );
    const begun = Map.groupBy(
      bounds.flatMap(bound => bound.begun),
      ({ partition }) => partition,
    );
    for (const partition of new Set([...certain.keys(), ...answered.keys(), ...begun.keys()])) {
      const placed = certain.get(partition) ?? [];
      const places = new Places(placed, answered.get(partition), begun.get(partition));
      this.places.set(partition, places);
      this.checkOrder(placed, places);
    }
    for (const request of this.requests.values()) this.checkRequest(request);
    this.checkOperator();
    this.checkStrangers();
  }

  requestOf({ coupon, user, key }: Issue): Request | undefined {
    return this.requests.get(idOf(coupon, user, key));
  }

  placesOf(coupon: string): Places {
    const partition = this.truth.partitionOf.get(coupon);
    return (partition && this.places.get(partition)) ?? noPlaces;
  }

  /** Whether all calls for the coupon are in the history, or, when none is named, for every coupon of the log. */
  hasAllOf(coupon: string | undefined): boolean {
    return coupon === undefined ? this.truth.sales.keys().every(id => this.creates.has(id)) : this.creates.has(coupon);
  }

  createdBefore(coupon: string, from: number): Create | undefined {
    return this.creates.get(coupon)?.find(call => isDone(call) && call.to !== undefined && call.to < from);
  }

  /** Where the entry of an accepted call may stand. */
  entriesOf(call: Issue): Judged[] {
    const places = this.placesOf(call.coupon);
    const [low, high] = [places.low(call.from), places.high(call.to ?? Number.POSITIVE_INFINITY)];
    const all = this.requestOf(call)?.entries ?? [];
    return all.filter(({ line }) => line.offset >= low && line.offset < high);
  }

  /** Restocks of the coupon that were answered before `from`; everybody has heard of them. */
  heard(coupon: string, from: number): Judged[] {
    const sale = this.truth.sales.get(coupon);
    const calls = this.stocks.get(coupon) ?? [];
    const keys = calls.filter(call => isDone(call) && (call.to ?? from) < from).map(({ key }) => stockKey(coupon, key));
    return keys.flatMap(key => sale?.stocked.get(key) ?? []);
  }

  private sort(line: HistoryLine): void {
    switch (line.op) {
      case 'issue': {
        const { coupon, user, key } = line;
        const request = this.requests.get(idOf(coupon, user, key));
        if (request) request.calls.push(line);
        else {
          this.requests.set(idOf(coupon, user, key), { coupon, user, calls: [line], entries: [] });
        }
        return;
      }
      case 'create':
        add(this.creates, line);
        return;
      case 'stock':
        add(this.stocks, line);
        return;
      case 'close':
        add(this.closes, line);
        return;
      case 'task':
      case 'frame':
        return;
    }
  }

  /** Entries with a key that nobody sent belong to who asked without one. */
  private attribute(): void {
    for (const [id, entries] of this.truth.byKey) {
      const [{ entry }] = entries as [Judged];
      if (entry.type !== 'request') continue;
      const request = this.requests.get(id) ?? this.requests.get(idOf(entry.couponId, entry.userId, undefined));
      if (request) request.entries.push(...entries);
      else if (this.creates.has(entry.couponId))
        this.found.add('unexpected', 'a request that nobody made', ...entries.map(({ line }) => line));
    }
    for (const { entries } of this.requests.values()) entries.sort((a, b) => a.line.offset - b.line.offset);
  }

  /** Calls of which it is certain which entry is theirs. */
  private certain(): Placed[] {
    const placed: Placed[] = [];
    for (const { calls, entries } of this.requests.values()) {
      const accepted = calls.filter(isAccepted);
      if (accepted.length === 1 && entries.length === 1) {
        placed.push({ call: accepted[0] as Issue, judged: entries[0] as Judged });
      }
    }
    for (const call of [...this.stocks.values()].flat()) {
      const entries = this.truth.byKey.get(stockId(call.coupon, stockKey(call.coupon, call.key))) ?? [];
      const same = (this.stocks.get(call.coupon) ?? []).filter(({ key }) => key === call.key);
      if (same.length === 1 && entries.length === 1 && isDone(call))
        placed.push({ call, judged: entries[0] as Judged });
    }
    return placed;
  }

  /** Operators' calls that were told that their entry counts: it stood in the log by then, whosever call it was of. */
  private answeredOperators(): Placed[] {
    const placed: Placed[] = [];
    const calls = [this.creates, this.stocks, this.closes].flatMap(all => [...all.values()]).flat<OperatorsCall[][]>();
    for (const call of calls) {
      const judged = isDone(call) ? this.countedOf(call) : undefined;
      if (judged) placed.push({ call, judged });
    }
    return placed;
  }

  private countedOf(call: OperatorsCall): Judged | undefined {
    const sale = this.truth.sales.get(call.coupon);
    switch (call.op) {
      case 'create':
        return sale?.opening;
      case 'stock':
        return sale?.stocked.get(stockKey(call.coupon, call.key));
      case 'close':
        return sale?.closing;
    }
  }

  private checkOrder(placed: readonly Placed[], places: Places): void {
    for (const { call, judged } of placed) {
      const before = places.before(call.from);
      if (!before || before.judged.line.offset <= judged.line.offset) continue;
      this.found.add(
        'out_of_order',
        'made after another was answered, and stands before it',
        ...[call, judged.line, before.call, before.judged.line],
      );
    }
  }

  private checkRequest(request: Request): void {
    const { calls, entries } = request;
    const accepted = calls.filter(isAccepted);
    const mayHaveOne = calls.filter(call => isAccepted(call) || isUnknown(call));
    const lines = entries.map(({ line }) => line);
    if (entries.length < accepted.length) {
      const detail = `accepted ${accepted.length} times, and ${entries.length} times in the log`;
      this.found.add('lost', detail, ...accepted, ...lines);
    } else if (entries.length > mayHaveOne.length && this.creates.has(request.coupon)) {
      const detail =
        mayHaveOne.length === 0 ? 'in the log, and surely not accepted' : 'more often in the log than asked';
      this.found.add('unexpected', detail, ...calls, ...lines);
    }
    if (entries.length < accepted.length) return;
    for (const call of accepted) {
      if (this.entriesOf(call).length === 0) {
        this.found.add('out_of_order', 'its entry is not where it was accepted', call, ...lines);
      }
    }
  }

  private checkOperator(): void {
    for (const call of [...this.creates.values()].flat()) if (isDone(call)) this.checkCreate(call);
    for (const call of [...this.stocks.values()].flat()) this.checkStock(call);
    for (const call of [...this.closes.values()].flat())
      if (isDone(call) && !this.countedOf(call)) this.found.add('lost', 'a close that the log has not', call);
    for (const call of [this.stocks, this.closes].flatMap(all => [...all.values()]).flat<(AddStock | Close)[][]>())
      this.checkRefusal(call);
  }

  /** Of those that a sale gives the reason for. */
  private checkRefusal(call: AddStock | Close): void {
    const { coupon, from, to = Number.POSITIVE_INFINITY } = call;
    const sale = this.truth.sales.get(coupon);
    switch (call.body?.code) {
      case 'UNKNOWN_COUPON': {
        const created = this.createdBefore(coupon, from);
        if (created) this.found.add('contradicted', 'refused as unknown, and created before', call, created);
        return;
      }
      case 'COUPON_CLOSED':
        if (!sale?.wasClosed(this.placesOf(coupon).high(to)))
          this.found.add('contradicted', 'refused as closed, and it was not', call);
        return;
      case 'MALFORMED_REQUEST':
        if (sale && isWellFormed(call) && sale.stock + call.add <= stockMax)
          this.found.add('contradicted', 'refused as too much, and it was not', call);
        return;
      default:
        return;
    }
  }

  private checkCreate(call: Create): void {
    const sale = this.truth.sales.get(call.coupon);
    if (!sale) {
      this.found.add('lost', 'a coupon that the log never opened', call);
      return;
    }
    const { stock } = sale.opening.entry as unknown as { stock: number };
    if (stock === call.stock && sale.opensAt === call.opensAt && sale.closesAt === call.closesAt) return;
    this.found.add('contradicted', 'opened with other terms', call, sale.opening.line);
  }

  private checkStock(call: AddStock): void {
    const { add: amount, coupon, key, status = 0 } = call;
    if (key === undefined) return;
    const counted = this.countedOf(call);
    const same = (this.stocks.get(coupon) ?? []).filter(other => other.key === key);
    if (status === 200 && !counted) this.found.add('lost', 'a restock that the log has not', call);
    // One who repeats it with another amount is answered with the first one's result.
    else if (status === 200 && counted && !same.some(({ add }) => add === amountOf(counted)))
      this.found.add('contradicted', `a restock by ${amountOf(counted)}, not ${amount}`, call, counted.line);
    const isRefused = status === 409 || (status >= 400 && status < 500 && !same.some(mayStand));
    if (isRefused && counted) this.found.add('contradicted', 'refused, and counted', call, counted.line);
  }

  /** What an operator's entry in the log needs is somebody who asked for it. */
  private checkStrangers(): void {
    for (const sale of this.truth.sales.values()) {
      this.checkUnkeyed(sale);
      if (!this.creates.has(sale.coupon)) continue;
      if (!this.creates.get(sale.coupon)?.some(mayStand)) {
        this.found.add('unexpected', 'opened, and surely not created', sale.opening.line);
      }
      if (sale.closing && !this.closes.get(sale.coupon)?.some(mayStand)) {
        this.found.add('unexpected', 'a close that nobody asked for', sale.closing.line);
      }
    }
  }

  /** Restocks that no key connects with their entries are counted by their amounts. */
  private checkUnkeyed({ coupon, stocked }: Sale): void {
    const calls = this.stocks.get(coupon) ?? [];
    const keys = new Set(calls.filter(mayStand).map(({ key }) => stockKey(coupon, key)));
    const entries = Map.groupBy(
      [...stocked].filter(([key]) => !keys.has(key)).map(([, judged]) => judged),
      amountOf,
    );
    const unkeyed = Map.groupBy(
      calls.filter(({ key }) => key === undefined),
      ({ add }) => add,
    );
    for (const amount of new Set([...entries.keys(), ...unkeyed.keys()])) {
      const [there, asked] = [entries.get(amount) ?? [], unkeyed.get(amount) ?? []];
      const done = asked.filter(isDone);
      const witnesses = [...asked, ...there.map(({ line }) => line)];
      if (done.length > there.length) this.found.add('lost', 'a restock that the log has not', ...witnesses);
      if (there.length > asked.filter(mayStand).length && this.creates.has(coupon))
        this.found.add('unexpected', 'a restock that nobody asked for', ...witnesses);
    }
  }
}

const isWellFormed = (call: AddStock | Close): call is AddStock =>
  call.op === 'stock' && Number.isInteger(call.add) && call.add > 0 && /^[!-~]{1,64}$/.test(call.key ?? 'none');

const amountOf = ({ entry }: Judged): number => (entry.type === 'stock_added' ? entry.add : 0);

const noPlaces = new Places([]);

const idOf = (coupon: string, user: string, key: string | undefined): string =>
  key === undefined ? `${coupon} ${user}` : requestId(coupon, user, keyHash(`${coupon} ${user}`, key));

const stockKey = (coupon: string, key: string | undefined): string => (key === undefined ? '' : keyHash(coupon, key));

function add<T extends { coupon: string }>(to: Map<string, T[]>, line: T): void {
  const there = to.get(line.coupon);
  if (there) there.push(line);
  else to.set(line.coupon, [line]);
}
