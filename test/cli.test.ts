import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { distributionOf, histogram } from '../src/cli/chart.ts';
import { parseDiscount, parseTime } from '../src/cli/coupon.ts';
import type { RushReport } from '../src/cli/rush.ts';
import { duration, table } from '../src/cli/terminal.ts';
import type { Coupon } from '../src/client/index.ts';
import { type Fake, json, problem, startFake } from './support/fake-server.ts';

const main = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));

let fake: Fake;
beforeEach(async () => {
  fake = await startFake();
});
afterEach(() => fake.close());

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

function start(args: string[], env: Record<string, string> = {}): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [main, ...args], {
    env: { PATH: process.env.PATH ?? '', DIBS_URL: fake.url, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', text => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', text => {
    err += text;
  });
  return { child, ended: once(child, 'close').then(([code]) => ({ code, out, err })) };
}

const dibs = (...args: string[]) => start(args).ended;

describe('errors', { timeout: 120_000 }, () => {
  test('are one sentence with the remedy when nothing answers', async () => {
    const gone = await startFake();
    await gone.close();
    const remedy = 'start it with `npm start`, or name another server with --url';
    const commands = [['coupon', 'list'], ['claim', 'c', '--user', 'ann'], ['rush', 'c'], ['verify'], ['lag']];
    const ends = commands.map(async args => ({ args, ...(await dibs(...args, '--url', gone.url)) }));
    for (const { args, code, err, out } of await Promise.all(ends)) {
      assert.equal(err, `dibs: nothing answers at ${gone.url}: ${remedy}\n`, args.join(' '));
      assert.deepEqual([code, out], [1, '']);
    }
  });

  test('name the remedy for what the server refuses', async () => {
    const unknown = await dibs('coupon', 'show', 'nope');
    assert.equal(
      unknown.err,
      'dibs: there is no coupon "nope" (UNKNOWN_COUPON): `dibs coupon list` shows those that there are\n',
    );
    assert.equal(unknown.code, 1);
    fake.intercept = (_, response) => problem(response, 401, 'UNAUTHENTICATED');
    assert.match((await dibs('lag')).err, /^dibs: .*--token or DIBS_TOKEN\n$/);
    fake.intercept = (_, response) => {
      response.end('<html>');
      return true;
    };
    assert.match((await dibs('lag')).err, /not as dibs does: check --url or DIBS_URL\n$/);
  });

  test('an address with a password is refused, and the password is not repeated', async () => {
    const refused = 'write it like http://127.0.0.1:8080, without user, password and query';
    const secret = fake.url.replace('//', '//u:hidden@');
    const ends = [
      dibs('lag', '--url', secret),
      dibs('lag', '--url', 'u:hidden@h:1'),
      start(['lag'], { DIBS_URL: secret }).ended,
    ];
    for (const { code, err } of await Promise.all(ends)) {
      assert.deepEqual([code, err], [2, `dibs: --url (DIBS_URL) is no address: ${refused}\n`]);
    }
  });

  test('of usage end with 2, help with 0', async () => {
    const wrong = [
      ['nope'],
      ['claim', 'c'],
      ...['0', '1,5', '0x10', '1e3', ' 5'].map(users => ['rush', 'c', '--users', users]),
      ['coupon', 'create', 'x', '--stock', ' '],
      ['coupon', 'create', 'x'],
      ...['..', '.', 'A', 'a/b', ''].map(id => ['coupon', 'show', id]),
      ['lag', '--url', 'x'],
      ...['', ' ', 'k'.repeat(65)].map(key => ['claim', 'c', '--user', 'ann', '--key', key]),
      ['coupon', 'add-stock', 'c', '5', '--key', ''],
    ];
    for (const { args, code, err } of await Promise.all(
      wrong.map(async args => ({ args, ...(await dibs(...args)) })),
    )) {
      assert.equal(code, 2, args.join(' '));
      assert.match(err, /^dibs: /);
    }
    const help = await dibs('--help');
    assert.equal(help.code, 0);
    assert.match(help.out, /Exit codes: 0 .*1 .*2 /s);
    for (const command of ['serve', 'config', 'dump']) {
      assert.match((await dibs('help', command)).out, /--port <value>/, command);
    }
  });
});

