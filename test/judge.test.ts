/** What the torture lets pass, and what it does not. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Dump } from '../src/checker/dump.ts';
import type { HistoryLine } from '../src/checker/history.ts';
import type { Ring } from '../torture/arena.ts';
import { Crowd } from '../torture/crowd.ts';
import { assertKept, assertLetIn, assertLoss, assertRight, assertShut, assertUnsaid } from '../torture/judge.ts';
import { leftIn, runRound } from '../torture/round.ts';
import { problem, startFake } from './support/fake-server.ts';
import { sampleOf } from './support/sale-history.ts';

const nothing: Dump = { entries: [], rows: [], letters: [] };

for (const [when, fromTheStart] of [
  ['before anything was broken', true],
  ['after all was healed', false],
] as const) {
  test(`a service that lets nobody in is no success: ${when}`, async t => {
    const fake = await startFake();
    t.after(() => fake.close());
    const refuse = () => {
      fake.intercept = ({ path }, response) => path.endsWith('/issue') && problem(response, 403, 'FORBIDDEN');
    };
    if (fromTheStart) refuse();
    const arena: Ring = {
      urls: [fake.url],
      heal: async () => refuse(),
      drained: async () => {},
      dump: async () => nothing,
      alarms: async () => [],
      leaks: [],
      close: async () => {},
    };
    const round = { name: 'shut', fault: { own: [], run: async () => {} }, arena, random: () => 0.9, did() {} };
    await assert.rejects(runRound(round), {
      name: 'Violated',
      message: new RegExp(`^\\d+ were turned away ${when}: u\\d+: FORBIDDEN`),
    });
    for (const kind of ['seen', 'kept']) await rm(join(leftIn, `shut.${kind}.jsonl`));
  });
}

test('a process that says a secret is a violation, whatever else was right or wrong', async t => {
  assertUnsaid([]);
  assert.throws(() => assertUnsaid(['it is x', 'it is y']), { name: 'Violated', message: /in 2 lines: it is x$/ });
  const fake = await startFake();
  t.after(() => fake.close());
  const said: string[] = [];
  const arena: Ring = {
    urls: [fake.url],
    heal: async () => {},
    // Later than all that was asserted before.
    drained: async () => void said.push('it is x'),
    dump: async () => nothing,
    alarms: async () => [],
    leaks: said,
    close: async () => {},
  };
  const round = { name: 'said', fault: { own: [], run: async () => {} }, arena, random: () => 0.9, did() {} };
  await assert.rejects(runRound(round), { name: 'Violated', message: /^a secret was said in 1 lines: it is x\n/ });
  const fails = { ...round, fault: { own: [], run: () => Promise.reject(new Error('broken')) } };
  await assert.rejects(runRound(fails), { name: 'Violated', message: /^broken\nit is x\n/ });
  for (const kind of ['seen', 'kept']) await rm(join(leftIn, `said.${kind}.jsonl`));
});

const press = { op: 'issue' as const, coupon: 'c', user: 'u', from: 1, to: 2 };

test('that nobody came in is only right when the coupon was over', () => {
  assertLetIn('then', [{ ...press, status: 202, body: { taskId: 't' } }], []);
  assertLetIn('then', [{ ...press, status: 410, body: { code: 'INACTIVE_COUPON', reason: 'sold_out' } }], []);
  const away: HistoryLine = { ...press, status: 503, body: { code: 'NOT_ACCEPTED' } };
  assert.throws(() => assertLetIn('then', [away], []), /nobody was let in then, of 1 requests/);
  assert.throws(() => assertLetIn('then', [], ['u: UnansweredError']), /1 were turned away then: u: Unanswered/);
});

test('where nothing may be accepted one 202 is too many, and so is a crowd that did not press', () => {
  const taken: HistoryLine = { ...press, status: 202, body: { taskId: 't' } };
  assertShut('then', [taken, { ...press, from: 3, status: 503 }], 3);
  assert.throws(() => assertShut('then', [taken, { ...taken, from: 3 }], 3), /1 of 1 were accepted then/);
  assert.throws(() => assertShut('then', [taken], 3), /nobody pressed then/);
});

test('what was under way when the crowd leaves is in the history, as a call of which nothing is known', async t => {
  const fake = await startFake();
  t.after(() => fake.close());
  fake.intercept = ({ path }) => path.endsWith('/issue');
  const crowd = new Crowd('c', [fake.url]);
  t.after(() => crowd.close());
  crowd.press(3);
  await fake.until(() => fake.seen.length === 3);
  await crowd.leave();
  assert.deepEqual(
    crowd.history.map(line => line.op === 'issue' && [line.user, line.status]),
    ['u0', 'u1', 'u2'].map(user => [user, undefined]),
  );
});

test('who presses without a key presses again when no answer comes, and not when told how it ended', async t => {
  const fake = await startFake();
  t.after(() => fake.close());
  const crowd = new Crowd('c', [fake.url]);
  t.after(() => crowd.close());
  await crowd.open(3);
  const silent = [503, 502, 429];
  fake.intercept = ({ path, headers }, response) => {
    const isUnkeyed = path.endsWith('/issue') && headers['idempotency-key'] === undefined;
    const status = isUnkeyed ? silent.pop() : undefined;
    return status !== undefined && problem(response, status, 'OUTCOME_UNKNOWN');
  };
  crowd.press(6);
  await crowd.settle();
  const presses = crowd.history.filter(line => line.op === 'issue');
  const unkeyed = presses.filter(({ key }) => key === undefined);
  // One presses once, one twice, and three of all were not answered.
  assert.deepEqual([...new Set(unkeyed.map(({ user }) => user))].toSorted(), ['u2', 'u5']);
  assert.deepEqual([unkeyed.length, presses.length - unkeyed.length, silent], [6, 4, []]);
  fake.intercept = ({ path }, response) => path.endsWith('/issue') && problem(response, 403, 'FORBIDDEN');
  crowd.press(3);
  await crowd.settle();
  assert.deepEqual(
    crowd.turnedAway.toSorted(),
    ['u6', 'u7', 'u8'].map(user => `${user}: FORBIDDEN, it is FORBIDDEN`),
  );
});

const { history, dump } = sampleOf(7);
const told = (task: string | undefined) => (line: HistoryLine) =>
  (line.op === 'frame' || line.op === 'task') && line.task === task;
/** Winners of one request who were told so, and what they were told. */
const winners = dump.rows.flatMap(row => {
  const presses = history.filter(line => line.op === 'issue' && line.coupon === row.coupon && line.user === row.user);
  const task = presses[0]?.op === 'issue' ? presses[0].body?.taskId : undefined;
  return presses.length === 1 && history.some(told(task)) ? [{ row, task }] : [];
});
const rows = dump.rows.filter(row => row !== winners[0]?.row);
const untold = history.filter(line => !told(winners[0]?.task)(line));

