/** Both boards pass the suite of their port. */
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { MemoryBoard } from '../src/memory/board.ts';
import { createRedisBoard } from '../src/redis/board.ts';
import { type BoardBench, outcomeBoardSuite } from './conformance/outcome-board.ts';

const url = process.env.DIBS_REDIS_URL;

outcomeBoardSuite('memory', async () => {
  const board = new MemoryBoard();
  return { board, other: board, close: () => board.close() };
});

if (url) outcomeBoardSuite('redis', () => redisBench(url));
else test('OutcomeBoard: redis', { skip: 'DIBS_REDIS_URL is not set' }, () => {});

async function redisBench(url: string): Promise<BoardBench> {
  const prefix = `dibs-test-${randomBytes(6).toString('hex')}`;
  const admin = new Redis(url);
  const connectionName = `${prefix}-other`;
  const [board, other] = [
    createRedisBoard({ url, prefix }),
    createRedisBoard({ url, prefix, connection: { connectionName } }),
  ];
  const loseAll = async () => {
    for (const key of await admin.keys(`${prefix}:*`)) await admin.unlink(key);
  };
  return {
    board,
    other,
    faults: {
      loseAll,
      async cutSubscriptions() {
        const clients = String(await admin.client('LIST')).split('\n');
        for (const client of clients.filter(
          each => each.includes(`name=${connectionName} `) && !each.includes(' sub=0 '),
        )) {
          await admin.client('KILL', 'ID', Number(/\bid=(\d+)/.exec(client)?.[1]));
        }
      },
      forgetScripts: async () => void (await admin.script('FLUSH')),
    },
    async close() {
      await board.close();
      await other.close();
      await loseAll();
      admin.disconnect();
    },
  };
}
