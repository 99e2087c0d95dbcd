/** Ways to tamper with a clean history or with what was kept, each with what a checker must call it. */
import type { EntryLine, RowLine } from '../../src/checker/dump.ts';
import type { FindingKind } from '../../src/checker/findings.ts';
import type { Frame, Issue, Told } from '../../src/checker/history.ts';
import { encodeRequest } from '../../src/entry.ts';
import { keyHash } from '../../src/task.ts';
import type { Random, Sample } from './sale-history.ts';

export interface Tampering {
  kind: FindingKind;
  /** Changes the sample; false when it has nothing of the sort. */
  tamper(sample: Sample, random: Random): boolean;
}

const of = (kind: FindingKind, tamper: Tampering['tamper']): Tampering => ({ kind, tamper });

/** A request whose one key has one accepted call and one entry. */
interface Known {
  call: Issue & { to: number };
  entry: EntryLine;
}

const accepted = ({ history }: Sample): (Issue & { to: number })[] =>
  history.filter((line): line is Issue & { to: number } => line.op === 'issue' && line.status === 202);

function known(sample: Sample): Known[] {
  const calls = Map.groupBy(accepted(sample), ({ coupon, user, key }) => `${coupon} ${user} ${key}`);
  const texts = Map.groupBy(sample.dump.entries, ({ text }) => text);
  return [...calls.values()].flatMap(([call, ...more]) => {
    if (!call || call.key === undefined || more.length > 0) return [];
    const { coupon, user } = call;
    const found = texts.get(encodeRequest(coupon as never, user as never, keyHash(`${coupon} ${user}`, call.key)));
    return found?.length === 1 ? [{ call, entry: found[0] as EntryLine }] : [];
  });
}

const frames = ({ history }: Sample): Frame[] => history.filter(line => line.op === 'frame');
const outcomes = (sample: Sample): Frame[] => frames(sample).filter(({ event }) => event === 'outcome');
const issued = (sample: Sample): Frame[] => outcomes(sample).filter(({ body }) => body.outcome === 'issued');
const endOf = ({ history }: Sample): number =>
  Math.max(...history.map(line => ('at' in line ? line.at : (line.to ?? 0)))) + 1;

/** One of them is taken, if there is any. */
function one<T>(from: readonly T[], random: Random, use: (item: T) => void): boolean {
  if (from.length === 0) return false;
  use(random.pick(from));
  return true;
}

const remove = <T>(from: T[], item: T): void => void from.splice(from.indexOf(item), 1);

function refuse(sample: Sample, call: Omit<Issue, 'op' | 'to'> & { to?: number }, status: number, body: Told): void {
  sample.history.push({ op: 'issue', to: call.from + 0.5, status, body, ...call });
}

/** Winners of a coupon by slot; two neighbours. */
function neighbours(sample: Sample, random: Random): [RowLine, RowLine] | undefined {
  const rows = random.pick(sample.dump.rows);
  const all = sample.dump.rows.filter(({ coupon }) => coupon === rows?.coupon).sort((a, b) => a.slot - b.slot);
  const i = random.int(0, all.length - 2);
  const [a, b] = [all[i], all[i + 1]];
  return a && b ? [a, b] : undefined;
}

/** The log without its entries from this one on; what was made of them is gone too. */
function cut({ dump }: Sample, { partition, offset }: EntryLine): void {
  const gone = new Set(dump.entries.filter(e => e.partition === partition && e.offset >= offset).map(e => e.text));
  const isGone = (user: string | null, key: string | null) =>
    [...gone].some(text => text.includes(`"userId":"${user}","key":"${key}"`));
  dump.entries = dump.entries.filter(e => e.partition !== partition || e.offset < offset);
  dump.rows = dump.rows.filter(row => !isGone(row.user, row.key));
  dump.letters = dump.letters.filter(l =>
    l.slot === null ? l.offset < offset || l.partition !== partition : !isGone(l.user, l.key),
  );
}

