/** What only the scheduler profile does: it is asked, not listened to, and says aloud what it leaves out. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { App } from '../src/app.ts';
import { createClient } from '../src/client/index.ts';
import { requestLog } from '../src/entry.ts';
import { defineStage } from '../src/stage.ts';
import { assertProblem, call } from './support/calls.ts';
import { type Ground, schedulerGround, untestable } from './support/profiles.ts';
import { ended } from './support/road.ts';

describe('the scheduler profile', { skip: untestable('scheduler'), timeout: 110_000 }, () => {
  let ground: Ground;
  let app: App;
  before(async () => {
    ground = await schedulerGround();
    app = await ground.start();
  });
  after(() => ground.close());

  const press = (couponId: string, userId: string) =>
    call(app.url, `POST /coupons/${couponId}/issue`, { headers: { 'x-user-id': userId } });

  test('a task is asked about until it is done; its stream is 501 and says why, an unknown one 404', async () => {
    const client = createClient({ baseUrl: app.url });
    await client.coupons.create({ couponId: 'asked', name: 'asked', stock: 1 });
    const accepted = await press('asked', 'ann');
    assert.equal(accepted.status, 202);
    const { taskId, links } = accepted.body;
    const events = await call(app.url, `GET ${links.events}`);
    assertProblem(events, '501 NOT_OFFERED');
    assert.match(events.body.detail, /nothing is pushed in the scheduler profile: ask GET \/tasks/);
    assertProblem(await call(app.url, 'GET /tasks/AAAA/events'), '404 UNKNOWN_TASK');
    const task = await ended(client, taskId);
    assert.deepEqual([task.outcome, 'slot' in task && task.slot], ['issued', 1]);
    assert.equal((await ground.rows('asked')).length, 1);
    const claim = client.claim('asked', { userId: 'bob' });
    assert.equal((await claim.outcome).outcome, 'inactive');
  });

  test('statistics and verify are 501 and say why; of an unknown coupon there are none, 404', async () => {
    for (const [what, why] of [
      ['GET /coupons/asked/stats', /one reader/],
      ['GET /admin/verify', /gone/],
    ] as const) {
      const answer = await call(app.url, what);
      assertProblem(answer, '501 NOT_OFFERED');
      assert.match(answer.body.detail, why);
    }
    assertProblem(await call(app.url, 'GET /coupons/no-such/stats'), '404 UNKNOWN_COUPON');
  });

  test("a stage of one's own is refused at the start, and what was started is stopped again", async () => {
    const other = await schedulerGround();
    const audit = defineStage({ name: 'audit', log: requestLog, async handle() {} });
    try {
      await assert.rejects(
        other.start({}, { stages: [audit] }),
        /^Refused: a queue has one reader: stages of your own/,
      );
      await (await other.start()).stop();
    } finally {
      await other.close();
    }
  });
});
