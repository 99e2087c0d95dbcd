/**
 * The scheduler profile under faults: what it must hold all the same, and what it loses. `kill -9` of the process with
 * the schedulers at points of the road, and of a Redis without persistence, in mid-sale.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { ServiceHandle, Services } from '../../scripts/services.ts';
import type { Claim, ClaimOutcome } from '../../src/client/index.ts';
import { Cluster, noServices, serversFor, type TestNode } from '../support/cluster.ts';
import type { KillPoint } from '../support/kill-points.ts';
import { redisKeys } from '../support/redis-keys.ts';
import { eventually, type Sale } from '../support/sale.ts';

const stock = 200;
const tickMs = '40';
const tickBatch = '30';
/** A pop takes two changes besides, which may be winners of two small ticks. */
const inHandMax = Number(tickBatch) + 2;

describe('the scheduler profile', { skip: noServices, timeout: 110_000 }, () => {
  let services: Services;
  let server: ServiceHandle;
  let cluster: Cluster;
  let node: TestNode;
  before(async () => {
    services = await serversFor(['redis'], {}, ['redis', 'postgres']);
    server = services.redis as ServiceHandle;
    cluster = new Cluster(services, { profile: 'scheduler', tickMs, tickBatch });
    node = await cluster.node('all');
  });
  after(async () => {
    await cluster?.stop();
    await services?.stop();
  });

  interface Pressed {
    userId: string;
    claim: Claim;
    told?: ClaimOutcome;
  }

  function crowd(sale: Sale, from: number, users: number): Pressed[] {
    return Array.from({ length: users }, (_, i) => {
      const userId = `${sale.couponId}-u${from + i}`;
      const pressed: Pressed = { userId, claim: sale.pressAs(userId) };
      pressed.claim.outcome.then(
        told => {
          pressed.told = told;
        },
        () => {},
      );
      return pressed;
    });
  }

  /**
   * A first crowd is told, a second presses and is struck, a third comes for what is left. Answers how many wait for
   * ever: at most `lostMax`.
   */
  async function struck(
    couponId: string,
    strike: (press: () => void, sale: Sale) => Promise<void>,
    lostMax = Number.POSITIVE_INFINITY,
  ): Promise<number> {
    const sale = await cluster.sale(couponId, () => node, stock);
    const all = crowd(sale, 0, 40);
    await sale.answeredAtLeast(40);
    await strike(() => void all.push(...crowd(sale, 40, 120)), sale);
    const more = crowd(sale, 160, 260);
    // Whoever is behind all others is told once these are decided, and stored if they won.
    await eventually(
      'the third crowd is told',
      () => more.filter(({ told }) => !told).length,
      n => n === 0,
    );
    const lost = await eventually(
      'nobody else is lost',
      () => lostOf(all),
      n => n <= lostMax,
    );
    await check(couponId, [...all, ...more]);
    sale.close();
    return lost;
  }

  /** Once everything is decided and stored: whose task is not done all the same. */
  async function lostOf(all: readonly Pressed[]): Promise<number> {
    const waiting = all.filter(({ told }) => !told);
    const isLost = async ({ claim }: Pressed): Promise<boolean> => {
      const taskId = await claim.taskId;
      return taskId !== undefined && (await node.client.task(taskId)).state !== 'done';
    };
    return (await Promise.all(waiting.map(isLost))).filter(Boolean).length;
  }

  async function check(couponId: string, all: readonly Pressed[]): Promise<void> {
    const rows = await cluster.rows(couponId);
    assert.equal(new Set(rows.map(({ userId }) => userId)).size, rows.length, 'nobody has two');
    assert.equal(new Set(rows.map(({ slot }) => slot)).size, rows.length, 'each slot once');
    assert.ok(
      rows.every(({ slot }) => slot >= 1 && slot <= stock),
      'none too many',
    );
    // Slots die with the winners that a scheduler has in hand, when others behind them are stored.
    assert.ok(rows.length >= stock - inHandMax, `${rows.length} rows: the sale goes on`);
    assert.equal((await node.client.coupons.get(couponId)).state, 'sold_out');
    const slots = new Map(rows.map(({ userId, slot }) => [userId, slot]));
    for (const { userId, told } of all) {
      if (told?.outcome === 'issued') assert.equal(told.slot, slots.get(userId), `${userId} was told issued`);
    }
    const aside = await cluster.sql('select 1 from set_aside where coupon_id = $1', [couponId]);
    assert.equal(aside.length, 0, 'no winner had to be refused by the tables');
  }

  const killedAt = async (point: KillPoint, press: () => void): Promise<void> => {
    const port = Number(new URL(node.url).port);
    await node.arm(point);
    press();
    assert.equal(await node.end(), 'SIGKILL');
    node = await cluster.node('all', { port });
  };

  /** Who was in hand is lost, but for those whose 202 died too: their clients press again. */
  const points: [KillPoint, loses: boolean][] = [
    ['reserve:after-apply', true],
    ['reserve:after-append', false],
    ['persist:before-commit', true],
    ['persist:after-commit', false],
    // The winners in hand die, those behind them are stored: the slots of the former are lost with them.
    ['schedulers:overtaken', true],
  ];
  for (const [point, loses] of points) {
    test(`killed at ${point}: no two coupons, none too many, and the sale goes on`, async t => {
      // The other scheduler dies with it: on a busy machine in the middle of a tick of its own.
      const lostMax = loses ? undefined : inHandMax;
      const lost = await struck(point.replace(':', '-'), press => killedAt(point, press), lostMax);
      t.diagnostic(`${lost} of 160 wait for ever`);
    });
  }

  test('Redis killed without persistence: what it held is lost, and nothing is issued twice', async t => {
    const lost = await struck('redis-killed', async (press, sale) => {
      press();
      // More than a tick takes, so some are in the queue.
      await sale.acceptedAtLeast(100);
      await server.kill();
      await server.start();
    });
    t.diagnostic(`${lost} of 160 wait for ever`);
  });

  test('Redis back with an older copy: who presses afterwards, wherever, is told', async () => {
    const api = await cluster.node('api');
    let at = node;
    const sale = await cluster.sale('rolled-back', () => at, stock);
    const all = crowd(sale, 0, 40);
    await sale.answeredAtLeast(40);
    const { admin, close } = redisKeys(services.redisUrl);
    await admin.save();
    await close();
    all.push(...crowd(sale, 40, 40));
    await sale.answeredAtLeast(80);
    node.pause();
    await server.kill();
    await server.start();
    // It has put nothing there yet, and the reader cannot put the counter where it is.
    at = api;
    all.push(...crowd(sale, 80, 20));
    await sale.acceptedAtLeast(100);
    node.resume();
    all.push(...crowd(sale, 100, 160));
    await sale.answeredAtLeast(260);
    await check(sale.couponId, all);
    sale.close();
    await api.stop();
  });

  test('a second process with schedulers is refused; one that only answers shares the sale', async () => {
    await assert.rejects(cluster.node('all'), /another process runs the schedulers here: .*--roles api/);
    const api = await cluster.node('api');
    const sale = await cluster.sale('shared', () => api, 3);
    sale.press(5);
    await sale.answeredAtLeast(5);
    assert.deepEqual([sale.told('issued'), sale.told('inactive')], [3, 2]);
    await api.stop();
  });

  for (const point of ['reserve:after-apply', 'persist:before-commit'] as const) {
    test(`stopped at ${point} for longer than the lease: what it does when it goes on harms nobody`, async () => {
      await node.stop();
      const slowly = { tickMs: '200' };
      const first = await cluster.node('all', { ...slowly, env: { DIBS_TEST_SIGNAL: 'SIGSTOP' } });
      const api = await cluster.node('api');
      const sale = await cluster.sale(`stopped-${point.replace(':', '-')}`, () => api, stock);
      const all = crowd(sale, 0, 40);
      await sale.answeredAtLeast(40);
      await first.arm(point);
      all.push(...crowd(sale, 40, 28));
      await eventually(
        'it stands still',
        () => first.state(),
        state => state === 'T',
      );
      node = await cluster.node('all', slowly);
      const [between, ...others] = crowd(sale, 68, 5) as [Pressed, ...Pressed[]];
      const taskId = await between.claim.taskId;
      await eventually(
        'the other one has decided',
        () => api.client.task(taskId as string),
        ({ state }) => state === 'reserved',
      );
      // Nothing that it stores tells the first one that it is too late.
      node.pause();
      first.resume();
      assert.equal(await first.end(), '1');
      node.resume();
      const more = crowd(sale, 73, 260);
      await eventually(
        'those who come later are told',
        () => more.filter(({ told }) => !told).length,
        n => n === 0,
      );
      all.push(between, ...others, ...more);
      await check(sale.couponId, all);
      const rows = await cluster.rows(sale.couponId);
      await eventually(
        'who has a row is told so',
        () => rows.filter(row => all.find(({ userId }) => userId === row.userId)?.told?.outcome !== 'issued'),
        untold => untold.length === 0,
      );
      sale.close();
      await api.stop();
    });
  }
});
