/** Postgres is killed, or its sessions are, in the middle of a sale. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import pg from 'pg';
import type { ServiceHandle, Services } from '../../scripts/services.ts';
import { Cluster, noServices, serversFor, type TestNode } from '../support/cluster.ts';

/** How long it is away, ms. */
const awayMs = 4_000;

describe('Postgres in mid-sale', { skip: noServices, timeout: 110_000 }, () => {
  let services: Services;
  let server: ServiceHandle;
  let cluster: Cluster;
  let api: TestNode;
  let reserve: TestNode;
  let persist: TestNode;
  before(async () => {
    services = await serversFor(['postgres']);
    server = services.postgres as ServiceHandle;
    cluster = new Cluster(services);
    [api, reserve, persist] = (await Promise.all(['api', 'reserve', 'persist'].map(role => cluster.node(role)))) as [
      TestNode,
      TestNode,
      TestNode,
    ];
  });
  afterEach(() => server.start());
  after(async () => {
    await cluster?.stop();
    await services?.stop();
  });

  test('killed for 4 s: all are accepted, no winner is told before the row is there, nothing spins', async () => {
    const sale = await cluster.sale('killed', () => api, 500);
    sale.press(60);
    await sale.answeredAtLeast(60);
    await server.kill();
    const cpuBefore = persist.cpuMs() + reserve.cpuMs();
    const retriesBefore = await persist.metric('dibs_retries_total');
    sale.press(300);
    await sale.acceptedAtLeast(360, 3_000);
    await new Promise(resolve => setTimeout(resolve, awayMs));
    const issued = sale.told('issued');
    assert.equal(issued, 60, 'no row, no issued');
    const cpuMs = persist.cpuMs() + reserve.cpuMs() - cpuBefore;
    const retries = (await persist.metric('dibs_retries_total')) - retriesBefore;
    assert.ok(retries > 0 && retries < 30, `persist tried ${retries} times in ${awayMs} ms`);
    assert.ok(cpuMs < awayMs / 4, `the stages used ${cpuMs} ms of CPU in ${awayMs} ms`);
    await server.start();
    sale.press(240);
    await sale.isRight();
  });

  test('killed again and again', async () => {
    const sale = await cluster.sale('killed-often', () => api);
    sale.press(60);
    await sale.answeredAtLeast(20);
    for (let i = 0; i < 3; i++) {
      sale.press(100);
      await server.kill();
      await server.start();
    }
    sale.press(100);
    await sale.isRight();
  });

  test('every session ended, twenty times', async () => {
    const sale = await cluster.sale('terminated', () => api, 450);
    const admin = new pg.Client({ connectionString: services.databaseUrl, application_name: 'test' });
    await admin.connect();
    try {
      for (let i = 0; i < 20; i++) {
        sale.press(20);
        await admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dibs'`);
        await sale.acceptedAtLeast(sale.size);
      }
    } finally {
      await admin.end();
    }
    sale.press(100);
    await sale.isRight();
  });

  test('frozen for 2 s', async () => {
    const sale = await cluster.sale('frozen', () => api, 300);
    sale.press(60);
    await sale.answeredAtLeast(60);
    server.pause();
    try {
      sale.press(200);
      await sale.acceptedAtLeast(260, 3_000);
      await new Promise(resolve => setTimeout(resolve, 2_000));
    } finally {
      server.resume();
    }
    sale.press(100);
    await sale.isRight();
  });
});
