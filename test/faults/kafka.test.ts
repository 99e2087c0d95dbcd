/** The broker dies and comes back, or freezes, in the middle of a sale. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { ServiceHandle, Services } from '../../scripts/services.ts';
import { type Answered, call } from '../support/calls.ts';
import { Cluster, noServices, serversFor, type TestNode } from '../support/cluster.ts';
import { eventually } from '../support/sale.ts';

/** A refusal while the log is away comes within this, ms; API.md says a second. */
const refusalMsMax = 1_000;

describe('Kafka in mid-sale', { skip: noServices, timeout: 110_000 }, () => {
  let services: Services;
  let server: ServiceHandle;
  let cluster: Cluster;
  let api: TestNode;
  let reserve: TestNode;
  let persist: TestNode;
  before(async () => {
    services = await serversFor(['kafka']);
    server = services.kafka as ServiceHandle;
    cluster = new Cluster(services);
    [api, reserve, persist] = (await Promise.all(['api', 'reserve', 'persist'].map(role => cluster.node(role)))) as [
      TestNode,
      TestNode,
      TestNode,
    ];
  });
  afterEach(async () => {
    server.resume();
    await server.start();
  });
  after(async () => {
    await cluster?.stop();
    await services?.stop();
  });

  const pressOnce = async (couponId: string, user: string, key: string): Promise<Answered & { ms: number }> => {
    const startedAt = performance.now();
    const headers = { 'x-user-id': user, 'idempotency-key': key };
    const answered = await call(api.url, `POST /coupons/${couponId}/issue`, { headers });
    return { ...answered, ms: performance.now() - startedAt };
  };
  const seen = ({ status, body, ms }: Answered & { ms: number }) => `${status} ${body.code} ${Math.round(ms)} ms`;
  const isReady = async () => (await fetch(`${api.url}/readyz`)).status === 200;

  test('killed: refused within a second and never accepted; then all goes on by itself', async () => {
    const sale = await cluster.sale('killed', () => api);
    sale.press(100);
    await sale.answeredAtLeast(60);
    sale.press(200);
    await server.kill();
    await eventually('the process says that it cannot accept', isReady, ready => !ready, 3_000);
    const accepted = sale.accepted;
    const cpuBefore = api.cpuMs() + reserve.cpuMs() + persist.cpuMs();
    const startedAt = performance.now();
    for (let i = 0; i < 20; i++) {
      const answer = await pressOnce('killed', `refused-${i}`, 'k');
      assert.equal(`${answer.status} ${answer.body.code}`, '503 NOT_ACCEPTED');
      assert.ok(answer.ms < refusalMsMax, seen(answer));
      assert.ok(Number(answer.headers.get('retry-after')) >= 1);
    }
    await new Promise(resolve => setTimeout(resolve, 2_000));
    const cpuMs = api.cpuMs() + reserve.cpuMs() + persist.cpuMs() - cpuBefore;
    const awayMs = performance.now() - startedAt;
    assert.ok(cpuMs < awayMs * 0.75, `three processes used ${cpuMs} ms of CPU in ${awayMs} ms`);
    assert.equal(sale.accepted, accepted, 'no 202 without a log');
    await server.start();
    sale.press(200);
    await sale.isRight();
    await eventually('the process says that it can accept', isReady, ready => ready);
  });

  test('killed under appends: what it did not say is unknown, and the same key leads to one coupon', async () => {
    const stock = 500;
    const sale = await cluster.sale('ambiguous', () => api, stock);
    const users = Array.from({ length: 300 }, (_, i) => `user-${i}`);
    const pressing = Promise.all(users.map(user => pressOnce('ambiguous', user, `key-of-${user}`)));
    await server.kill();
    const first = await pressing;
    for (const answer of first) {
      assert.ok(['202', '503 NOT_ACCEPTED', '503 OUTCOME_UNKNOWN'].includes(kindOf(answer)), seen(answer));
      assert.ok(answer.ms < 2 * refusalMsMax, seen(answer));
    }
    await server.start();
    for (const user of users) sale.pressAs(user, `key-of-${user}`);
    await sale.isRight({ pushed: false });
    assert.equal(sale.told('issued'), users.length, 'each of them has one');
    await alsoIssued(first);
  });

  test('frozen for 3 s: some are unknown, nobody is accepted meanwhile, and nobody wins twice', async () => {
    const sale = await cluster.sale('frozen', () => api, 500);
    sale.press(100);
    await sale.answeredAtLeast(100);
    const users = Array.from({ length: 40 }, (_, i) => `user-${i}`);
    server.pause();
    const first = await Promise.all(users.map(user => pressOnce('frozen', user, `key-of-${user}`)));
    assert.ok(
      first.every(answer => kindOf(answer).startsWith('503')),
      first.map(seen).join(),
    );
    assert.ok(
      first.some(answer => kindOf(answer) === '503 OUTCOME_UNKNOWN'),
      first.map(seen).join(),
    );
    for (const answer of first) assert.ok(answer.ms < 2 * refusalMsMax, seen(answer));
    const late = await pressOnce('frozen', 'late', 'k');
    assert.equal(kindOf(late), '503 NOT_ACCEPTED');
    assert.ok(late.ms < refusalMsMax, seen(late));
    await new Promise(resolve => setTimeout(resolve, 2_000));
    server.resume();
    for (const user of users) sale.pressAs(user, `key-of-${user}`);
    sale.press(100);
    await sale.isRight({ pushed: false });
    assert.equal(sale.told('issued'), 240);
  });

  const kindOf = ({ status, body }: Answered) => (status === 202 ? '202' : `${status} ${body.code}`);

  /** Those that were accepted before the fault have the same end. */
  async function alsoIssued(first: readonly Answered[]): Promise<void> {
    for (const { status, body } of first) {
      if (status !== 202) continue;
      const { body: task } = await call(api.url, `GET /tasks/${body.taskId}`);
      assert.equal(`${task.state} ${task.outcome}`, 'done issued');
    }
  }
});
