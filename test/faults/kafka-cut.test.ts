/** A single broker that comes back without the end of its log, which it had acknowledged. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { ServiceHandle, Services } from '../../scripts/services.ts';
import { requestLog } from '../../src/entry.ts';
import { Alarm, NotAccepted } from '../../src/errors.ts';
import { createHost } from '../../src/host.ts';
import { createKafkaLog, type KafkaLog } from '../../src/kafka/log.ts';
import { noServices, serversFor } from '../support/cluster.ts';
import { cutTails } from '../support/cut-tails.ts';
import { eventually } from '../support/sale.ts';

describe('a log that was cut', { skip: noServices, timeout: 110_000 }, () => {
  let services: Services;
  const logs: KafkaLog[] = [];
  before(async () => {
    services = await serversFor(['kafka'], {}, ['kafka']);
  });
  after(async () => {
    await Promise.all(logs.map(log => log.close()));
    await services?.stop();
  });

  const open = async (): Promise<KafkaLog> => {
    const log = await createKafkaLog({
      ...{ brokers: services.kafkaBrokers.split(','), topicPrefix: 'cut.', host: createHost(), log: () => {} },
      ...{ partitions: 1, replication: 1, minInsync: 1 },
    });
    logs.push(log);
    return log;
  };
  /** Appends one, as soon as the log takes it. @throws Alarm */
  const appended = (log: KafkaLog, value: string): Promise<number | Alarm> =>
    eventually(
      `${value} is appended, or an alarm`,
      () =>
        log.append(requestLog, 0, [value]).catch((error: unknown) => {
          if (error instanceof Alarm) return error;
          throw error;
        }),
      () => true,
    );

  test('is noticed by everybody who appended to it before, however far it has grown since', async () => {
    const server = services.kafka as ServiceHandle;
    const [late, early, stranger] = [await open(), await open(), await open()];
    for (let i = 0; i < 40; i++) assert.equal(await (i % 2 ? early : late).append(requestLog, 0, [`${i}`]), i);
    await server.kill();
    await server.start();
    // Nothing is lost: whoever doubts is proved wrong.
    assert.deepEqual([await appended(early, '40'), await appended(late, '41')], [40, 41]);
    await server.kill();
    await cutTails(server.dataDir, `cut.${requestLog}`);
    await server.start();
    for (let i = 0; i < 60; i++) await appended(stranger, `new ${i}`);
    assert.ok((await stranger.end(requestLog, 0)) > 42);
    for (const log of [early, late]) {
      assert.match(String(await appended(log, 'behind the cut')), /the log was cut or made anew/);
      await assert.rejects(log.append(requestLog, 0, ['and more']), NotAccepted);
    }
  });
});
