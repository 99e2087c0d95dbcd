/** The embedded profile's file: busy, full, deleted under the server, and whole once that has stopped. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { type Answered, assertProblem, call } from '../support/calls.ts';
import { TestNode } from '../support/cluster.ts';
import { eventually } from '../support/sale.ts';

interface Pressed {
  node: TestNode;
  data: string;
  press(user: string): Promise<Answered>;
  /** From now on what writes this fails as on a full disk. */
  full(at: 'commit' | 'row'): Promise<void>;
  room(): Promise<void>;
}

const probedIn = ({ data }: Pressed): unknown => {
  const database = new DatabaseSync(join(data, 'dibs.db'), { readOnly: true });
  try {
    return database.prepare("SELECT value FROM meta WHERE name = 'probed'").get()?.value;
  } finally {
    database.close();
  }
};

const saidIn = ({ lines }: TestNode, what: string) => lines.join('').split(what).length - 1;

/** Rebuilds, once the writing thread has reported a turn that was answered before: reports keep their order. */
const reported = async (node: TestNode): Promise<number> => {
  const { body } = await call(node.url, 'GET /coupons/noon');
  const rows = () => node.metric('dibs_issued_total');
  await eventually('all rows are reported', rows, n => n >= body.issued, 3_000);
  return node.metric('dibs_rebuilds_total');
};

describe('the embedded file', { timeout: 60_000 }, () => {
  /** With a server of one coupon. */
  const pressed = (name: string, stock: number, act: (on: Pressed) => Promise<void>) => {
    test(name, async () => {
      const data = await mkdtemp(join(tmpdir(), 'dibs-full-'));
      const kill = join(data, 'kill');
      const preload = join(import.meta.dirname, '../support/kill-at-commit.ts');
      const flags = { profile: 'embedded', data, port: '0', logLevel: 'warn' };
      const node = await TestNode.start(flags, { preload, env: { DIBS_TEST_KILL_FILE: kill } });
      try {
        await call(node.url, 'POST /coupons', { body: { couponId: 'noon', name: 'Noon', stock } });
        await act({
          ...{ node, data },
          press: user => call(node.url, 'POST /coupons/noon/issue', { headers: { 'x-user-id': user } }),
          full: at => writeFile(kill, `embedded:fills-${at}`),
          room: () => rm(kill),
        });
      } finally {
        await node.kill();
        await rm(data, { recursive: true, force: true });
      }
    });
  };

  pressed('a file that takes nothing is no place to press, and is one again once it does', 9, async on => {
    const { node, press } = on;
    assert.equal((await press('ann')).status, 202);
    const rebuilds = await reported(node);
    const other = new DatabaseSync(join(on.data, 'dibs.db'), { timeout: 5_000 });
    try {
      other.exec('BEGIN IMMEDIATE');
      for (let i = 0; i < 3; i++) assertProblem(await press('mia'), '503 NOT_ACCEPTED');
      const refused = await call(node.url, 'GET /readyz');
      assertProblem(refused, '503 NOT_READY');
      assert.match(refused.body.detail, /busy|locked/);
      other.exec('ROLLBACK');
    } finally {
      other.close();
    }
    assert.equal((await press('mia')).status, 202);
    assert.equal((await call(node.url, 'GET /readyz')).status, 200);
    assert.equal(await reported(node), rebuilds, 'nothing had changed, so nothing is read anew');
  });

  pressed('a full disk is tried with one row, not a rebuild for each press, and said once', 9, async on => {
    const { node, press } = on;
    await press('ann');
    const rebuilds = await reported(node);
    await on.full('commit');
    for (let i = 0; i < 20; i++) assertProblem(await press(`u${i}`), '503 NOT_ACCEPTED');
    await on.room();
    assert.equal((await press('bob')).status, 202);
    assert.equal(await reported(node), rebuilds + 1);
    const probed = probedIn(on);
    assert.equal((await press('eve')).status, 202);
    assert.equal(probedIn(on), probed, 'after a turn that was kept nothing is probed');
    assert.equal(saidIn(node, 'not kept'), 1);
    assert.equal(saidIn(node, 'append failed'), 1);
  });

  pressed('of winners whose COMMIT failed nothing is left, in either thread', 3, async on => {
    const { node, press } = on;
    await press('joe');
    await on.full('commit');
    assertProblem(await press('ann'), '503 NOT_ACCEPTED');
    await on.room();
    const slotOf = async (user: string) => {
      const { body } = await press(user);
      const asked = () => call(node.url, `GET /tasks/${body.taskId}`);
      return (await eventually('it is told', asked, task => task.body.state === 'done', 3_000)).body.slot;
    };
    assert.deepEqual([await slotOf('bob'), await slotOf('eve')], [2, 3]);
    const verified = await call(node.url, 'GET /admin/verify');
    assert.equal(verified.body.ok, true, JSON.stringify(verified.body));
    assert.equal((await press('ann')).body.reason, 'sold_out', 'and not that she has one');
    assert.equal(saidIn(node, 'gone back'), 0);
  });

  pressed('what a transaction cost that was undone is counted', 9, async on => {
    const { node, press } = on;
    await press('ann');
    const rebuilds = await reported(node);
    await on.full('row');
    for (const user of ['bob', 'eve']) assertProblem(await press(user), '503 NOT_ACCEPTED');
    await on.room();
    await press('joe');
    assert.equal(await reported(node), rebuilds + 2);
    assert.equal(await node.metric('dibs_retries_total', 'persist'), 2);
  });

  test('a stop under load leaves all winners in the one file', async () => {
    const data = await mkdtemp(join(tmpdir(), 'dibs-stopped-'));
    const node = await TestNode.start({ profile: 'embedded', data, port: '0', logLevel: 'silent' });
    try {
      await call(node.url, 'POST /coupons', { body: { couponId: 'noon', name: 'Noon', stock: 900 } });
      const press = (i: number) =>
        call(node.url, 'POST /coupons/noon/issue', { headers: { 'x-user-id': `u${i}` } }).catch(() => undefined);
      const crowd = Array.from({ length: 300 }, (_, i) => press(i));
      await Promise.any(crowd);
      await node.stop();
      await Promise.all(crowd);
      assert.ok(!existsSync(join(data, 'dibs.db-wal')));
    } finally {
      await node.kill();
      await rm(data, { recursive: true, force: true });
    }
  });

  for (const name of ['dibs.db', 'dibs.db.lock']) {
    pressed(`${name} deleted under the server ends it with an alarm`, 9, async ({ node, data, press }) => {
      assert.equal((await press('ann')).status, 202);
      await rm(join(data, name));
      assert.equal(await node.end(), '1');
      assert.match(node.lines.join(''), /ALARM: \S+ is not the file that was opened/);
    });
  }
});
