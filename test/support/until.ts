/** Waiting for what becomes so by itself. */
import assert from 'node:assert/strict';

/** Between two askings: rare enough to leave the processor to what is waited for. */
const askMs = 15;

type Truthy<T> = Exclude<T, false | null | undefined>;

/**
 * Asks until `ask` answers something truthy and answers that. An assertion that fails inside `ask` counts as "not
 * yet"; the last one is thrown when `ms` are over.
 */
export async function until<T>(ask: () => T | Promise<T>, ms = 10_000): Promise<Truthy<T>> {
  const end = performance.now() + ms;
  for (;;) {
    let failed: Error | undefined;
    try {
      const answer = await ask();
      if (answer) return answer as Truthy<T>;
    } catch (error) {
      if (!(error instanceof assert.AssertionError)) throw error;
      failed = error;
    }
    if (performance.now() > end) throw failed ?? new Error(`not so within ${ms} ms: ${ask}`);
    await new Promise(resolve => setTimeout(resolve, askMs));
  }
}

/** Waits until the assertions of `check` hold. */
export const holds = (check: () => void | Promise<void>, ms?: number): Promise<true> =>
  until(async () => {
    await check();
    return true as const;
  }, ms);
