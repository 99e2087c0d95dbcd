/**
 * Owns time and order. Whatever happens in a run is an event in one queue; after each one all that it made ready runs
 * to its end before the next is taken, so a run is the same wherever it runs.
 */
import { hashOf, mix, Random } from './random.ts';

/** One process from its start to its end. What is planned for one that has ended does not happen. */
export interface Life {
  readonly name: string;
  alive: boolean;
  /** It stands still until then, ms of the run: a long garbage collection, a stopped machine. */
  pausedUntil: number;
}

export interface Planned {
  off: boolean;
}

/** What an event is. One that is a text only when somebody reads it costs a run nothing else. */
export type What = string | { readonly hash: number; toString(): string };

const chained = (what: What, from: number): number =>
  typeof what === 'string' ? hashOf(what, from) : mix(what.hash, from);

interface Event extends Planned {
  at: number;
  /** Orders events of the same moment: chance does, not who came first. */
  tie: number;
  nth: number;
  life: Life | undefined;
  what: What;
  run(): void;
}

/** Now and then the event loop has its turn, so that rejections that nobody catches are heard of. */
const turnEvery = 256;

/** All that waits in this process is microtasks: what a microtask gives to nextTick runs when there is none left. */
const settled = Promise.resolve();
const whenMicrotasksAreOver = (call: () => void): void => void settled.then(() => process.nextTick(call));

const isBefore = (a: Event, b: Event): boolean =>
  a.at !== b.at ? a.at < b.at : a.tie !== b.tie ? a.tie < b.tie : a.nth < b.nth;

export class Scheduler {
  /** ms since the run began. */
  now = 0;
  steps = 0;
  /** Of everything that happened, in order: two runs with the same hash are the same run. */
  hash = hashOf('dibs');
  readonly trace: string[] | undefined;
  private readonly heap: Event[] = [];
  private readonly ties: Random;
  private nth = 0;

  constructor(seed: number, keepTrace: boolean) {
    this.ties = new Random(mix(seed, 1));
    this.trace = keepTrace ? [] : undefined;
  }

  /** Plans an event in `ms` from now. Without a life it happens in any case. */
  in(ms: number, life: Life | undefined, what: What, run: () => void): Planned {
    const at = this.now + Math.max(0, Math.round(ms));
    const event: Event = { at, tie: this.ties.next(), nth: this.nth++, off: false, life, what, run };
    this.push(event);
    return event;
  }

  /** Notes what happened inside an event. */
  note(what: string): void {
    this.hash = mix(hashOf(what, this.hash), this.now);
    this.trace?.push(`${String(this.now).padStart(6)} ms    ${what}`);
  }

  /** Takes events until `ended` says so, or none is left. */
  run(ended: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const turn = () => {
        try {
          const event = ended() ? undefined : this.due();
          if (!event) return resolve();
          this.happen(event);
        } catch (error) {
          return reject(error);
        }
        if (this.steps % turnEvery === 0) setImmediate(turn);
        else whenMicrotasksAreOver(turn);
      };
      turn();
    });
  }

  /** The next event that happens, taken from the queue. */
  private due(): Event | undefined {
    for (let event = this.pop(); event; event = this.pop()) {
      if (event.off || event.life?.alive === false) continue;
      if (!event.life || event.life.pausedUntil <= event.at) return event;
      event.at = event.life.pausedUntil;
      this.push(event);
    }
    return undefined;
  }

  private happen(event: Event): void {
    this.now = event.at;
    this.steps++;
    this.hash = mix(chained(event.what, this.hash), this.now);
    this.trace?.push(`${String(this.now).padStart(6)} ms  ${event.what}`);
    event.run();
  }

  private push(event: Event): void {
    const { heap } = this;
    let i = heap.length;
    heap.push(event);
    while (i > 0) {
      const up = (i - 1) >> 1;
      if (!isBefore(event, heap[up] as Event)) break;
      heap[i] = heap[up] as Event;
      i = up;
    }
    heap[i] = event;
  }

  private pop(): Event | undefined {
    const { heap } = this;
    const first = heap[0];
    const last = heap.pop();
    if (heap.length === 0 || !last) return first;
    let i = 0;
    for (;;) {
      let down = 2 * i + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && isBefore(heap[down + 1] as Event, heap[down] as Event)) down++;
      if (!isBefore(heap[down] as Event, last)) break;
      heap[i] = heap[down] as Event;
      i = down;
    }
    heap[i] = last;
    return first;
  }
}
