/** The embedded profile: the whole process is killed in mid-sale, again and again, and started on the same folder. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { freePort } from '../../scripts/services/port.ts';
import { TestNode } from '../support/cluster.ts';
import { type RowOfSale, Sale } from '../support/sale.ts';

const kills = 5;

describe('embedded', { timeout: 60_000 }, () => {
  test(`killed ${kills} times in mid-sale`, async () => {
    const data = await mkdtemp(join(tmpdir(), 'dibs-killed-'));
    const port = await freePort();
    const start = () => TestNode.start({ profile: 'embedded', data, port: String(port), logLevel: 'warn' });
    const rows = async (couponId: string): Promise<RowOfSale[]> => {
      const database = new DatabaseSync(join(data, 'dibs.db'), { readOnly: true });
      try {
        const select = 'select slot, user_id as userId, "offset" from user_coupon where coupon_id = ? order by slot';
        return database.prepare(select).all(couponId) as unknown as RowOfSale[];
      } finally {
        database.close();
      }
    };
    let node = await start();
    try {
      const sale = await Sale.open({ couponId: 'welcome', stock: 500, url: () => node.url, rows });
      for (let i = 1; i <= kills; i++) {
        const answered = sale.answered;
        sale.press(200);
        // Some of the wave are told, some wait, some are on their way in.
        await sale.answeredAtLeast(answered + 20 * i);
        await node.kill();
        node = await start();
      }
      sale.press(100);
      await sale.isRight({ pushed: false });
      assert.equal(sale.told('issued'), 500);
    } finally {
      await node.kill();
      await rm(data, { recursive: true, force: true });
    }
  });
});
