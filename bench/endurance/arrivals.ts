/** People who come at a steady rate, whether or not others were answered. */
import { setTimeout as sleep } from 'node:timers/promises';

const tickMs = 2;

/** Presses for as long as `going`, then waits for all that are under way. `press` must not reject. */
export async function arrive(
  perSecond: number,
  going: () => boolean,
  press: (n: number) => Promise<void>,
): Promise<number> {
  const underWay = new Set<Promise<void>>();
  const begin = performance.now();
  let n = 0;
  while (going()) {
    const due = ((performance.now() - begin) * perSecond) / 1_000;
    while (n < due) {
      const one = press(n++);
      underWay.add(one);
      void one.finally(() => underWay.delete(one));
    }
    await sleep(tickMs);
  }
  await Promise.all(underWay);
  return n;
}
