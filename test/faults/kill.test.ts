/** `kill -9` of reserve and of persist at every point of the road that matters, in mid-sale, and a start again. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Services } from '../../scripts/services.ts';
import { Cluster, noServices, serversFor } from '../support/cluster.ts';
import type { KillPoint } from '../support/kill-points.ts';

describe('killed at', { skip: noServices, concurrency: true, timeout: 110_000 }, () => {
  let services: Services;
  before(async () => {
    services = await serversFor([]);
  });
  after(() => services?.stop());

  const killed = (point: KillPoint) =>
    test(point, async () => {
      const [role, others] = point.startsWith('reserve') ? ['reserve', 'api,persist'] : ['persist', 'api,reserve'];
      const cluster = new Cluster(services);
      try {
        const [api, victim] = await Promise.all([cluster.node(others), cluster.node(role, { kill: point })]);
        const sale = await cluster.sale('welcome', () => api);
        sale.press(60);
        await sale.answeredAtLeast(60);
        await victim.arm();
        sale.press(540);
        assert.equal(await victim.end(), 'SIGKILL');
        await cluster.node(role);
        await sale.isRight();
      } finally {
        await cluster.stop();
      }
    });

  killed('reserve:after-apply');
  killed('reserve:during-append');
  killed('reserve:after-append');
  killed('reserve:after-told');
  killed('persist:before-commit');
  killed('persist:during-commit');
  killed('persist:after-commit');
  killed('persist:after-board');
});
