/** People who come at a steady rate, whether or not others were answered. */
import { setTimeout as sleep } from 'node:timers/promises';

const tickMs = 2;
/** Who would come while so many wait does not come: a crowd that grows for ever would only measure itself. */
export const underWayMax = 20_000;

export interface Arrived {
  pressed: number;
  /** Did not come since too many waited: with any, nothing is known of a crowd at this rate. */
  missed: number;
  perSecond: number;
}

/** Presses for as long as `going`, then waits for all that are under way. `press` must not reject. */
export async function arrive(
  perSecond: number,
  going: () => boolean,
  press: (n: number) => Promise<void>,
): Promise<Arrived> {
  const underWay = new Set<Promise<void>>();
  const begin = performance.now();
  let pressed = 0;
  let missed = 0;
  while (going()) {
    const due = ((performance.now() - begin) * perSecond) / 1_000;
    while (pressed + missed < due) {
      if (underWay.size >= underWayMax) {
        missed++;
        continue;
      }
      const one = press(pressed++);
      underWay.add(one);
      void one.finally(() => underWay.delete(one));
    }
    await sleep(tickMs);
  }
  const ms = performance.now() - begin;
  await Promise.all(underWay);
  return { pressed, missed, perSecond: (pressed * 1_000) / ms };
}
