/** Both boards pass the suite of their port. */
import { test } from 'node:test';
import { MemoryBoard } from '../src/memory/board.ts';
import { createRedisBoard } from '../src/redis/board.ts';
import { type BoardBench, outcomeBoardSuite } from './conformance/outcome-board.ts';
import { redisKeys } from './support/redis-keys.ts';

const url = process.env.DIBS_REDIS_URL;

outcomeBoardSuite('memory', async () => {
  const board = new MemoryBoard();
  return { board, other: board, close: () => board.close() };
});

if (url) outcomeBoardSuite('redis', () => redisBench(url));
else test('OutcomeBoard: redis', { skip: 'DIBS_REDIS_URL is not set' }, () => {});

async function redisBench(url: string): Promise<BoardBench> {
  const keys = redisKeys(url);
  const { admin, prefix, loseAll, forgetScripts } = keys;
  const connectionName = `${prefix}-other`;
  const [board, other] = [
    createRedisBoard({ url, prefix }),
    createRedisBoard({ url, prefix, connection: { connectionName } }),
  ];
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
      forgetScripts,
    },
    async close() {
      await board.close();
      await other.close();
      await keys.close();
    },
  };
}
