/** A membership beside a client that is not told how its requests ended. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import type { Consumer } from '@platformatic/kafka';
import { changeLog } from '../src/entry.ts';
import type { Kafka, Topic } from '../src/kafka/client.ts';
import { Membership } from '../src/kafka/group.ts';
import { joinMsMax } from '../src/kafka/limits.ts';
import { fakeHost } from './support/fake-host.ts';

const topic: Topic = { log: changeLog, name: 'changes', id: 'one' };
const kafka = (): Kafka => ({
  ...{ brokers: ['127.0.0.1:1'], clientId: 'dibs', prefix: '', counts: { produce: 0, fetch: 0 }, sessionMs: 6_000 },
  ...{ host: fakeHost(), log: () => {} },
});

class Client extends EventEmitter {
  readonly topics = { track: () => {} };
  readonly joins = Promise.withResolvers<void>();
  left = false;
  closed = false;
  memberId = 'member';
  assignments: unknown;

  joinGroup(): Promise<void> {
    return this.joins.promise;
  }

  /** As the brokers give it. */
  join(...partitions: number[]): void {
    this.assignments = [{ topic: topic.name, partitions }];
    this.emit('consumer:group:join', { assignments: this.assignments });
    this.joins.resolve();
  }

  leaveGroup(_force: boolean, done: () => void): void {
    this.left = true;
    done();
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

const turns = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

function member() {
  const clients: Client[] = [];
  const held = new Set<number>();
  const on = { assigned: (p: number) => void held.add(p), revoked: (p: number) => void held.delete(p) };
  const open = () => {
    const client = new Client();
    clients.push(client);
    return client as unknown as Consumer;
  };
  return { clients, held, membership: new Membership(kafka(), 'persist', topic, on, open) };
}

test('Kafka: a join that is never answered is given up, and another client joins', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { clients, held, membership } = member();
  await turns();
  t.mock.timers.tick(6_000 + joinMsMax);
  await turns();
  assert.deepEqual([clients.length, clients[0]?.left, clients[0]?.closed], [2, true, true]);
  clients[1]?.join(0, 1);
  assert.deepEqual([...held], [0, 1]);
  // The first one's answer comes in the end: it says nothing about what is held.
  clients[0]?.join(0);
  assert.deepEqual([...held], [0, 1]);
  await membership.close();
  assert.deepEqual([...held], []);
});

test('Kafka: a membership that is made anew in the middle of a join that is never answered joins too', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { clients, held, membership } = member();
  clients[0]?.join(0);
  await turns();
  // A rejoin in the background failed; the next one hangs.
  const hanging = Promise.withResolvers<void>();
  const first = clients[0] as Client;
  first.joinGroup = () => hanging.promise;
  first.emit('error', new Error('rejoin failed'));
  await turns();
  first.emit('consumer:heartbeat:stalled');
  t.mock.timers.tick(6_000 + joinMsMax);
  await turns();
  clients[1]?.join(1);
  assert.deepEqual([clients.length, [...held]], [2, [1]]);
  await membership.close();
});
