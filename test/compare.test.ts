/** `dibs compare`: its arithmetic, its page, what it sends, and the pace of `naive`, which it holds us against. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { naive } from '../bench/naive.ts';
import type { Ports } from '../src/app.ts';
import { crowdOf, inTurn, targetOf } from '../src/cli/compare.ts';
import { arrivals, crowdRun } from '../src/cli/compare-crowd.ts';
import { pageOf } from '../src/cli/compare-page.ts';
import {
  type Comparison,
  cellsOf,
  isSteady,
  linesOf,
  measures,
  median,
  type Run,
  seriesOf,
  steadyRuns,
} from '../src/cli/compare-report.ts';
import { changeLog, requestLog } from '../src/entry.ts';
import type { LedgerView } from '../src/ports.ts';
import { spawnDibs } from './support/child.ts';
import { fakeHost } from './support/fake-host.ts';
import { LogDouble } from './support/log-double.ts';
import { embeddedGround } from './support/profiles.ts';

const noFull = !existsSync('/dev/full') && 'there is no /dev/full here';

const run = (over: Partial<Run> = {}): Run => ({
  ...{ target: 'a', crowd: '10 for 5', round: 0, yardstick: [10_000, 10_000] },
  ...{ users: 10, stock: 5, accepted: 8, acceptedPerSecond: 100, told: 10, lost: 0, unanswered: 0 },
  ...{ winners: 5, issued: 5, duplicates: 0, oversold: 0, requestsPerUser: 2, polled: false },
  ...{
    acceptedMs: undefined,
    resultMs: undefined,
    issuedMs: undefined,
    resultSeries: [1, 2],
    issuedOverTime: [[1, 5]],
  },
  ...over,
});
const comparison = (over: Partial<Comparison> = {}): Comparison => ({
  ...{ at: '2026-01-01', machine: 'a machine', seed: 1, targets: ['a', 'b'] },
  ...{ runs: [run(), run({ target: 'b' })], thrownAway: [], faults: [] },
  ...over,
});
const measure = (name: string) => measures.find(one => one.name === name) as (typeof measures)[number];

describe('arithmetic', () => {
  test('the same seed gives the same moments, another one others, at the rate that was asked for', () => {
    const crowd = { users: 4_000, stock: 1, perSecond: 1_000 };
    const [one, same, other] = [arrivals(crowd, 1), arrivals(crowd, 1), arrivals(crowd, 2)];
    assert.deepEqual(one, same);
    assert.notDeepEqual(one, other);
    assert.deepEqual(
      one,
      one.toSorted((a, b) => a - b),
    );
    const seconds = (one.at(-1) as number) / 1_000;
    assert.ok(seconds > 3.7 && seconds < 4.3, `${seconds} s`);
    const gaps = one.map((at, i) => at - (one[i - 1] ?? 0));
    assert.ok(gaps.some(gap => gap > 4) && gaps.some(gap => gap < 0.05), 'at random moments, not in step');
  });

  test('medians, and shares of a distribution', () => {
    assert.deepEqual([median([3]), median([4, 1]), median([9, 1, 2])], [3, 2.5, 2]);
    const series = seriesOf(Array.from({ length: 201 }, (_, i) => 200 - i));
    assert.deepEqual([series.length, series[0], series[50], series[99], series[100]], [101, 0, 100, 198, 200]);
    assert.deepEqual(seriesOf([]), []);
    assert.deepEqual(new Set(seriesOf([7])), new Set([7]));
  });

  test('a run whose yardstick moved by more than a quarter is thrown away and said so', () => {
    assert.ok(isSteady([12_400, 7_600], 10_000));
    assert.ok(!isSteady([10_000, 7_400], 10_000));
    assert.ok(!isSteady([12_600, 10_000], 10_000));
    const { kept, thrownAway } = steadyRuns([run(), run({ round: 1 }), run({ round: 2, yardstick: [10_000, 7_000] })]);
    assert.deepEqual(
      kept.map(({ round }) => round),
      [0, 1],
    );
    assert.deepEqual(thrownAway, ['a, 10 for 5, round 3: bare node:http did 10.0 and 7.0 k/s, usually 10.0']);
    assert.deepEqual(steadyRuns([]), { kept: [], thrownAway: [] });
  });

  test('a cell is the median of the rounds of its target; what nobody counted is a dash, not a nought', () => {
    const runs = [1, 5, 3].map((requestsPerUser, round) => run({ requestsPerUser, round }));
    const costs = { calls: { redis: 2, log: 0, database: 0.5 } };
    runs.push(run({ target: 'b', requestsPerUser: 7, ...costs }));
    assert.deepEqual(cellsOf(measure('HTTP requests per user'), runs, ['a', 'b', 'c']), ['3.00', '7.00', '-']);
    assert.deepEqual(cellsOf(measure('calls to Redis per issued'), runs, ['a', 'b']), ['-', '2.00']);
    assert.deepEqual(cellsOf(measure('calls to the log per issued'), runs, ['a', 'b']), ['-', '0']);
  });

  test('the order of the targets turns from round to round', () => {
    assert.deepEqual(
      [0, 1, 2].map(round => inTurn(['A', 'B'], round).join('')),
      ['AB', 'BA', 'AB'],
    );
  });

  test('targets and crowds are read, or refused with an example', () => {
    assert.deepEqual(targetOf('before=http://h:1/'), { name: 'before', url: 'http://h:1' });
    for (const bad of ['http://h:1', 'a=', 'a=ftp://h', 'a b=http://h']) assert.throws(() => targetOf(bad), /NAME=URL/);
    for (const secret of ['a=http://u:hidden@h', 'http://u:hidden@h', 'a=u:hidden@h', 'a=http://hidden@h']) {
      assert.throws(() => targetOf(secret), /^CommandError: a --target (?!.*hidden)/);
    }
    assert.deepEqual(crowdOf('5000:1000@2000'), { users: 5_000, stock: 1_000, perSecond: 2_000 });
    for (const bad of ['5000', '0:1@1', '1:1@0', '1:1'])
      assert.throws(() => crowdOf(bad), /write it like 5000:1000@2000/);
  });
});

describe('what is shown', () => {
  const fault = { ...run({ accepted: 900, issued: 400, lost: 120 }), stock: 600, users: 1_000, fault: 'Redis killed' };

  test('the table has a column a target, what was lost, and what was thrown away', () => {
    const text = linesOf(comparison({ faults: [fault], thrownAway: ['b, round 2: because'] })).join('\n');
    assert.match(text, /^ {2}issued +5 +5$/m);
    assert.match(text, /^ {2}lost requests +120 +-$/m);
    assert.match(text, /^ {2}lost winners +200 +-$/m);
    assert.match(text, /thrown away: b, round 2: because/);
    assert.match(linesOf(comparison()).join('\n'), /no round was thrown away/);
  });

  test('the page stands alone, shows every target in every picture, and takes nothing for markup', () => {
    const page = pageOf(comparison({ targets: ['a', 'b'], machine: '<script>alert(1)</script>', faults: [fault] }));
    assert.ok(!/<script|<link|<img|src=|url\(|@import|https?:/.test(page));
    assert.equal(page.match(/<svg /g)?.length, 3);
    for (const svg of page.match(/<svg [\s\S]*?<\/svg>/g) ?? [])
      assert.ok(!svg.includes('NaN') && !svg.includes('Infinity'));
    assert.match(page, /120 of 900; they wait for ever/);
    pageOf(comparison({ runs: [] }));
    pageOf(comparison({ runs: [run({ resultSeries: [], issuedOverTime: [] })] }));
  });
});

describe('against a server', { timeout: 110_000 }, () => {
  const ground = embeddedGround();
  let url = '';
  const nobody = ['--target', 'a=http://127.0.0.1:1', '--target', 'b=http://127.0.0.1:1'];
  before(async () => {
    url = (await ground.start()).url;
  });
  after(() => ground.close());

  test('everybody is counted once: accepted, told, winners, rows, requests', async () => {
    const signal = new AbortController().signal;
    const of = await crowdRun({ users: 60, stock: 25, perSecond: 600 }, { url, seed: 1, signal });
    assert.deepEqual([of.told, of.unanswered, of.winners, of.issued, of.lost], [60, 0, 25, 25, 0]);
    assert.deepEqual([of.duplicates, of.oversold, of.polled], [0, 0, false]);
    assert.equal(of.acceptedMs?.count, of.accepted);
    assert.equal(of.resultMs?.count, 60);
    assert.equal(of.requestsPerUser, (60 + of.accepted) / 60, 'a press each, and a stream for those who were accepted');
    assert.equal(of.issuedOverTime.at(-1)?.[1], 25);

    const strike = { accepted: 21, act: () => assert.fail('it was not to come to this') };
    await assert.rejects(crowdRun({ users: 20, stock: 20, perSecond: 600 }, { url, seed: 1, signal, strike }), {
      message: 'nothing was struck: 20 of 20 were accepted, and it was to be at 21',
    });

    const file = join(ground.folder, 'compare.html');
    const args = ['--crowd', '40:10@400', '--rounds', '1', '--json', '--html', file];
    const child = spawnDibs(
      ['src/cli/main.ts', 'compare', '--target', `a=${url}`, '--target', `b=${url}`, ...args],
      {},
    );
    assert.equal((await child.ended).code, 0, child.err);
    const { runs, thrownAway, targets } = JSON.parse(child.out) as Comparison;
    assert.deepEqual([targets, runs.length + thrownAway.length], [['a', 'b'], 2]);
    for (const { issued, told } of runs) assert.deepEqual([issued, told], [10, 40]);
    assert.match(readFileSync(file, 'utf8'), /Before and after, side by side/);
    rmSync(file);
    const refused = spawnDibs(['src/cli/main.ts', 'compare', ...nobody], {});
    assert.equal((await refused.ended).code, 1);
    assert.match(refused.err, /^dibs: no(thing)? answer.*http:\/\/127\.0\.0\.1:1/);
  });

  const compare = async (...args: string[]) => {
    const child = spawnDibs(['src/cli/main.ts', 'compare', ...args], {});
    const { code } = await child.ended;
    return { code, out: child.out, err: child.err };
  };

  test('one target alone is refused', async () => {
    const { code, err } = await compare('--target', `a=${url}`);
    assert.deepEqual([code, err], [2, 'dibs: one --target has nothing beside it: give two or more\n']);
  });

  test('a page that cannot be written is told before the crowds come', async () => {
    const nowhere = join(ground.folder, 'no-folder', 'x.html');
    const { code, err } = await compare(...nobody, '--html', nowhere);
    assert.deepEqual([code, err], [2, `dibs: ${nowhere} cannot be written (ENOENT): name another file\n`]);
  });

  test('a disk that is full is one sentence, after the numbers', { skip: noFull }, async () => {
    const crowd = ['--crowd', '20:5@400', '--rounds', '1'];
    const { code, out, err } = await compare(
      '--target',
      `a=${url}`,
      '--target',
      `b=${url}`,
      ...crowd,
      '--json',
      '--html',
      '/dev/full',
    );
    assert.equal(code, 1);
    assert.match(err, /^dibs: \/dev\/full cannot be written \(ENOSPC\): name another file\n$/m);
    assert.deepEqual((JSON.parse(out) as Comparison).targets, ['a', 'b']);
  });
});

describe('naive', () => {
  test('takes everything apart: one append, one query, one entry, one winner at a time', async () => {
    const log = new LogDouble(fakeHost());
    const asked: number[] = [];
    const ledger = {
      async read(_: number, queries: readonly unknown[]) {
        asked.push(queries.length);
        return queries.map((_query, i) => ({ next: i }) as LedgerView);
      },
    };
    const ports = naive({ log, ledger } as unknown as Ports);
    assert.equal(await ports.log.append(requestLog, 0, ['a', 'b', 'c'], ['k', 'k', 'k']), 0);
    assert.deepEqual(
      log.appends.map(({ values }) => values),
      [['a'], ['b'], ['c']],
    );
    const read = async (name: typeof requestLog | typeof changeLog, from: number, max: number) => {
      const { entries, next, end } = await ports.log.read(name, 0, from, max, 0);
      return [entries.map(({ text }) => text).join(' '), next, end];
    };
    assert.deepEqual(
      [await read(requestLog, 0, 500), await read(requestLog, 1, 500)],
      [
        ['a', 1, 3],
        ['b', 2, 3],
      ],
    );
    assert.deepEqual(await read(requestLog, 0, 500), ['a', 1, 3], 'going back reads again');
    const win = (n: number) => `{"type":"won","n":${n}}`;
    await ports.log.append(changeLog, 0, ['mark', win(1), 'mark', win(2), 'mark']);
    assert.equal(log.appends.length, 4, 'the changes of one request are one append');
    assert.deepEqual(await read(changeLog, 0, 1_000), [`mark ${win(1)} mark`, 3, 5]);
    assert.deepEqual(await read(changeLog, 3, 1_000), [`${win(2)} mark`, 5, 5]);
    assert.equal((await ports.ledger.read(0, [1, 2, 3] as never)).length, 3);
    assert.deepEqual(asked, [1, 1, 1]);
  });
});
