/** A client whose waits are a few milliseconds, and what a fake server saw of it. */
import { type Client, createClient, type Timing } from '../../src/client/index.ts';
import type { Fake } from './fake-server.ts';

const quick: Partial<Timing> = {
  backoffMsMin: 1,
  backoffMsMax: 4,
  streamRetryMs: 2,
  streamRetryMsMax: 5,
  pollMsMin: 1,
  pollMsMax: 4,
  streamAgainMsMin: 20,
  streamAgainMsMax: 40,
};

/** `fake` is asked for at each call: a test may start another. */
export function quickClient(fake: () => Fake) {
  const posts = () => fake().seen.filter(s => s.path.endsWith('/issue'));
  return {
    client: (timing: Partial<Timing> = {}): Client =>
      createClient({ baseUrl: fake().url, timing: { ...quick, ...timing } }),
    posts,
    streams: () => fake().seen.filter(s => s.path.endsWith('/events')),
    keys: () => new Set(posts().map(s => s.headers['idempotency-key'])),
  };
}
