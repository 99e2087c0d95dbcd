/** What of the calls through a fetch becomes a history. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HistoryLine } from '../src/checker/history.ts';
import { recorded } from '../src/cli/record.ts';
import { createClient, type FetchLike } from '../src/client/index.ts';
import { problem, startFake } from './support/fake-server.ts';
import { testTiming } from './support/sale.ts';

/** The status is not asked for instead. */
const timing = { ...testTiming, streamFailuresMax: 9 };

test('a stream that is answered otherwise is a call like a status; one that is opened is its events', async t => {
  const fake = await startFake();
  t.after(() => fake.close());
  const lines: HistoryLine[] = [];
  const noted = recorded(fetch as FetchLike, line => lines.push(line));
  const client = createClient({ baseUrl: fake.url, userId: 'ann', fetch: noted, timing });
  await client.coupons.create({ couponId: 'noon', name: 'noon', stock: 1 });
  const refusals = [404, 410, 503];
  fake.intercept = ({ path }, response) => {
    const status = path.endsWith('/events') ? refusals.pop() : undefined;
    return status !== undefined && problem(response, status, `CODE_${status}`);
  };
  await client.claim('noon').outcome;
  const [press] = lines.filter(line => line.op === 'issue');
  const task = press?.body?.taskId;
  assert.ok(task);
  assert.deepEqual(
    lines.flatMap(line => (line.op === 'task' ? [[line.task, line.stream, line.status, line.body?.code]] : [])),
    [503, 410, 404].map(status => [task, true, status, `CODE_${status}`]),
  );
  const ends = lines.flatMap(line => (line.op === 'frame' && line.event === 'outcome' ? [line.task] : []));
  assert.deepEqual(ends, [task]);
});

test('a stream that nobody answers is a call of which nothing is known', async () => {
  const lines: HistoryLine[] = [];
  const broken = recorded(
    () => Promise.reject(new Error('reset')),
    line => lines.push(line),
  );
  const init = { method: 'GET', headers: {}, signal: new AbortController().signal };
  await assert.rejects(broken('http://here/tasks/a%20b/events', init), /reset/);
  const [{ from, ...line }] = lines as [Extract<HistoryLine, { op: 'task' }>];
  assert.deepEqual([line, from > 0], [{ op: 'task', task: 'a b', stream: true }, true]);
});
