/** Two processes believe that they own a partition; a log is made anew under the feet of its readers. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Admin } from '@platformatic/kafka';
import type { Services } from '../../scripts/services.ts';
import { Cluster, noServices, serversFor } from '../support/cluster.ts';
import { eventually } from '../support/sale.ts';

/** Longer than the group's session of 6 s, so that another member takes over. */
const pauseMs = 8_000;

describe('owners', { skip: noServices, concurrency: true, timeout: 110_000 }, () => {
  let services: Services;
  before(async () => {
    services = await serversFor([]);
  });
  after(() => services?.stop());

  const inCluster = (name: string, run: (cluster: Cluster) => Promise<void>) => {
    test(name, async () => {
      const cluster = new Cluster(services);
      try {
        await run(cluster);
      } finally {
        await cluster.stop();
      }
    });
  };

  const paused = (role: string, others: string) =>
    inCluster(`a ${role} process is frozen until another has its partition, then wakes up`, async cluster => {
      const [api, first] = await Promise.all([cluster.node(others), cluster.node(role)]);
      const sale = await cluster.sale('welcome', () => api, 500);
      sale.press(100);
      await sale.answeredAtLeast(100);
      sale.press(100);
      first.pause();
      const pausedAt = performance.now();
      const second = await cluster.node(role);
      sale.press(100);
      await sale.answeredAtLeast(300);
      const owns = async () => (await second.client.lag()).stages.map(stage => stage.stage);
      assert.deepEqual(await owns(), [role], 'the second has taken over');
      await new Promise(resolve => setTimeout(resolve, Math.max(0, pauseMs - (performance.now() - pausedAt))));
      sale.press(150);
      first.resume();
      sale.press(150);
      await sale.isRight();
      assert.ok(first.isAlive && second.isAlive);
    });

  paused('reserve', 'api,persist');
  paused('persist', 'api,reserve');

  inCluster('a log made anew stops the stages aloud', async cluster => {
    const node = await cluster.node('api,reserve,persist');
    const sale = await cluster.sale('welcome', () => node);
    sale.press(60);
    await sale.answeredAtLeast(60);
    const admin = new Admin({ clientId: 'test', bootstrapBrokers: services.kafkaBrokers.split(',') });
    const topics = ['coupon-issued', 'coupon-issued-success'].map(log => `${cluster.namespace}.${log}`);
    await admin.deleteTopics({ topics });
    await admin.close();
    // It makes the topics anew, and then sees that the rows are of others.
    await assert.rejects(cluster.node('api,reserve,persist'), /log differs: these rows were folded from another log/);
    const why = async () => {
      const answer = await fetch(`${node.url}/readyz`);
      return answer.ok ? '' : ((await answer.json()) as { detail: string }).detail;
    };
    await eventually('the process says why', why, text => /stopped: .*(cut|made anew)/.test(text), 20_000);
    const press = await fetch(`${node.url}/coupons/welcome/issue`, {
      method: 'POST',
      headers: { 'x-user-id': 'late' },
    });
    assert.equal(press.status, 503, 'nobody is accepted into another log');
  });

  inCluster('another secret is refused', async cluster => {
    await cluster.node('api,reserve,persist');
    await assert.rejects(cluster.node('api', { secret: 'another secret of enough length' }), /secret differs/);
  });
});
