/**
 * The way from a process to a server and back. The request travels, the effect happens at one moment, the answer
 * travels. Each step may take its time, fail, or be the last one of the process.
 */
import { NotAccepted, OutcomeUnknown, Unavailable } from '../src/errors.ts';
import type { Plan, Rates, Server } from './plan.ts';
import { hashOf, mix, Random } from './random.ts';
import type { Life, Scheduler } from './scheduler.ts';

type CallFault = 'before' | 'after' | 'late' | 'killBefore' | 'killAfter' | 'twice' | 'stale';
const callFaults: readonly CallFault[] = ['before', 'after', 'late', 'killBefore', 'killAfter', 'twice', 'stale'];

/** From one process to one server. */
export interface Line {
  life: Life;
  server: Server;
  /** Calls by their method: no text is put together to find them. */
  kinds: Map<string, Kind>;
}

export interface Call<T> {
  line: Line;
  /** What is called, for the trace. */
  method: string;
  effect(fault: 'twice' | 'stale' | undefined): Promise<T>;
  /** Which of `twice` and `stale` mean something here. */
  may?: 'twice' | 'stale' | undefined;
}

export interface Kind {
  what: string;
  hash: number;
  /** So many there were. */
  n: number;
}

/** The n-th of its kind and what becomes of it. */
export class Name {
  private readonly kind: Kind;
  private readonly n: number;
  private readonly becomes: string;

  constructor(kind: Kind, n: number, becomes = '') {
    this.kind = kind;
    this.n = n;
    this.becomes = becomes;
  }

  get hash(): number {
    return hashOf(this.becomes, mix(this.kind.hash, this.n));
  }

  and(becomes: string): Name {
    return new Name(this.kind, this.n, becomes);
  }

  toString(): string {
    return `${this.kind.what} #${this.n}${this.becomes && ` ${this.becomes}`}`;
  }
}

export class Wire {
  /** Servers that are away. */
  readonly down = new Set<Server>();
  /** Faults of calls that happened, by name. */
  readonly happened: string[] = [];
  /** Calls whose effect is still to come. */
  readonly underWay = new Set<Name>();
  kill: (life: Life) => void = () => {};
  private readonly cuts = new Map<Life, Set<Server>>();
  private readonly kinds = new Map<string, Kind>();
  private readonly plan: Plan;
  private readonly scheduler: Scheduler;
  private readonly spared: ReadonlySet<string>;

  constructor(plan: Plan, scheduler: Scheduler) {
    this.plan = plan;
    this.scheduler = scheduler;
    this.spared = new Set(plan.spared);
  }

  cut(life: Life, servers: readonly Server[]): void {
    this.cuts.set(life, new Set(servers));
  }

  heal(life: Life): void {
    this.cuts.delete(life);
  }

  reaches(life: Life, server: Server): boolean {
    return !this.down.has(server) && this.cuts.get(life)?.has(server) !== true;
  }

  /** One draw of this seed for the n-th time that `what` happens: the rest of the run does not change it. */
  draw(what: string): { random: Random; name: Name } {
    return this.next(kindIn(this.kinds, what, () => what));
  }

  private next(kind: Kind): { random: Random; name: Name } {
    const n = ++kind.n;
    return { random: new Random(mix(mix(this.plan.seed, kind.hash), n)), name: new Name(kind, n) };
  }

  travelMs(random: Random): number {
    const slow = this.isRough && random.chance(this.plan.rates.slow);
    return slow ? random.int(0, this.plan.slowMs) : random.int(0, this.plan.callMsMax);
  }

  get isRough(): boolean {
    return this.scheduler.now < this.plan.calmAt;
  }

  call<T>(call: Call<T>): Promise<T> {
    const { line, method } = call;
    const { life, server } = line;
    const { random, name } = this.next(kindIn(line.kinds, method, () => `${life.name} ${server}.${method}`));
    const fault = this.faultOf(random, name, call.may);
    const there = this.travelMs(random);
    const back = this.travelMs(random);
    const { scheduler } = this;
    return new Promise<T>((resolve, reject) => {
      const answer = (ms: number, what: string, tell: () => void) => void scheduler.in(ms, life, name.and(what), tell);
      const fail = (ms: number, done: boolean) =>
        answer(ms, 'fails', () => reject(failureOf(method, done ? 'unknown' : random.pick(['unknown', 'not']))));
      const effect = (told: boolean) => {
        this.underWay.delete(name);
        if (fault === 'killBefore' && this.isRough && life.alive) return this.end(life, name, 'before');
        if (!this.reaches(life, server)) return told ? fail(random.pick([1, 300, 1_000]), false) : undefined;
        call.effect(fault === 'twice' || fault === 'stale' ? fault : undefined).then(
          value => {
            if (fault === 'killAfter' && this.isRough && life.alive) return this.end(life, name, 'after');
            if (!told) return;
            if (fault === 'after' || !this.reaches(life, server)) return fail(random.pick([1, 300, 1_000]), true);
            answer(back, 'answers', () => resolve(value));
          },
          error => told && answer(back, `refuses: ${error}`, () => reject(error as Error)),
        );
      };
      if (fault === 'before') return fail(random.pick([there, 300, 1_000]), false);
      this.underWay.add(name);
      if (fault === 'late') {
        const ms = random.int(0, 1_200);
        answer(ms, 'times out', () => reject(failureOf(method, 'unknown')));
        scheduler.in(ms + random.int(0, 1_500), undefined, name.and('happens late'), () => effect(false));
        return;
      }
      // What was sent is on its way, whatever becomes of the sender.
      scheduler.in(there, undefined, name.and('happens'), () => effect(true));
    });
  }

  private faultOf(random: Random, name: Name, may: Call<unknown>['may']): CallFault | undefined {
    if (!this.isRough) return undefined;
    for (const fault of callFaults) {
      if (!random.chance(this.plan.rates[fault as keyof Rates])) continue;
      if ((fault === 'twice' || fault === 'stale') && fault !== may) continue;
      const named = `${name} ${fault}`;
      if (this.spared.has(named)) continue;
      this.happened.push(named);
      return fault;
    }
    return undefined;
  }

  private end(life: Life, name: Name, when: string): void {
    this.scheduler.note(`${life.name} is killed ${when} ${name}`);
    this.kill(life);
  }
}

function kindIn(kinds: Map<string, Kind>, id: string, nameOf: () => string): Kind {
  let kind = kinds.get(id);
  if (!kind) {
    const what = nameOf();
    kind = { what, hash: hashOf(what), n: 0 };
    kinds.set(id, kind);
  }
  return kind;
}

function failureOf(method: string, known: 'unknown' | 'not'): Error {
  if (!method.startsWith('append')) return new Unavailable('it did not answer');
  return known === 'not' ? new NotAccepted('it was not taken') : new OutcomeUnknown('it did not say');
}
