/** Time and chance of a test: a clock that only the test moves, waits that end at once and are noted, seeded bytes. */
import { type Host, timers } from '../../src/host.ts';

export interface FakeHost extends Host {
  /** The clock. A wait moves it on. */
  time: number;
  /** By how much somebody has set the host's clock, ms: what has passed is not counted by it. */
  clockSet: number;
  /** Every wait that was asked for, ms. */
  readonly waits: number[];
}

export function fakeHost(seed = 1): FakeHost {
  let state = seed >>> 0 || 1;
  const byte = () => {
    // xorshift32
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state & 0xff;
  };
  const host: FakeHost = {
    // A test that minds them mocks node's.
    ...timers,
    time: 1_700_000_000_000,
    clockSet: 0,
    waits: [],
    now: () => host.time + host.clockSet,
    elapsed: () => host.time,
    randomBytes: n => Buffer.from(Array.from({ length: n }, byte)),
    async delay(ms, signal) {
      if (signal?.aborted) return;
      host.waits.push(ms);
      host.time += ms;
    },
  };
  return host;
}
