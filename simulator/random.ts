/** Seeded chance. Everything that a run leaves to chance is drawn here, so that a seed is a run. */

/** 32 bits of a text (FNV-1a), begun from an earlier hash to chain several. */
export function hashOf(text: string, from = 0x811c9dc5): number {
  let h = from;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** Two words to one, well stirred (the finisher of murmur3). */
export function mix(a: number, b: number): number {
  let h = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ b;
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16), 0x27d4eb2d);
  return (h ^ (h >>> 15)) >>> 0;
}

/** splitmix32: small, and good enough to pick faults with. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  next(): number {
    this.state = (this.state + 0x9e3779b9) >>> 0;
    let z = this.state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }

  /** From 0 to below 1. */
  part(): number {
    return this.next() / 0x1_0000_0000;
  }

  /** A whole number from `min` to `max`, both of them too. */
  int(min: number, max: number): number {
    return min + Math.floor(this.part() * (max - min + 1));
  }

  chance(probability: number): boolean {
    return probability > 0 && this.part() < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(0, list.length - 1)] as T;
  }

  hex(bytes: number): string {
    let text = '';
    while (text.length < bytes * 2) text += this.next().toString(16).padStart(8, '0');
    return text.slice(0, bytes * 2);
  }
}
