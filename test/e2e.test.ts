/**
 * The whole road through HTTP and streams, on all profiles, the same scenarios for all; what one does not owe is named. Each has a coupon of its
 * own on one fresh state, so they run beside one another.
 */
import { after, before, describe } from 'node:test';
import { profiles } from '../src/config.ts';
import { untestable } from './support/profiles.ts';
import { openRoad, type Road } from './support/road.ts';
import { issuing } from './support/road-issuing.ts';
import { afterwards, sales } from './support/road-sales.ts';

/** Most of a scenario is waiting: for a window, a lease, a push. */
const concurrency = 6;

for (const profile of profiles) {
  const skip = untestable(profile);
  describe(`the whole road, ${profile}`, { skip, timeout: 110_000 }, () => {
    let road: Road;
    before(async () => {
      road = await openRoad(profile);
    });
    after(() => road.close());
    describe('a user', { concurrency }, () => issuing(() => road, profile));
    describe('an operator', { concurrency }, () => sales(() => road, profile));
    describe('afterwards', () => afterwards(() => road, profile));
  });
}
