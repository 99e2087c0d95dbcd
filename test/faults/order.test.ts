/** Servers and processes come back in any order. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { freePort } from '../../scripts/services/port.ts';
import type { ServerName, ServiceHandle, Services } from '../../scripts/services.ts';
import { Cluster, noServices, serversFor, type TestNode } from '../support/cluster.ts';

const names: readonly ServerName[] = ['redis', 'postgres', 'kafka'];

describe('everything stopped in mid-sale', { skip: noServices, timeout: 110_000 }, () => {
  let services: Services;
  let cluster: Cluster;
  let port: number;
  before(async () => {
    port = await freePort();
    services = await serversFor(names);
    cluster = new Cluster(services);
  });
  after(async () => {
    await cluster?.stop();
    await services?.stop();
  });

  const server = (name: ServerName) => services[name] as ServiceHandle;

  const inOrder = (order: readonly ServerName[]) => {
    test(`dibs first, then ${order.join(', ')}`, async () => {
      let [api, worker] = await startBoth();
      const sale = await cluster.sale(`after-${order.join('-')}`, () => api);
      sale.press(100);
      await sale.answeredAtLeast(40);
      sale.press(100);
      await sale.acceptedAtLeast(150);
      await Promise.all([api.kill(), worker.kill(), ...names.map(name => server(name).kill())]);
      const starting = startBoth();
      for (const name of order) await server(name).start();
      [api, worker] = await starting;
      sale.press(300);
      await sale.isRight({ pushed: false });
      await Promise.all([api.kill(), worker.kill()]);
    });
  };

  /** The process waits for its servers, bounded, and needs no second start. */
  const startBoth = () =>
    Promise.all([cluster.node('api', { port }), cluster.node('reserve,persist')]) as Promise<[TestNode, TestNode]>;

  inOrder(['kafka', 'redis', 'postgres']);
  inOrder(['postgres', 'redis', 'kafka']);

  test('the servers go one after another under running processes, and come back the other way', async () => {
    const [api, worker] = await startBoth();
    const sale = await cluster.sale('one-by-one', () => api);
    sale.press(100);
    await sale.answeredAtLeast(40);
    for (const name of names) {
      sale.press(50);
      await server(name).kill();
    }
    for (const name of names.toReversed()) await server(name).start();
    sale.press(200);
    await sale.isRight();
    assert.ok(api.isAlive && worker.isAlive, 'no process was started again');
  });
});
