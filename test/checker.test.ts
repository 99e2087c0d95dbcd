/** The checker must catch every kind of tampering and flag no history that is as it must be. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { check } from '../src/checker/check.ts';
import type { CheckReport } from '../src/checker/findings.ts';
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
      assert.deepEqual(report.findings, [], `seed ${seed}`);
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
  test('an empty one', () => {
    assert.equal(check([], { entries: [], rows: [], letters: [] }).ok, true);
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
        assert.ok(report.totals[kind] > 0, `seed ${seed}: ${JSON.stringify(report.totals)}`);
        const [found] = report.findings.filter(finding => finding.kind === kind);
        assert.ok(found && found.witnesses.length > 0, `seed ${seed} has no witness`);
      }
    });
  }
});