describe('config', { timeout: 120_000 }, () => {
  test('shows what is in force and hides secrets; a bad value is refused in one sentence', async () => {
    const env = { DIBS_SECRET: 'a-secret-of-twenty', DIBS_PORT: '1' };
    const { code, out } = await start(['config', '--json', '--port', '8099'], env).ended;
    assert.equal(code, 0);
    assert.equal(JSON.parse(out).port, '8099');
    assert.ok(!out.includes(env.DIBS_SECRET));
    const bad = await start(['serve', '--port', '99999']).ended;
    assert.equal(bad.code, 2);
    assert.match(bad.err, /^dibs: --port 99999 \(DIBS_PORT\) is not .*\n$/);
  });
});

describe('coupon', { timeout: 120_000 }, () => {
  test('create, list, show, add-stock, close', async () => {
    const made = await dibs(
      'coupon',
      'create',
      'autumn',
      '--stock',
      '12,000',
      '--discount',
      '15%',
      '--opens-at',
      '2026-12-24T09:00Z',
    );
    assert.deepEqual([made.code, made.out], [0, 'autumn is ready with 12,000 units: open\n']);
    assert.deepEqual(JSON.parse(fake.seen.at(-1)?.body ?? ''), {
      couponId: 'autumn',
      name: 'autumn',
      stock: 12_000,
      opensAt: '2026-12-24T09:00:00.000Z',
      discount: { type: 'percent', value: 15 },
    });
    const list = await dibs('coupon', 'list');
    assert.match(list.out, /^coupon +state +stock +issued +remaining/);
    assert.match(list.out, /^autumn +open +12,000 +0 +12,000/m);
    const listed: Coupon[] = JSON.parse((await dibs('coupon', 'list', '--json')).out);
    assert.deepEqual(
      listed.map(c => c.couponId),
      ['c', 'autumn'],
    );
    assert.match((await dibs('coupon', 'show', 'autumn')).out, /^remaining +12,000$/m);
    assert.match((await dibs('coupon', 'add-stock', 'autumn', '5')).out, /12,005 units now/);
    assert.equal((await dibs('coupon', 'close', 'autumn')).code, 0);
  });

  test('list says when it shows only the newest', async () => {
    const newest = /^the newest 1,000; an older one: `dibs coupon show ID`$/m;
    for (let i = fake.coupons.size; i < 999; i++) fake.coupons.set(`c${i}`, { couponId: `c${i}`, stock: 1, issued: 0 });
    assert.doesNotMatch((await dibs('coupon', 'list')).out, newest);
    fake.coupons.set('one-more', { couponId: 'one-more', stock: 1, issued: 0 });
    assert.match((await dibs('coupon', 'list')).out, newest);
    assert.equal(JSON.parse((await dibs('coupon', 'list', '--json')).out).length, 1_000);
  });

  test('reads times and discounts, and refuses the rest in a sentence', () => {
    const { TZ = '' } = process.env;
    process.env.TZ = 'Asia/Seoul';
    for (const local of ['2026-01-01', '2026-01-01T00:00']) assert.equal(parseTime(local), '2025-12-31T15:00:00.000Z');
    process.env.TZ = TZ;
    assert.ok(Math.abs(Date.parse(parseTime('+10m')) - Date.now() - 600_000) < 5_000);
    assert.equal(parseTime('2026-01-01T09:00+09:00'), '2026-01-01T00:00:00.000Z');
    assert.equal(parseTime('2028-02-29T00:00:00.5Z'), '2028-02-29T00:00:00.500Z');
    const none = ['soon', '+10', '10', '1', '12', '2027', '2027-02-30', '2027-02-30T09:00:00Z', '2027-13-01'];
    for (const text of [...none, '2027-01-01T25:00Z', '2027-01-01 09:00', '1969-12-31', '']) {
      assert.throws(() => parseTime(text), /is no time: write/, text);
    }
    assert.deepEqual(parseDiscount('3000'), { type: 'fixed', value: 3_000 });
    assert.throws(() => parseDiscount('much'), /neither like 15% nor/);
  });
});