test('a service that breaks for one caller is not right; one that says that it cannot is', () => {
  const { task } = history.find(line => line.op === 'frame') as { task: string };
  const calls = [
    { op: 'issue', coupon: 'c0', user: 'one', key: 'k' },
    { op: 'task', task },
    { op: 'stock', coupon: 'c0', add: 1, key: 'k' },
  ] as const;
  for (const call of calls) {
    const answered = (status: number, code: string): HistoryLine[] => [
      ...history,
      { ...call, from: 9_000, to: 9_001, status, body: { code } },
    ];
    assert.ok(assertRight(answered(503, 'UNAVAILABLE'), dump).ok);
    assert.throws(() => assertRight(answered(500, 'INTERNAL'), dump), /the crowd was answered with INTERNAL$/);
  }
});

test('a stream that was not opened: refused it may be, gone or broken it may not', () => {
  const { task } = history.find(line => line.op === 'frame') as { task: string };
  const answered = (status: number, stream = true): HistoryLine[] => [
    ...history,
    { op: 'task', task, stream, from: 9_000, to: 9_001, status },
  ];
  for (const status of [406, 429, 501, 503]) assert.ok(assertRight(answered(status), dump).ok, `${status}`);
  assert.ok(assertRight([...history, { op: 'task', task, stream: true, from: 9_000 }], dump).ok);
  for (const status of [410, 500, 502])
    assert.throws(() => assertRight(answered(status), dump), new RegExp(`the crowd was answered with HTTP_${status}$`));
  assert.throws(() => assertRight(answered(404), dump), /its task is said to be unknown/);
  assert.throws(() => assertRight(answered(429, false), dump), /the crowd was answered with HTTP_429$/);
});

test('a service that stopped may owe a row and an answer to whom it told nothing', () => {
  assert.ok(winners.length > 0);
  assert.ok(assertKept(history, dump).ok);
  assert.ok(assertKept(untold, { ...dump, rows }).ok);
});

test('one that stopped with all requests kept has lost none, and has the rows that it told of', () => {
  assert.throws(() => assertKept(history, { ...dump, rows }), /1 lost.* neither row nor dead letter/);
  const half = dump.entries.slice(0, dump.entries.length / 2);
  assert.throws(() => assertKept(untold, { ...dump, entries: half }), /\d+ lost/);
});

test('one whose requests were cut off shows it', () => {
  assert.ok(assertLoss(history, { ...dump, entries: dump.entries.slice(0, -1) }).ok);
  assert.throws(() => assertLoss(history, dump), /found nothing$/);
});
