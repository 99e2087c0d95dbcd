/** The embedded profile: the whole process is killed in mid-sale, again and again, and started on the same folder. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { freePort } from '../../scripts/services/port.ts';
import { TestNode } from '../support/cluster.ts';
import { type RowOfSale, Sale } from '../support/sale.ts';

const stock = 500;

describe('embedded', { timeout: 110_000 }, () => {
  /** A sale in `waves`; in each of them `kill` ends the process, which is then started on the same folder. */
  const killed = (name: string, waves: number, kill: (sale: Sale, node: TestNode, data: string) => Promise<void>) => {
    test(name, async () => {
      const data = await mkdtemp(join(tmpdir(), 'dibs-killed-'));
      const port = await freePort();
      const preload = join(import.meta.dirname, '../support/kill-at-commit.ts');
      const env = { DIBS_TEST_KILL_FILE: join(data, 'kill') };
      const start = async () => {
        await rm(env.DIBS_TEST_KILL_FILE, { force: true });
        return TestNode.start({ profile: 'embedded', data, port: String(port), logLevel: 'warn' }, { preload, env });
      };
      let node = await start();
      let sale: Sale | undefined;
      try {
        sale = await Sale.open({ couponId: 'welcome', stock, url: () => node.url, rows: rowsIn(data) });
        for (let wave = 0; wave < waves; wave++) {
          await kill(sale, node, data);
          node = await start();
        }
        sale.press(100);
        await sale.isRight({ pushed: false });
        assert.equal(sale.told('issued'), stock);
      } finally {
        sale?.close();
        await node.kill();
        await rm(data, { recursive: true, force: true });
      }
    });
  };

  const rowsIn =
    (data: string) =>
    async (couponId: string): Promise<RowOfSale[]> => {
      const database = new DatabaseSync(join(data, 'dibs.db'), { readOnly: true });
      try {
        const select = 'select slot, user_id as userId, "offset" from user_coupon where coupon_id = ? order by slot';
        return database.prepare(select).all(couponId) as unknown as RowOfSale[];
      } finally {
        database.close();
      }
    };

  killed('killed at any moment', 5, async (sale, node) => {
    const { answered } = sale;
    sale.press(200);
    // Some of the wave are told, some wait, some are on their way in.
    await sale.answeredAtLeast(answered + 40);
    await node.kill();
  });

  const atCommit = (when: 'before' | 'after') =>
    killed(`killed ${when} the commit`, 3, async (sale, node, data) => {
      sale.press(100);
      await sale.answeredAtLeast(sale.size);
      sale.press(100);
      await writeFile(join(data, 'kill'), `embedded:${when}-commit`);
      sale.press(100);
      assert.equal(await node.end(), 'SIGKILL');
      assert.ok(existsSync(join(data, 'kill')));
    });
  atCommit('before');
  atCommit('after');

  // SQLite takes the transaction for undone, but its pages are in the file's WAL: a process that went on would refuse
  // what the next one finds there.
  killed('a sync that the disk fails ends the process', 3, async (sale, node, data) => {
    await writeFile(join(data, 'kill'), 'embedded:fails-commit');
    sale.press(150);
    assert.equal(await node.end(), '1');
  });
});
