/** The checker must catch every kind of tampering and flag no history that is as it must be. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { check } from '../src/checker/check.ts';
import type { Dump } from '../src/checker/dump.ts';
import type { CheckReport } from '../src/checker/findings.ts';
import type { HistoryLine, Told } from '../src/checker/history.ts';
import { checkLines } from '../src/cli/check.ts';
import type { CouponId, UserId } from '../src/coupon.ts';
import { encodeEntry } from '../src/entry.ts';
import { keyHash } from '../src/task.ts';
import { assertRight } from '../torture/judge.ts';
import { Random, type Sample, sampleOf } from './support/sale-history.ts';
import { tamperings } from './support/tampering.ts';

const clean = 500;
const tampered = 1_000;

const checked = ({ history, dump }: Sample): CheckReport => check(history, dump);

suite('a history that is as it must be', () => {
  test(`${clean} of them: none is flagged, and they have seen everything`, () => {
    const seen = new Map<string, number>();
    const note = (what: string, is = true) => is && seen.set(what, (seen.get(what) ?? 0) + 1);
    for (let seed = 0; seed < clean; seed++) {
      const sample = sampleOf(seed);
      const report = checked(sample);
      assert.deepEqual([report.findings, report.unjudged], [[], {}], `seed ${seed}`);
      for (const line of sample.history) {
        note(`${line.op} ${'status' in line ? line.status : line.op === 'frame' ? line.event : 'lost'}`);
        const { reason, outcome, state, code } = line.body ?? {};
        for (const word of [reason, outcome, state, code]) note(word ?? '', word !== undefined);
      }
      note(
        'letter',
        sample.dump.letters.some(({ slot }) => slot !== null),
      );
    }
    const all = [
      ...['issue 202', 'issue 200', 'issue 409', 'issue 410', 'issue 403', 'issue 503', 'issue lost', 'task 200'],
      ...['frame progress', 'frame outcome', 'stock 200', 'stock 409', 'close 200', 'create 201', 'letter'],
      ...['NOT_ACCEPTED', 'OUTCOME_UNKNOWN', 'sold_out', 'closed', 'not_open', 'issued', 'duplicated', 'reserved'],
      'set_aside',
    ];
    for (const what of all) assert.ok((seen.get(what) ?? 0) >= 20, `${what}: ${seen.get(what)}`);
  });
  test(`${clean} that begin late: none is flagged`, () => {
    for (let seed = 0; seed < clean; seed++) {
      const { history, dump } = sampleOf(seed);
      const begin = new Random(seed).between(1, 5_000);
      const late = history.filter(line => (line.op === 'frame' ? line.at : line.from) >= begin);
      assert.deepEqual(check(late, dump).findings, [], `seed ${seed} from ${begin} on`);
    }
  });
  test('an empty one', () => {
    assert.equal(check([], { entries: [], rows: [], letters: [] }).ok, true);
  });
});

suite('written by hand', () => {
  const coupon = 'noon' as CouponId;
  const opened = (opensAt: number | null = null) =>
    encodeEntry({ type: 'opened', couponId: coupon, stock: 2, opensAt, closesAt: null });
  const asked = (user: string, key: string) =>
    encodeEntry({ type: 'request', couponId: coupon, userId: user as UserId, key: keyHash(`${coupon} ${user}`, key) });
  const restocked = (add: number, key: string) =>
    encodeEntry({ type: 'stock_added', couponId: coupon, add, key: keyHash(coupon, key) });
  const closed = encodeEntry({ type: 'closed', couponId: coupon });
  /** `wins`: offsets of entries that have a row. */
  const dumpOf = (texts: string[], wins: number[] = [], at = (offset: number) => offset): Dump => ({
    entries: texts.map((text, offset) => ({ kind: 'entry', partition: 0, offset, at: at(offset), text })),
    rows: wins.map((offset, i) => {
      const { key, userId } = JSON.parse(texts[offset] as string);
      return { kind: 'row', coupon, user: userId, slot: i + 1, offset, key, at: at(offset) };
    }),
    letters: [],
  });
  const create = (to: number, opensAt: number | null = null): HistoryLine => ({
    ...{ op: 'create', from: to - 1, to, status: 201, coupon, stock: 2, opensAt, closesAt: null },
  });
  const press = (user: string, from: number, key: string, status: number, body: Told): HistoryLine => ({
    ...{ op: 'issue', from, to: from + 1, status, coupon, user, key, body },
  });
  const told = (task: string, at: number, body: Told): HistoryLine => ({
    ...{ op: 'frame', at, stream: at, task, event: 'outcome', body: { state: 'done', ...body } },
  });
  const issued = (user: string, key: string, at: number, slot: number): HistoryLine[] => [
    press(user, at, key, 202, { taskId: `${user}-${at}`, state: 'accepted' }),
    told(`${user}-${at}`, at + 2, { outcome: 'issued', slot }),
  ];
  const notOpen = { code: 'INACTIVE_COUPON', reason: 'not_open' };
  const kindsOf = (history: HistoryLine[], dump: Dump) => check(history, dump).findings.map(({ kind }) => kind);

  test('a key that came too early and again in time is no key that was refused', () => {
    const at = (offset: number) => [0, 10, 5_000][offset] as number;
    const dump = dumpOf([opened(4_000), asked('u', 'k'), asked('u', 'k')], [2], at);
    const early = [
      press('u', 10, 'k', 202, { taskId: 'early', state: 'accepted' }),
      told('early', 12, { outcome: 'inactive', reason: 'not_open' }),
      press('u', 20, 'k', 403, notOpen),
    ];
    assert.deepEqual(kindsOf([create(1, 4_000), ...early, ...issued('u', 'k', 5_000, 1)], dump), []);
  });
  test('two ends that two entries of one key allow are still two', () => {
    const dump = dumpOf([opened(4_000), asked('u', 'k'), asked('u', 'k')], [2], offset => offset * 2_500);
    const both = ['a', 'b'].map((taskId): HistoryLine => {
      const press = { op: 'issue' as const, coupon, user: 'u', key: 'k', status: 202 };
      return { ...press, from: 10, to: 5_001, body: { taskId, state: 'accepted' } };
    });
    const early = told('a', 5_002, { outcome: 'inactive', reason: 'not_open' });
    const late = (task: string, at: number) => told(task, at, { outcome: 'issued', slot: 1 });
    assert.deepEqual(kindsOf([create(1, 4_000), ...both, early, late('b', 5_003)], dump), []);
    assert.deepEqual(kindsOf([create(1, 4_000), ...both, early, late('a', 5_003), late('b', 5_004)], dump), [
      'contradicted',
    ]);
  });
  test('who lost before the win that is set aside is told so', () => {
    const at = (offset: number) => [0, 10, 5_000, 5_010][offset] as number;
    const dump = dumpOf([opened(4_000), asked('u', 'a'), asked('u', 'b'), asked('u', 'c')], [2], at);
    const [{ kind: _, at: __, ...row }] = dump.rows.splice(0) as [Dump['rows'][0]];
    dump.letters.push({ kind: 'letter', partition: 0, reason: 'refused_by_store: x', ...row });
    const presses = ['a', 'b', 'c'].map((key, i) =>
      press('u', [10, 5_000, 5_010][i] as number, key, 202, { taskId: key, state: 'accepted' }),
    );
    const early = told('a', 12, { outcome: 'inactive', reason: 'not_open' });
    assert.deepEqual(kindsOf([create(1, 4_000), ...presses, early], dump), []);
    assert.deepEqual(kindsOf([create(1, 4_000), ...presses], dump), ['unanswered']);
  });
  test('who was on the way for long: slots that were won, a redrive, and a line that begins again with the ledger', () => {
    const dump = dumpOf([opened(), asked('u', 'a'), asked('v', 'b'), asked('u', 'c'), restocked(1, 'm')], [1, 2]);
    const progress = (task: string, at: number, body: Told): HistoryLine => ({
      ...{ op: 'frame', at, stream: 1, task, event: 'progress', body },
    });
    const status = (task: string, from: number, body: Told): HistoryLine => ({
      ...{ op: 'task', from, to: from + 1, status: 200, task, body },
    });
    const accepted = (taskId: string, ahead: number): Told => ({ taskId, state: 'accepted', ahead });
    const way = [
      press('u', 10, 'a', 202, accepted('a', 1)),
      press('v', 20, 'b', 202, accepted('b', 2)),
      progress('b', 22, { state: 'accepted', ahead: 1 }),
      progress('b', 24, { state: 'reserved', slot: 2 }),
      press('u', 30, 'c', 202, accepted('c', 0)),
      status('b', 40, { state: 'set_aside', slot: 2 }),
      status('c', 50, { state: 'accepted', ahead: 3 }),
      { op: 'task', from: 51, to: 52, status: 503, task: 'c', body: { code: 'UNAVAILABLE' } } as const,
      status('b', 52, { state: 'accepted', ahead: 2 }),
      told('a', 60, { outcome: 'issued', slot: 1 }),
      told('b', 61, { outcome: 'issued', slot: 2 }),
      told('c', 62, { outcome: 'duplicated', slot: 1 }),
    ];
    const restock: HistoryLine = { op: 'stock', from: 70, to: 71, status: 200, coupon, add: 1, key: 'm' };
    const { findings, unjudged } = check([create(1), ...way, restock], dump);
    assert.deepEqual([findings, unjudged], [[], {}]);
  });
  test('a press refused by a rate or for its token is counted, not judged', () => {
    const refusals = [
      press('u', 10, 'k', 429, { code: 'TOO_MANY_REQUESTS' }),
      press('u', 20, 'k', 429, { code: 'TOO_MANY_REQUESTS' }),
      press('v', 10, 'k', 405, {}),
      press('w', 10, 'k', 503, { code: 'NOT_ACCEPTED' }),
    ];
    const report = check([create(1), ...refusals], dumpOf([opened()]));
    assert.deepEqual([report.ok, report.unjudged], [true, { TOO_MANY_REQUESTS: 2, HTTP_405: 1 }]);
    assert.match(checkLines(report).join('\n'), /^not judged: 2 calls answered with TOO_MANY_REQUESTS$/m);
  });
  test('a restock asked for again by another amount is answered with the first one', () => {
    const stock = (from: number, add: number): HistoryLine => ({
      ...{ op: 'stock', from, to: from + 1, status: 200, coupon, add, key: 'm' },
    });
    const dump = dumpOf([opened(), restocked(1, 'm')]);
    assert.deepEqual(kindsOf([create(1), stock(3, 1), stock(5, 3)], dump), []);
    assert.deepEqual(kindsOf([create(1), stock(3, 2), stock(5, 3)], dump), ['contradicted', 'contradicted']);
  });
  test('a history may begin after a user has won', () => {
    const again = press('u', 10, 'k', 200, { taskId: 't', state: 'done', outcome: 'issued', slot: 1 });
    assert.deepEqual(kindsOf([again], dumpOf([opened(), asked('u', 'k')], [1])), []);
  });
  test('who pressed after the answer to a close, and won', () => {
    const close: HistoryLine = { op: 'close', from: 3, to: 4, status: 200, coupon };
    const dump = dumpOf([opened(), asked('u', 'k'), closed], [1]);
    assert.deepEqual(kindsOf([create(1), close, ...issued('u', 'k', 10, 1)], dump), ['out_of_order', 'out_of_order']);
  });
  test('who pressed after the answer to the creation, and stands before it', () => {
    const dump = dumpOf([asked('u', 'k'), opened()]);
    const history = [
      create(1),
      press('u', 10, 'k', 202, { taskId: 't', state: 'accepted' }),
      told('t', 12, { outcome: 'refused', reason: 'unknown_coupon' }),
    ];
    assert.deepEqual(kindsOf(history, dump), ['out_of_order', 'out_of_order']);
  });
  test('not open yet, of a sale that was closed for good', () => {
    const close: HistoryLine = { op: 'close', from: 3, to: 4, status: 200, coupon };
    const dump = dumpOf([opened(9_000), closed]);
    assert.deepEqual(kindsOf([create(1, 9_000), close, press('u', 10, 'k', 403, notOpen)], dump), ['contradicted']);
  });
});

