/** The short form of `npm run attack`: requests that nobody should send, and task ids that nobody was given. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, describe, suite, test } from 'node:test';
import { forgeAtSealer, forgeOverHttp, forgeries } from '../../attack/forged.ts';
import { fuzz, fuzzFlags, judge, tasksOf } from '../../attack/fuzz.ts';
import type { Shot } from '../../attack/requests.ts';
import { startTarget, type Target } from '../../attack/target.ts';
import type { Task } from '../../src/task.ts';

const byChance = () => randomInt(2 ** 31);

describe('a server of its own', { timeout: 90_000 }, () => {
  let target: Target;
  before(async () => {
    target = await startTarget({ flags: fuzzFlags });
  });
  after(() => target.stop());

  // A thousand by chance may do without a reason that is rare.
  const rare = [200, 201, 202, 400, 401, 403, 404, 405, 409, 410];
  for (const [name, seed, count, reached] of [
    ['known', 20_261_124, 2_000, rare],
    ['chance', byChance(), 1_000, [200, 400, 404]],
  ] as const) {
    test(`answers ${count} requests that nobody should send, seed ${seed}`, async () => {
      const report = await fuzz({ target, seed, count, name });
      assert.deepEqual(report.findings, []);
      assert.equal(report.shots, count);
      assert.ok(report.honest.issued > 0);
      // They get beyond the first look: something was answered, and refused for each reason.
      for (const status of reached) assert.ok(report.statuses[status], `none was answered ${status}`);
    });
  }

  const seed = byChance();
  test(`opens none of 3,000 forged ids, seed ${seed}`, async () => {
    const report = await forgeOverHttp(target.port, await tasksOf(target.url), seed, 3_000);
    assert.deepEqual(report.findings, []);
    assert.ok(report.asked >= 3_000);
  });
});

suite('forged task ids', () => {
  const seed = byChance();
  test(`none of 50,000 opens, seed ${seed}`, () => {
    const report = forgeAtSealer(seed, 50_000);
    assert.deepEqual(report.findings, []);
    assert.equal(report.tried, 50_000);
  });
  test('one that opens is seen, of whichever kind', () => {
    const opened = forgeAtSealer(seed, forgeries.length, sealer => ({ ...sealer, open: () => ({}) as Task }));
    for (const kind of forgeries)
      assert.ok(
        opened.findings.some(finding => finding.includes(`: ${kind} "`)),
        kind,
      );
    const closed = forgeAtSealer(seed, 1, sealer => ({ ...sealer, open: () => undefined }));
    assert.match(closed.findings[0] as string, /^a real one does not open/);
  });
});

test('the judge sees what must not be', () => {
  const judged = (text: string | undefined, after: Shot['after'] = 'answer', bytes = 'GET / HTTP/1.1\r\n\r\n') =>
    judge({ kind: 'request', bytes, after }, text, { statuses: {}, unavailable: {} });
  const head = (status: string, more = '') => `HTTP/1.1 ${status}\r\n${more}content-length: 0\r\n\r\n`;
  const problem = 'content-type: application/problem+json\r\n';
  assert.match(judged(undefined) as string, /still open/);
  assert.match(judged('') as string, /no answer/);
  assert.equal(judged('', 'end'), undefined);
  assert.match(judged(head('500 Internal Server Error', problem)) as string, /answered 500/);
  assert.match(judged(head('501 Not Implemented', problem)) as string, /answered 501/);
  assert.match(
    judged(`${head('200 OK')}${head('500 Internal Server Error', problem)}`, 'end') as string,
    /answered 500/,
  );
  assert.match(judged(head('404 Not Found')) as string, /in another form/);
  assert.equal(judged(head('404 Not Found', problem)), undefined);
  assert.equal(judged(head('503 Service Unavailable', problem)), undefined);
  assert.equal(judged(head('404 Not Found'), 'answer', 'HEAD / HTTP/1.1\r\n\r\n'), undefined);
});
