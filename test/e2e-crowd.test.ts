/** Crowds, on all profiles, one after another: what the store holds in the end, and what everybody was told. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { runCrowd, type Tally } from '../src/cli/crowd.ts';
import type { Client } from '../src/client/index.ts';
import { profiles } from '../src/config.ts';
import { untestable } from './support/profiles.ts';
import { openRoad, type Road, range } from './support/road.ts';
import { until } from './support/until.ts';

for (const profile of profiles) {
  const skip = untestable(profile);
  describe(`crowds, ${profile}`, { skip, timeout: 90_000 }, () => {
    let road: Road;
    before(async () => {
      road = await openRoad(profile);
    });
    after(() => road.close());

    test('many users for the last coupon: one row within 3 s, and all others are told inactive', async () => {
      const { client, coupon, ground, split, verified } = road;
      const couponId = await coupon(2);
      assert.equal((await client.claim(couponId, { userId: 'the-first' }).outcome).outcome, 'issued');
      const claims = range(100).map(i => (i % 2 ? client : split).claim(couponId, { userId: `u${i}` }));
      const rows = await until(async () => {
        const found = await ground.rows(couponId);
        return found.length > 1 && found;
      }, 3_000);
      assert.deepEqual(
        rows.map(row => row.slot),
        [1, 2],
      );
      const ends = await Promise.all(claims.map(claim => claim.outcome));
      const winners = ends.flatMap((end, i) => (end.outcome === 'issued' ? [`u${i} ${end.slot}`] : []));
      assert.deepEqual(winners, [`${rows[1]?.userId} 2`]);
      const losers = ends.filter(end => end.outcome === 'inactive' && end.reason === 'sold_out');
      assert.equal(losers.length, 99);
      assert.equal((await ground.rows(couponId)).length, 2, 'and it stays so');
      await verified(couponId);
    });

    test('users who press one after another get the slots in that order', async () => {
      const { client, coupon, ground, split, users } = road;
      const couponId = await coupon(20);
      for (const i of range(20)) {
        const claim = (i % 2 ? client : split).claim(couponId, { userId: `u${i}` });
        await claim.taskId;
      }
      await until(async () => (await ground.rows(couponId)).length === 20);
      assert.deepEqual(
        users(await ground.rows(couponId)),
        range(20).map(i => `u${i}`),
      );
    });

    test('5,000 users for 100: exactly 100 rows in order of arrival, everybody told, nothing to find', async t => {
      const { client, coupon, ground, split, verified } = road;
      const couponId = await coupon(100);
      const [tally, ends] = await crowd(5_000, i => (i % 2 ? client : split), couponId);
      t.diagnostic(`${Math.round(tally.elapsedMs)} ms, ${tally.accepted} accepted, ${tally.polled} asked instead`);
      assert.deepEqual([tally.answered, tally.unanswered, tally.unansweredWhy], [5_000, 0, []]);
      assert.deepEqual([tally.issued, tally.duplicated, tally.inactive], [100, 0, { sold_out: 4_900 }]);
      assert.deepEqual(tally.refused, {});
      assert.ok(tally.accepted >= 100);
      const rows = await ground.rows(couponId);
      assert.deepEqual(
        rows.map(row => row.slot),
        range(100).map(i => i + 1),
      );
      const offsets = rows.map(row => row.offset);
      assert.deepEqual(
        offsets,
        offsets.toSorted((a, b) => a - b),
        'slots are in order of arrival',
      );
      for (const { slot, userId } of rows) assert.equal(ends.get(userId), slot, userId);
      await verified(couponId, 100);
      const shown = await client.coupons.get(couponId);
      assert.deepEqual([shown.issued, shown.reserved, shown.remaining, shown.state], [100, 0, 0, 'sold_out']);
    });

    test('a crowd for two coupons at once: neither takes from the other', async () => {
      const { client, coupon, ground, split, verified } = road;
      const couponIds = [await coupon(30), await coupon(40)];
      const crowds = couponIds.map(couponId => crowd(300, i => (i % 2 ? client : split), couponId));
      const issued = (await Promise.all(crowds)).map(([tally]) => tally.issued);
      assert.deepEqual(issued, [30, 40]);
      for (const [i, couponId] of couponIds.entries()) assert.equal((await ground.rows(couponId)).length, issued[i]);
      await verified();
    });
  });
}

/** What was told in all, and the slots by user. */
async function crowd(
  users: number,
  clientOf: (user: number) => Client,
  couponId: string,
): Promise<[Tally, Map<string, number>]> {
  const slots = new Map<string, number>();
  const press = (i: number) => {
    const claim = clientOf(i).claim(couponId, { userId: `u${i}` });
    claim.outcome.then(
      end => end.outcome === 'issued' && slots.set(`u${i}`, end.slot),
      () => {},
    );
    return claim;
  };
  const plan = { users, connections: 256, silenceMsMax: 20_000 };
  const tally = await runCrowd(plan, press, new AbortController().signal, () => {});
  return [tally, slots];
}
