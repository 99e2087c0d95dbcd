/** Ways to tamper with a clean history or with what was kept, each with what a checker must call it. */
import type { EntryLine } from '../../src/checker/dump.ts';
import type { Call } from '../../src/checker/history.ts';
import { encodeRequest } from '../../src/entry.ts';
import { keyHash } from '../../src/task.ts';
import {
  accepted,
  allOf,
  cut,
  endOf,
  frames,
  isAlone,
  issued,
  known,
  neighbours,
  of,
  one,
  outcomes,
  remove,
  type Tampering,
} from './tampering-parts.ts';
import { refusedOtherwise } from './tampering-refused.ts';
import { toldOtherwise } from './tampering-told.ts';
import { unkeyed } from './tampering-unkeyed.ts';

const kept: Record<string, Tampering> = {
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
  'a later request stands before a close that was answered': of('out_of_order', (sample, random) => {
    const closes = sample.history.filter(line => line.op === 'close' && line.status === 200);
    return one(closes, random, line => Object.assign(line, { from: 0, to: 0.001 }));
  }),
  'a later request stands before a restock that was answered the second time': of('out_of_order', (sample, random) =>
    one(
      sample.history.filter(line => line.op === 'stock' && line.status === 200),
      random,
      line => void sample.history.push({ ...(line as Call), from: 0, to: 0.001 }),
    ),
  ),
  'a restock without a key is not in the log': of('lost', (sample, random) =>
    one(
      sample.history.filter(line => line.op === 'create'),
      random,
      ({ coupon }) => {
        const from = endOf(sample);
        sample.history.push({ op: 'stock', from, to: from + 1, status: 200, coupon, add: 3 });
      },
    ),
  ),
  'a restock without a key counts for more': of('unexpected', (sample, random) =>
    one(
      sample.history.filter(line => line.op === 'stock' && line.status === 200),
      random,
      line => {
        delete (line as { key?: string }).key;
        (line as { add: number }).add++;
      },
    ),
  ),
  'an entry is in the log once more than it was asked for': of('unexpected', (sample, random) => {
    const { dump } = sample;
    const alone = known(sample).filter(({ call }) => isAlone(sample, call));
    return one(alone, random, ({ entry }) => {
      const last = dump.entries.filter(({ partition }) => partition === entry.partition).at(-1) as EntryLine;
      dump.entries.push({ ...entry, offset: last.offset + 1, at: last.at });
    });
  }),
  'the line grows behind an event that does not name it': of('out_of_order', (sample, random) =>
    one(
      frames(sample).filter(({ body }) => body.ahead !== undefined),
      random,
      frame => {
        const at = sample.history.indexOf(frame) + 1;
        const more = { ...frame, body: { state: 'accepted', ahead: (frame.body.ahead ?? 0) + 1 } };
        sample.history.splice(at, 0, { ...frame, body: { state: 'accepted' } }, more);
      },
    ),
  ),
  'a winner set aside with another key or of another partition': of('unexpected', ({ dump }, random) =>
    one(
      dump.letters.filter(({ slot }) => slot !== null),
      random,
      letter => Object.assign(letter, random.pick([{ key: '0123456789abcdef' }, { partition: letter.partition + 1 }])),
    ),
  ),
  'rows of a coupon that was never opened': of('unexpected', ({ dump }, random) =>
    one(dump.rows, random, row => void dump.rows.push({ ...row, coupon: 'never' })),
  ),
  'more rows than units': of('duplicated', ({ dump }) => {
    const rows = dump.rows.filter(({ coupon }) => coupon === 'c0');
    const taken = dump.letters.filter(({ coupon }) => coupon === 'c0').length + rows.length;
    for (let n = 0; n < 13; n++)
      dump.rows.push({ ...(rows[0] as (typeof rows)[0]), user: `more${n}`, slot: taken + 1 + n });
    return true;
  }),
  'a dead letter of a malformed entry names somebody': of('unexpected', ({ dump }, random) =>
    one(
      dump.letters.filter(({ slot }) => slot === null),
      random,
      letter => Object.assign(letter, random.pick([{ coupon: 'c0' }, { user: 'u1' }, { key: '0123456789abcdef' }])),
    ),
  ),
  'a dead letter for the other reason': of('contradicted', ({ dump }, random) =>
    one(dump.letters, random, letter => {
      letter.reason = letter.slot === null ? 'refused_by_store: no' : 'malformed: not JSON';
    }),
  ),
  'one malformed entry has two dead letters': of('duplicated', ({ dump }, random) =>
    one(
      dump.letters.filter(({ slot }) => slot === null),
      random,
      letter => void dump.letters.push({ ...letter }),
    ),
  ),
  'two entries of one offset': of('duplicated', ({ dump }, random) =>
    one(dump.entries, random, entry => void dump.entries.push({ ...entry })),
  ),
  'two requests have one task': of('duplicated', (sample, random) => {
    const [first, ...others] = accepted(sample);
    return one(others, random, ({ body }) => Object.assign(body as object, { taskId: first?.body?.taskId }));
  }),
  'a winner set aside of a coupon that was never opened': of('unexpected', ({ dump }, random) =>
    one(
      dump.letters.filter(({ slot }) => slot !== null),
      random,
      letter => void dump.letters.push({ ...letter, coupon: 'never' }),
    ),
  ),
};

export const tamperings: Record<string, Tampering> = { ...kept, ...refusedOtherwise, ...toldOtherwise, ...unkeyed };
