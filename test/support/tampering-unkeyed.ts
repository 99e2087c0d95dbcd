/** Ways to tamper with what is told to who presses one coupon several times without a key. */
import type { EntryLine } from '../../src/checker/dump.ts';
import type { HistoryLine, Issue, Told } from '../../src/checker/history.ts';
import type { Random, Sample } from './sale-history.ts';
import { allOf, endOf, of, one, refuse, type Tampering } from './tampering-parts.ts';

type Press = Issue & { to: number };

interface Presses {
  /** In the order in which they were begun; all were accepted. */
  calls: Press[];
  entries: EntryLine[];
}

const users = ['twice', 'thrice'];
const taskOf = ({ body }: Issue): string => body?.taskId as string;

/** Of whom it is certain that each of the calls left one entry, and who won. */
function presses({ dump, history }: Sample): Presses[] {
  const issues = history.filter((line): line is Press => line.op === 'issue');
  return users.flatMap(user => {
    const calls = issues.filter(line => line.user === user).toSorted((a, b) => a.from - b.from);
    const left = calls.filter(({ status = 503 }) => status === 202 || status === 503);
    const entries = dump.entries.filter(({ text }) => text.includes(`"userId":"${user}"`));
    const won = dump.rows.some(row => row.user === user);
    const isCertain = left.length > 1 && left.every(({ status }) => status === 202) && left.length === entries.length;
    return won && isCertain ? [{ calls: left, entries }] : [];
  });
}

const overlap = ({ calls: [a, b] }: Presses): boolean => (a as Press).to >= (b as Press).from;

/** The status says it once more, so that it is told for certain. */
function tell(sample: Sample, call: Press, told: Told): void {
  const body = { state: 'done', ...told };
  for (const each of allOf(sample, taskOf(call))) each.body = body;
  const from = endOf(sample);
  sample.history.push({ op: 'task', task: taskOf(call), from, to: from + 1, status: 200, body });
}

const slotOf = ({ dump }: Sample, { calls: [call] }: Presses): number =>
  dump.rows.find(({ user }) => user === call?.user)?.slot as number;

/** Each call is told so in its turn; the last word is of all further ones. */
const toldAll = (isSo: (presses: Presses) => boolean, outcomes: string[]) => (sample: Sample, random: Random) =>
  one(presses(sample).filter(isSo), random, some => {
    const slot = slotOf(sample, some);
    for (const [i, call] of some.calls.entries())
      tell(sample, call, { outcome: outcomes[Math.min(i, outcomes.length - 1)] as string, slot });
  });

const apart = (some: Presses): boolean => !overlap(some);
const isOf =
  (task: string) =>
  (line: HistoryLine): boolean =>
    (line.op === 'frame' || line.op === 'task') && line.task === task;

export const unkeyed: Record<string, Tampering> = {
  'twice without a key, and the second is told that it won': of(
    'contradicted',
    toldAll(apart, ['duplicated', 'issued', 'duplicated']),
  ),
  'twice without a key, and both are told that they won': of('contradicted', toldAll(apart, ['issued'])),
  'twice without a key, and nobody is told of the win': of('contradicted', toldAll(apart, ['duplicated'])),
  'at once without a key, and both are told that they won': of('contradicted', toldAll(overlap, ['issued'])),
  'at once without a key, and nobody is told of the win': of('contradicted', toldAll(overlap, ['duplicated'])),
  'at once without a key, one is reserved, and the others are told that they won': of(
    'contradicted',
    (sample, random) =>
      one(presses(sample).filter(overlap), random, some => {
        const [a, ...rest] = some.calls as [Press, ...Press[]];
        for (const call of rest) tell(sample, call, { outcome: 'issued', slot: slotOf(sample, some) });
        const from = endOf(sample);
        sample.history = sample.history.filter(line => !isOf(taskOf(a))(line));
        sample.history.push({
          op: 'task',
          task: taskOf(a),
          from,
          to: from + 1,
          status: 200,
          body: { state: 'reserved' },
        });
      }),
  ),
  'a duplicate at the door before the first press, without a key': of('contradicted', (sample, random) =>
    one(presses(sample), random, some => {
      const [{ coupon, from, user }] = some.calls as [Press];
      refuse(sample, { from: from - 1, coupon, user }, 409, { code: 'DUPLICATED_COUPON', slot: slotOf(sample, some) });
    }),
  ),
  'answered at once without a key': of('contradicted', (sample, random) =>
    one(presses(sample), random, some => {
      const [{ coupon, user }] = some.calls as [Press];
      const body = { taskId: 'at once', state: 'done', outcome: 'issued', slot: slotOf(sample, some) };
      refuse(sample, { from: endOf(sample), coupon, user }, 200, body);
    }),
  ),
};