describe('claim', { timeout: 120_000 }, () => {
  test('shows the place in the line and ends with 0 when issued', async () => {
    fake.held = true;
    const { ended } = start(['claim', 'c', '--user', 'ann']);
    await fake.until(() => fake.streamsOpen === 1);
    fake.release();
    const { code, err, out } = await ended;
    assert.equal(code, 0);
    assert.match(err, /^in the line, at most 1 ahead\n/);
    assert.match(out, /^issued: slot 1, coupon c\.1 \(\d+ ms\)\n$/);
  });

  test('ends with 1 otherwise, and prints JSON when asked', async () => {
    await dibs('claim', 'c', '--user', 'ann');
    const again = await dibs('claim', 'c', '--user', 'ann', '--json');
    assert.equal(again.code, 1);
    assert.equal(again.err, '');
    assert.equal(JSON.parse(again.out).outcome, 'duplicated');
    fake.coupons.set('none', { couponId: 'none', stock: 0, issued: 0 });
    const sold = await dibs('claim', 'none', '--user', 'ann');
    assert.deepEqual([sold.code, sold.out.slice(0, 9)], [1, 'sold out:']);
  });

  test('stopped by Ctrl-C says how to ask again', async () => {
    fake.held = true;
    const { child, ended } = start(['claim', 'c', '--user', 'ann', '--key', 'k1']);
    await fake.until(() => fake.streamsOpen === 1);
    child.kill('SIGINT');
    const { code, err } = await ended;
    assert.equal(code, 130);
    assert.match(err, /dibs: stopped; the request stands, ask again with --key k1\n$/);
  });

  test('waits no longer than --wait for a server that hangs', async () => {
    fake.intercept = () => true;
    const { code, err } = await dibs('claim', 'c', '--user', 'ann', '--wait', '1');
    assert.deepEqual([code, fake.seen.map(({ method }) => method)], [1, ['GET']]);
    assert.match(err, /^dibs: no answer from .* \(no answer within 1000 ms\): check --url, and the server's log\n$/);
  });

  test('says that the request stands only once it was accepted', async () => {
    fake.intercept = seen => seen.path.endsWith('/issue');
    const unknown = 'whether the request stands is not known, ask again with --key k1';
    const { child, ended } = start(['claim', 'c', '--user', 'ann', '--key', 'k1']);
    await fake.until(() => fake.seen.some(({ path }) => path.endsWith('/issue')));
    child.kill('SIGINT');
    assert.deepEqual(await ended, { code: 130, out: '', err: `dibs: stopped; ${unknown}\n` });
    const late = await dibs('claim', 'c', '--user', 'ann', '--key', 'k1', '--wait', '1');
    assert.deepEqual(late, { code: 1, out: '', err: `dibs: no outcome within 1 s; ${unknown}\n` });
  });
});

describe('rush', { timeout: 120_000 }, () => {
  const rush = async (...args: string[]) => {
    const ended = await dibs('rush', 'c', '--users', '300', '--connections', '20', '--json', ...args);
    return { ...ended, report: JSON.parse(ended.out || '{}') as RushReport };
  };

  test('reports a crowd that was served as it must be, and ends with 0', async () => {
    const { code, report } = await rush('--streams', '5');
    assert.equal(code, 0);
    assert.deepEqual(
      [report.accepted, report.issued, report.inactive, report.unanswered, report.ok],
      [300, 3, { sold_out: 297 }, 0, true],
    );
    assert.equal(report.acceptedMs?.count, 300);
    assert.equal(report.pushedMs?.count, 300);
    assert.ok(report.checks.every(c => c.ok) && report.checks.length === 7);
    const users = new Set(fake.seen.filter(s => s.path.endsWith('/issue')).map(s => s.headers['x-user-id']));
    assert.equal(users.size, 300);
  });

  test('prints a report for people', async () => {
    const { code, err, out } = await dibs('rush', 'c', '--users', '50', '--rate', '2000');
    assert.deepEqual([code, err.includes('\x1b'), out.includes('\x1b')], [0, false, false]);
    assert.match(out, /issued +3$/m);
    assert.match(out, /inactive, sold out +47$/m);
    assert.match(out, /press to the pushed outcome +p50 .* p90 .* p99 .* max /);
    assert.match(out, /█/);
    assert.match(out, /^✓ the log and the rows agree/m);
  });

  test('ends with 1 when the log and the rows disagree', async () => {
    const problems = [{ kind: 'ghost', detail: 'a row nobody asked for', slot: 2 }];
    const coupons = [{ couponId: 'c', stock: 3, winners: 2, rows: 3, problems }];
    fake.admin['admin/verify?couponId=c'] = { ok: false, coupons, checkedEntries: 300, unanswered: 0 };
    const { code, report } = await rush();
    assert.equal(code, 1);
    assert.match(report.checks.find(c => !c.ok)?.detail ?? '', /first ghost: a row nobody asked for/);
    const verified = await dibs('verify', 'c');
    assert.equal(verified.code, 1);
    assert.match(verified.out, /^ghost {2}c: a row nobody asked for \(slot 2\)$/m);
  });

  test('ends with 0 where the server offers no verify, and says that it was not checked', async () => {
    fake.intercept = ({ path }, response) =>
      path.startsWith('/admin/verify') && problem(response, 501, 'NOT_OFFERED', { detail: 'what was read is gone' });
    const { code, report } = await rush();
    assert.deepEqual([code, report.ok], [0, true]);
    assert.deepEqual(
      report.checks.filter(c => c.ok !== true).map(c => [c.ok, c.detail]),
      [[null, 'could not be checked: what was read is gone (NOT_OFFERED)']],
    );
    assert.match(
      (await dibs('rush', 'c', '--users', '50')).out,
      /^– the log and the rows agree +could not be checked/m,
    );
  });

  test('ends with 1 when somebody is never answered', async () => {
    fake.intercept = (seen, response) => {
      if (!/^\/tasks\/task-7(\/|$)/.test(seen.path)) return false;
      if (seen.path.endsWith('/events'))
        response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
      return true;
    };
    const { code, report } = await rush('--timeout', '1');
    assert.equal(code, 1);
    assert.equal(report.unanswered, 1);
    assert.deepEqual(
      report.checks.filter(c => !c.ok).map(c => c.name),
      ['everybody was answered'],
    );
  });

  test('counts refusals by code', async () => {
    let n = 0;
    fake.intercept = (seen, response) => {
      if (!seen.path.endsWith('/issue') || n++ % 2 === 0) return false;
      return problem(response, 429, 'TOO_MANY_REQUESTS', {}, { 'retry-after': '600' });
    };
    const { code, report } = await rush();
    assert.deepEqual(report.refusedAtDoor, { TOO_MANY_REQUESTS: 150 });
    assert.deepEqual([code, report.accepted, report.issued], [0, 150, 3]);
  });

  test('ends with 1 when nobody could press', async () => {
    for (const [status, code] of [
      [401, 'UNAUTHENTICATED'],
      [403, 'FORBIDDEN'],
      [400, 'MALFORMED_REQUEST'],
      [404, undefined],
    ] as const) {
      fake.intercept = ({ path }, response) =>
        path.endsWith('/issue') && (code === undefined ? json(response, status, {}) : problem(response, status, code));
      const ended = await rush();
      const failed = ended.report.checks.filter(c => !c.ok);
      assert.deepEqual([ended.code, failed.map(c => c.name)], [1, ['everybody could press']], code);
      assert.match(failed[0]?.detail ?? '', new RegExp(`^300 ${code ?? 'HTTP_404'}(: --jwt-secret signs|$)`));
    }
  });

  test('stopped by Ctrl-C prints what there was and ends with 130', async () => {
    fake.held = true;
    const { child, ended } = start(['rush', 'c', '--users', '100000', '--rate', '200', '--json']);
    await fake.until(() => fake.streamsOpen > 5);
    child.kill('SIGINT');
    const { code, out } = await ended;
    const report: RushReport = JSON.parse(out);
    assert.equal(code, 130);
    assert.equal(report.ok, null);
    assert.ok(report.pressed > 5 && report.unanswered === report.pressed);
  });
});

describe('the operator', { timeout: 120_000 }, () => {
  test('sees lag; a stopped stage ends with 1', async () => {
    const stage = {
      stage: 'reserve',
      log: 'coupon-issued',
      partition: 0,
      next: 1_000,
      end: 1_500,
      lagEntries: 500,
      lagMs: 1_234,
    };
    fake.admin['admin/lag'] = { stages: [{ ...stage, state: 'running' }] };
    const fine = await dibs('lag');
    assert.equal(fine.code, 0);
    assert.match(fine.out, /^reserve +coupon-issued +0 +1,000 +1,500 +500 +1\.23 s +running$/m);
    fake.admin['admin/lag'] = { stages: [{ ...stage, state: 'stopped', error: 'a hole' }] };
    const stopped = await dibs('lag');
    assert.deepEqual([stopped.code, /stopped: a hole$/m.test(stopped.out)], [1, true]);
    fake.admin['admin/lag'] = { stages: [] };
    assert.match((await dibs('lag')).out, /^this process has no partition: its role is api alone, or others have/);
  });

  test('sees dead letters without being steered by them, and redrives', async () => {
    const item = {
      log: 'coupon-issued',
      partition: 0,
      offset: 4,
      at: '2026-01-01T00:00:00Z',
      redrivable: false,
      bytes: '',
    };
    fake.admin['admin/dead-letters'] = { items: [{ ...item, reason: 'malformed \x1b[2J' }] };
    const list = await dibs('dead-letters', 'list');
    assert.match(list.out, /malformed \\u001b\[2J$/m);
    assert.equal(JSON.parse((await dibs('dead-letters', 'list', '--json')).out).length, 1);
    fake.intercept = (seen, response) => seen.method === 'POST' && json(response, 200, { redriven: 2 });
    assert.equal((await dibs('dead-letters', 'redrive', '--coupon', 'c')).out, '2 dead letters put back\n');
    assert.equal(fake.seen.at(-1)?.body, '{"couponId":"c"}');
  });
});

describe('the look', { timeout: 120_000 }, () => {
  test('of tables, times and charts', () => {
    const rows = [
      { a: 'x', n: 1_000 },
      { a: 'long', n: 2 },
    ];
    assert.equal(
      table(rows, [
        { head: 'a', of: r => r.a },
        { head: 'n', of: r => r.n },
      ]),
      'a         n\nx     1,000\nlong      2',
    );
    assert.deepEqual([0.42, 9.99, 42, 1_234, 42_000, 61_000, 7_260_000].map(duration), [
      '0.4 ms',
      '10.0 ms',
      '42 ms',
      '1.23 s',
      '42.0 s',
      '1 min 1 s',
      '2 h 1 min',
    ]);
    assert.deepEqual([999.6, 59_949, 59_999, 119_600, 3_599_400, 3_599_700, 7_199_999].map(duration), [
      '1.00 s',
      '59.9 s',
      '1 min 0 s',
      '2 min 0 s',
      '59 min 59 s',
      '1 h 0 min',
      '2 h 0 min',
    ]);
    const times = Array.from({ length: 100 }, (_, i) => i + 1);
    assert.deepEqual(distributionOf(times), { count: 100, p50: 50, p90: 90, p99: 99, max: 100 });
    const chart = histogram('t', times);
    assert.equal(chart[0], 't   p50 50 ms   p90 90 ms   p99 99 ms   max 100 ms');
    assert.match(chart.at(-1) ?? '', /^ {2}≤ 100 ms {2}█{32} {2}50$/);
    assert.equal(chart.length, 8);
  });
});