export const tamperings: Record<string, Tampering> = {
  'an accepted entry is taken out of the log': of('lost', (sample, random) =>
    one(known(sample), random, ({ entry }) => {
      remove(sample.dump.entries, entry);
      for (const e of sample.dump.entries) if (e.partition === entry.partition && e.offset > entry.offset) e.offset--;
    }),
  ),
  'the tail of the log is cut off': of('lost', (sample, random) =>
    one(known(sample), random, ({ entry }) => cut(sample, entry)),
  ),
  'a hole in the log': of('lost', (sample, random) =>
    one(sample.dump.entries.slice(0, -1), random, entry => remove(sample.dump.entries, entry)),
  ),
  'a winner has no row': of('lost', ({ dump }, random) => one(dump.rows, random, row => remove(dump.rows, row))),
  'a dead letter is gone': of('lost', ({ dump }, random) =>
    one(dump.letters, random, letter => remove(dump.letters, letter)),
  ),
  'a restock is not in the log': of('lost', sample => {
    const done = sample.history.find(line => line.op === 'stock' && line.status === 200);
    const entry = sample.dump.entries.find(
      ({ text }) => done?.op === 'stock' && text.includes(`"stock_added","couponId":"${done.coupon}"`),
    );
    if (entry) entry.text = '{"v":1,"type":"closed","couponId":"another"}';
    return entry !== undefined;
  }),
  'a row for a loser': of('unexpected', (sample, random) => {
    const won = new Set([...sample.dump.rows, ...sample.dump.letters].map(({ coupon, user }) => `${coupon} ${user}`));
    const losers = known(sample).filter(({ call }) => !won.has(`${call.coupon} ${call.user}`));
    return one(losers, random, ({ call, entry }) => {
      const [at, slot] = [entry.at, 1 + sample.dump.rows.filter(({ coupon }) => coupon === call.coupon).length];
      const key = keyHash(`${call.coupon} ${call.user}`, call.key as string);
      sample.dump.rows.push({
        ...{ kind: 'row', coupon: call.coupon, user: call.user, slot, key, at },
        offset: entry.offset,
      });
    });
  }),
  'a row for a stranger': of('unexpected', ({ dump }, random) =>
    one(dump.rows, random, row => void dump.rows.push({ ...row, user: 'stranger', slot: 99, offset: 9_999 })),
  ),
  'an entry that nobody asked for': of('unexpected', ({ dump }, random) =>
    one(dump.entries, random, ({ partition }) => {
      const all = dump.entries.filter(entry => entry.partition === partition);
      const { at, offset } = all.at(-1) as EntryLine;
      const text = encodeRequest('c0' as never, 'stranger' as never, '00000000000000ff' as never);
      dump.entries.push({ kind: 'entry', partition, offset: offset + 1, at, text });
    }),
  ),
  'an entry that was surely not accepted': of('unexpected', (sample, random) =>
    one(
      known(sample).filter(({ call }) => isAlone(sample, call)),
      random,
      ({ call }) => Object.assign(call, { status: 503, body: { code: 'NOT_ACCEPTED' } }),
    ),
  ),
  'a dead letter of an entry that can be read': of('unexpected', ({ dump }, random) =>
    one(
      dump.entries.filter(({ text }) => text.startsWith('{')),
      random,
      ({ partition, offset }) => {
        const nobody = { coupon: null, user: null, slot: null, key: null };
        dump.letters.push({ kind: 'letter', partition, offset, ...nobody, reason: 'malformed: not JSON' });
      },
    ),
  ),
  'a frame of a task that nobody was given': of('unexpected', (sample, random) =>
    one(frames(sample), random, frame => void sample.history.push({ ...frame, stream: 9_999, task: 'made-up' })),
  ),
  'one user has two rows': of('duplicated', ({ dump }, random) =>
    one(dump.rows, random, row => void dump.rows.push({ ...row, slot: row.slot + 50 })),
  ),
  'one slot has two rows': of('duplicated', (sample, random) => {
    const [a, b] = neighbours(sample, random) ?? [];
    if (a && b) b.slot = a.slot;
    return b !== undefined;
  }),
  'two users are told one slot': of('duplicated', (sample, random) => {
    const coupons = new Map(accepted(sample).map(({ body, coupon, user }) => [body?.taskId, { coupon, user }]));
    const frame = random.pick(issued(sample));
    const mine = frame && coupons.get(frame.task);
    const other = issued(sample).find(({ task }) => {
      const theirs = coupons.get(task);
      return theirs?.coupon === mine?.coupon && theirs?.user !== mine?.user;
    });
    if (frame && other)
      for (const each of allOf(sample, frame.task)) each.body = { ...each.body, slot: other.body.slot as number };
    return other !== undefined;
  }),
  'a winner is kept as a row and as a dead letter': of('duplicated', ({ dump }, random) =>
    one(
      dump.rows,
      random,
      ({ coupon, user, slot, offset, key }) =>
        void dump.letters.push({
          kind: 'letter',
          partition: 0,
          coupon,
          user,
          slot,
          offset,
          key,
          reason: 'refused_by_store: no',
        }),
    ),
  ),
  'two winners have each other’s slots': of('out_of_order', (sample, random) => {
    const [a, b] = neighbours(sample, random) ?? [];
    if (a && b) [a.slot, b.slot] = [b.slot, a.slot];
    return b !== undefined;
  }),
  'a later request stands before an earlier one': of('out_of_order', (sample, random) => {
    const all = known(sample);
    const pairs = all.flatMap(first =>
      all.flatMap(second =>
        first.call.to < second.call.from && first.entry.partition === second.entry.partition
          ? [[first, second] as const]
          : [],
      ),
    );
    return one(pairs, random, ([first, second]) => {
      [first.entry.text, second.entry.text] = [second.entry.text, first.entry.text];
    });
  }),
  'a stream goes back': of('out_of_order', (sample, random) =>
    one(
      frames(sample).filter(({ body }) => body.state === 'reserved'),
      random,
      frame => {
        const at = sample.history.indexOf(frame) + 1;
        sample.history.splice(at, 0, { ...frame, event: 'progress', body: { state: 'accepted', ahead: 0 } });
      },
    ),
  ),
  'a stream goes on after the outcome': of('out_of_order', (sample, random) =>
    one(outcomes(sample), random, frame => void sample.history.push({ ...frame, at: endOf(sample) })),
  ),
  'the line before somebody grows': of('out_of_order', (sample, random) =>
    one(
      frames(sample).filter(({ body }) => body.ahead !== undefined),
      random,
      frame => {
        const at = sample.history.indexOf(frame) + 1;
        sample.history.splice(at, 0, { ...frame, body: { state: 'accepted', ahead: (frame.body.ahead ?? 0) + 1 } });
      },
    ),
  ),
  'a winner is told that it lost': of('contradicted', (sample, random) =>
    one(issued(sample), random, frame => {
      for (const each of allOf(sample, frame.task))
        each.body = { state: 'done', outcome: 'inactive', reason: 'sold_out' };
    }),
  ),
  'a loser is told that it won': of('contradicted', (sample, random) =>
    one(
      outcomes(sample).filter(({ body }) => body.outcome === 'inactive'),
      random,
      frame => {
        for (const each of allOf(sample, frame.task)) each.body = { state: 'done', outcome: 'issued', slot: 1 };
      },
    ),
  ),
  'a loser is told to be reserved': of('contradicted', (sample, random) =>
    one(
      outcomes(sample).filter(({ body }) => body.outcome === 'inactive'),
      random,
      frame => {
        sample.history.splice(sample.history.indexOf(frame), 0, {
          ...frame,
          event: 'progress',
          body: { state: 'reserved' },
        });
      },
    ),
  ),
  'the status says another slot than the stream': of('contradicted', (sample, random) =>
    one(issued(sample), random, ({ task, body }) => {
      const from = endOf(sample);
      sample.history.push({
        op: 'task',
        from,
        to: from + 1,
        status: 200,
        task,
        body: { ...body, slot: (body.slot ?? 0) + 1 },
      });
    }),
  ),
  'a task that was given out is unknown': of('contradicted', (sample, random) =>
    one(accepted(sample), random, ({ body }) => {
      const from = endOf(sample);
      const task = body?.taskId as string;
      sample.history.push({ op: 'task', from, to: from + 1, status: 404, task, body: { code: 'UNKNOWN_TASK' } });
    }),
  ),
  'sold out at the door before it was': of('contradicted', sample => {
    refuse(sample, { from: 3.5, coupon: 'c0', user: 'early', key: 'e' }, 410, {
      code: 'INACTIVE_COUPON',
      reason: 'sold_out',
    });
    return true;
  }),
  'not open at the door after somebody won': of('contradicted', (sample, random) =>
    one(sample.dump.rows, random, ({ coupon }) => {
      const body = { code: 'INACTIVE_COUPON', reason: 'not_open' };
      refuse(sample, { from: endOf(sample), coupon, user: 'late', key: 'l' }, 403, body);
    }),
  ),
  'closed at the door before it was': of('contradicted', sample => {
    refuse(sample, { from: 3.5, coupon: 'c0', user: 'early', key: 'e' }, 410, {
      code: 'INACTIVE_COUPON',
      reason: 'closed',
    });
    return true;
  }),
  'a duplicate at the door who holds nothing': of('contradicted', sample => {
    const body = { code: 'DUPLICATED_COUPON', slot: 1 };
    refuse(sample, { from: endOf(sample), coupon: 'c0', user: 'nobody', key: 'n' }, 409, body);
    return true;
  }),
  'the key that won is refused': of('contradicted', (sample, random) => {
    const won = new Set(sample.dump.rows.map(({ coupon, user, offset }) => `${coupon} ${user} ${offset}`));
    const winners = known(sample).filter(({ call, entry }) => won.has(`${call.coupon} ${call.user} ${entry.offset}`));
    return one(winners, random, ({ call: { coupon, user, key } }) => {
      const body = { code: 'INACTIVE_COUPON', reason: 'sold_out' };
      refuse(sample, { from: endOf(sample), coupon, user, key: key as string }, 410, body);
    });
  }),
  'a row of another request': of('contradicted', ({ dump }, random) =>
    one(dump.rows, random, row => {
      const change = [{ offset: row.offset + 1 }, { key: '0123456789abcdef' }, { at: row.at + 1 }];
      Object.assign(row, random.pick(change));
    }),
  ),
  'a coupon opened with other terms': of('contradicted', (sample, random) =>
    one(
      sample.history.filter(line => line.op === 'create'),
      random,
      create => {
        create.stock++;
      },
    ),
  ),
  'nobody says how it ended': of('unanswered', (sample, random) =>
    one(issued(sample), random, ({ task }) => {
      const isEnd = (line: Sample['history'][number]) =>
        (line.op === 'frame' || line.op === 'task') && line.task === task && line.body?.state === 'done';
      sample.history = sample.history.filter(line => !isEnd(line));
    }),
  ),
};

/** All that says how the task ended. */
const allOf = ({ history }: Sample, task: string): { body?: Told }[] =>
  history.filter(
    line => (line.op === 'frame' || line.op === 'task') && line.task === task && line.body?.state === 'done',
  ) as {
    body?: Told;
  }[];

/** No other call may have left the entry. */
const isAlone = ({ history }: Sample, { coupon, user, key }: Issue): boolean =>
  history.filter(line => line.op === 'issue' && line.coupon === coupon && line.user === user && line.key === key)
    .length === 1;
