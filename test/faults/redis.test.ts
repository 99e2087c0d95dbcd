/** Redis loses its state, gets an older one back, or is away, in the middle of a sale. */
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import type { ServiceHandle, Services } from '../../scripts/services.ts';
import { Cluster, noServices, serversFor, type TestNode } from '../support/cluster.ts';
import { eventually } from '../support/sale.ts';

describe('Redis in mid-sale', { skip: noServices, timeout: 110_000 }, () => {
  let services: Services;
  let server: ServiceHandle;
  let redis: Redis;
  let cluster: Cluster;
  let api: TestNode;
  let worker: TestNode;
  before(async () => {
    services = await serversFor(['redis']);
    server = services.redis as ServiceHandle;
    redis = new Redis(services.redisUrl, { retryStrategy: () => 20 });
    redis.on('error', () => {});
    cluster = new Cluster(services);
    [api, worker] = await Promise.all([cluster.node('api'), cluster.node('reserve,persist')]);
  });
  afterEach(() => server.start());
  after(async () => {
    redis?.disconnect();
    await cluster?.stop();
    await services?.stop();
  });

  /** Opens a sale, lets the first winners be told, and lets a second wave come while `fault` happens. */
  async function saleWith(couponId: string, fault: () => Promise<void>): Promise<void> {
    const sale = await cluster.sale(couponId, () => api);
    sale.press(100);
    await sale.answeredAtLeast(40);
    sale.press(250);
    await fault();
    sale.press(250);
    await sale.isRight();
  }

  const rebuilds = () => worker.metric('dibs_rebuilds_total');
  /** The one key of this pattern; a test that breaks nothing is none. */
  const keyLike = async (pattern: string): Promise<string> => {
    const [key, ...more] = await redis.keys(pattern);
    assert.ok(key !== undefined && more.length === 0, `keys like ${pattern}: ${[key, ...more]}`);
    return key;
  };
  const breaking = (pattern: string) => async () => assert.equal(await redis.del(await keyLike(pattern)), 1);

  test('FLUSHALL', async () => {
    const before = await rebuilds();
    await saleWith('flushed', async () => void (await redis.flushall()));
    assert.ok((await rebuilds()) > before, 'the ledger was rebuilt');
  });

  test('FLUSHALL again and again', () =>
    saleWith('flushed-often', async () => {
      for (let i = 0; i < 10; i++) await redis.flushall();
    }));

  test('killed and started again without its data', () =>
    saleWith('restarted', async () => {
      await server.kill();
      await server.start();
    }));

  test('back with an older copy of its data', async () => {
    const sale = await cluster.sale('rolled-back', () => api);
    sale.press(50);
    await sale.answeredAtLeast(50);
    const [, dir] = (await redis.config('GET', 'dir')) as [string, string];
    await redis.save();
    const older = join(dir, 'older.rdb');
    await copyFile(join(dir, 'dump.rdb'), older);
    const nextThen = await nextOf();
    sale.press(100);
    await sale.answeredAtLeast(150);
    sale.press(200);
    await server.kill();
    await copyFile(older, join(dir, 'dump.rdb'));
    worker.pause();
    await server.start();
    assert.equal(await nextOf(), nextThen, 'it is the older copy');
    worker.resume();
    sale.press(250);
    await sale.isRight();
  });

  test('an older copy put back under living connections', async () => {
    const sale = await cluster.sale('put-back', () => api);
    sale.press(50);
    await sale.answeredAtLeast(50);
    const [holders, state] = [await keyLike('*:holders:*:put-back'), await keyLike('*:state')];
    const older = new Map<string, Buffer>();
    for (const key of [state, ...(await redis.keys('*:holders:*'))]) {
      older.set(key, (await redis.dumpBuffer(key)) as Buffer);
    }
    sale.press(100);
    await sale.answeredAtLeast(150);
    assert.equal(await redis.hlen(holders), 150);
    sale.press(100);
    const all = redis.multi();
    for (const [key, bytes] of older) all.restore(key, 0, bytes, 'REPLACE');
    await all.exec();
    sale.press(250);
    await sale.isRight();
  });

  const nextOf = async () => Number(await redis.hget(await keyLike('*:state'), 'next'));

  test('the holders lost', () => saleWith('holders-lost', breaking('*:holders:*:holders-lost')));

  test('one holder lost', () =>
    saleWith('holder-lost', async () => {
      const key = await keyLike('*:holders:*:holder-lost');
      assert.equal(await redis.hdel(key, (await redis.hkeys(key))[0] as string), 1);
    }));

  test('the sale lost, its holders kept', () => saleWith('state-lost', breaking('*:state')));

  test('the board lost', () => saleWith('board-lost', breaking('*:board')));

  test('SCRIPT FLUSH', () => saleWith('scripts-lost', async () => void (await redis.script('FLUSH'))));

  test('away for 2 s: everyone is accepted meanwhile', async () => {
    const sale = await cluster.sale('away', () => api);
    sale.press(100);
    await sale.answeredAtLeast(100);
    await server.kill();
    const told = sale.answered;
    sale.press(300);
    await sale.acceptedAtLeast(400, 5_000);
    assert.equal(sale.answered, told, 'nobody is told what nobody has decided');
    await new Promise(resolve => setTimeout(resolve, 2_000));
    const retries = await worker.metric('dibs_retries_total', 'reserve');
    assert.ok(retries < 40, `reserve tried ${retries} times`);
    await server.start();
    sale.press(200);
    await sale.isRight();
  });

  test('lost while nobody presses: noticed without a request', async () => {
    const sale = await cluster.sale('idle', () => api);
    sale.press(60);
    await sale.answeredAtLeast(60);
    await redis.flushall();
    await eventually('the ledger is there again', nextOf, next => next > 0, 10_000);
    sale.press(300);
    await sale.isRight();
  });
});
