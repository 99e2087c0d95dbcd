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

interface Event extends Planned {
  at: number;
  /** Orders events of the same moment: chance does, not who came first. */
  tie: number;
  nth: number;
  life: Life | undefined;
  what: string;
  run(): void;
}

/** Now and then the event loop has its turn, so that rejections that nobody catches are heard of. */
const turnEvery = 256;

/**
 * All that waits in this process is microtasks. What a microtask gives to nextTick runs when there is none left, and
 * costs a quarter of a turn of the event loop.
 */
const microtasksAreOver = (): Promise<void> =>
  new Promise(resolve => {
    queueMicrotask(() => process.nextTick(resolve));
  });

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
  in(ms: number, life: Life | undefined, what: string, run: () => void): Planned {
    const event: Event = {
      ...{ at: this.now + Math.max(0, Math.round(ms)), tie: this.ties.next(), nth: this.nth++, off: false },
      ...{ life, what, run },
    };
    this.push(event);
    return event;
  }

  /** Notes what happened inside an event. */
  note(what: string): void {
    this.hash = mix(hashOf(what, this.hash), this.now);
    this.trace?.push(`${String(this.now).padStart(6)} ms    ${what}`);
  }

  /** Takes events until `ended` says so, or none is left. */
  async run(ended: () => boolean): Promise<void> {
    for (let event = this.pop(); event; event = this.pop()) {
      if (event.off || event.life?.alive === false) continue;
      if (event.life && event.life.pausedUntil > event.at) {
        event.at = event.life.pausedUntil;
        this.push(event);
        continue;
      }
      this.now = event.at;
      this.steps++;
      this.hash = mix(hashOf(event.what, this.hash), this.now);
      this.trace?.push(`${String(this.now).padStart(6)} ms  ${event.what}`);
      event.run();
      await (this.steps % turnEvery === 0 ? new Promise(setImmediate) : microtasksAreOver());
      if (ended()) return;
    }
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