suite(`${tampered} tampered histories`, () => {
  const kinds = Object.entries(tamperings);
  const each = Math.ceil(tampered / kinds.length);
  for (const [name, { kind, tamper }] of kinds) {
    test(`${name}: ${kind}, ${each} times`, () => {
      let done = 0;
      for (let seed = 0; done < each; seed++) {
        assert.ok(seed < 50 * each, `only ${done} of these samples can be tampered with so`);
        const sample = sampleOf(10_000 + seed);
        if (!tamper(sample, new Random(seed))) continue;
        done++;
        const report = checked(sample);
        if (kind === 'unjudged') {
          assert.ok(Object.keys(report.unjudged).length === 1, `seed ${seed}: ${JSON.stringify(report.unjudged)}`);
          assert.match(checkLines(report).join('\n'), /^not judged: 1 call answered with /m, `seed ${seed}`);
          assert.throws(() => assertRight(sample.history, sample.dump), /the crowd was answered with/);
          continue;
        }
        assert.ok(report.totals[kind] > 0, `seed ${seed}: ${JSON.stringify(report.totals)}`);
        const [found] = report.findings.filter(finding => finding.kind === kind);
        assert.ok(found && found.witnesses.length > 0, `seed ${seed} has no witness`);
        assert.ok(checkLines(report).length > 1, `seed ${seed} cannot be printed`);
      }
    });
  }
});
