import type { LogEntry } from '../entry.ts';
import { tailAloneMs, tailCharactersMax, tailEntriesMax, tailGrowsMs } from './limits.ts';

/**
 * The end of one partition, as this process appended it and had it acknowledged, without a gap: what the log would
 * give, without asking it. A reader that has come to the end of the log by reading it goes on from here. After
 * anything that failed it first has to read the log again (`link`): the log may have been cut meanwhile.
 */
export class Tail {
  /** Another one after each break. */
  link = {};
  /** The place behind the last entry; -1 when there is none. */
  end = -1;
  /** Appends, in order: each begins where the one before ends. */
  #appends: LogEntry[][] = [];
  #count = 0;
  #characters = 0;
  #grownAt = 0;
  /** Since when nobody else was seen to append. */
  #aloneSince = 0;
  #grown = Promise.withResolvers<void>();

  /** What was appended at `base`, and acknowledged. */
  add(base: number, at: number, values: readonly string[]): void {
    const now = performance.now();
    if (base !== this.end) {
      this.#drop();
      this.#aloneSince = now;
    }
    // As they come back: half of a surrogate pair is not written.
    const append = values.map((text, i): LogEntry => ({ offset: base + i, at, text: text.toWellFormed() }));
    this.#appends.push(append);
    this.#count += append.length;
    this.#characters += charactersOf(append);
    while ((this.#count > tailEntriesMax || this.#characters > tailCharactersMax) && this.#appends.length > 1) {
      const oldest = this.#appends.shift() as LogEntry[];
      this.#count -= oldest.length;
      this.#characters -= charactersOf(oldest);
    }
    this.end = base + values.length;
    this.#grownAt = now;
    this.#grown.resolve();
    this.#grown = Promise.withResolvers();
  }

  /** What is here may not be what the log has. */
  break(): void {
    this.link = {};
    this.#drop();
  }

  /** Entries from a place on, at most `max`; undefined when they are not here. */
  from(place: number, max: number): LogEntry[] | undefined {
    let i = this.#appends.length;
    while (i > 0 && offsetOf(this.#appends[i - 1]) > place) i--;
    if (i === 0 || place >= this.end) return undefined;
    const found: LogEntry[] = [];
    for (i--; i < this.#appends.length && found.length < max; i++) {
      const append = this.#appends[i] as LogEntry[];
      const skip = Math.max(0, place - offsetOf(append));
      for (let k = skip; k < append.length && found.length < max; k++) found.push(append[k] as LogEntry);
    }
    return found;
  }

  /** Resolves when it has grown; undefined when what comes next is as likely to be another process's. */
  growing(): Promise<void> | undefined {
    const now = performance.now();
    const isBusy = now - this.#grownAt < tailGrowsMs && now - this.#aloneSince > tailAloneMs;
    return isBusy ? this.#grown.promise : undefined;
  }

  #drop(): void {
    this.#appends = [];
    this.#count = 0;
    this.#characters = 0;
    this.end = -1;
  }
}

function charactersOf(append: readonly LogEntry[]): number {
  let characters = 0;
  for (const { text } of append) characters += text.length;
  return characters;
}

const offsetOf = (append: readonly LogEntry[] | undefined): number => append?.[0]?.offset ?? 0;
