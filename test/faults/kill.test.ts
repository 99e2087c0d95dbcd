/** `kill -9` of reserve and of persist at every point of the road that matters, in mid-sale, and a start again. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Services } from '../../scripts/services.ts';
import { Cluster, noServices, serversFor, type TestNode } from '../support/cluster.ts';
import type { KillPoint } from '../support/kill-points.ts';

describe('kill -9', { skip: noServices, concurrency: true, timeout: 110_000 }, () => {
  let services: Services;
  before(async () => {
    services = await serversFor([]);
  });
  after(() => services?.stop());

  const killed = (role: string, others: string, points: readonly KillPoint[]) => {
    describe(role, { concurrency: 1 }, () => {
      let cluster: Cluster;
      let api: TestNode;
      let victim: TestNode | undefined;
      before(async () => {
        cluster = new Cluster(services);
        api = await cluster.node(others);
      });
      after(() => cluster?.stop());

      for (const point of points) {
        test(point, async () => {
          victim ??= await cluster.node(role);
          const dying = victim;
          victim = undefined;
          const sale = await cluster.sale(point.replace(':', '-'), () => api);
          sale.press(60);
          await sale.answeredAtLeast(60);
          await dying.arm(point);
          sale.press(540);
          assert.equal(await dying.end(), 'SIGKILL');
          // Who goes on is the next one to die.
          victim = await cluster.node(role);
          await sale.isRight();
        });
      }
    });
  };

  killed('reserve', 'api,persist', [
    'reserve:after-apply',
    'reserve:during-append',
    'reserve:after-append',
    'reserve:after-told',
  ]);
  killed('persist', 'api,reserve', [
    'persist:before-commit',
    'persist:during-commit',
    'persist:after-commit',
    'persist:after-board',
  ]);
});
