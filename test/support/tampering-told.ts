/** Ways to tamper with what the clients were told. */
import type { EntryLine, RowLine } from '../../src/checker/dump.ts';
import type { Issue } from '../../src/checker/history.ts';
import type { Sample } from './sale-history.ts';
import {
  accepted,
  allOf,
  endOf,
  frames,
  issued,
  known,
  of,
  one,
  outcomes,
  partitionOf,
  refuse,
  remove,
  type Tampering,
  winnersOf,
} from './tampering-parts.ts';

export const toldOtherwise: Record<string, Tampering> = {
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
  'a loser is told another reason': of('contradicted', (sample, random) =>
    one(
      outcomes(sample).filter(({ body }) => body.outcome === 'inactive'),
      random,
      ({ task, body: { reason } }) => {
        const [other] = ['closed', 'sold_out', 'not_open'].filter(each => each !== reason);
        for (const each of allOf(sample, task)) each.body = { ...each.body, reason: other as string };
      },
    ),
  ),
  'who has won is told another slot on the way than at the end': of('contradicted', (sample, random) =>
    one(issued(sample), random, ({ at, stream, task, body: { slot = 0 } }) => {
      const body = { state: random.pick(['reserved', 'set_aside']), slot: slot + random.pick([-1, 1]) };
      const first = sample.history.findIndex(line => line.op === 'frame' && line.stream === stream);
      sample.history.splice(first, 0, { op: 'frame', at, stream: 9_999, task, event: 'progress', body });
    }),
  ),
  'all who are reserved are told the same slot': of('contradicted', sample => {
    const reserved = frames(sample).filter(({ body }) => body.state === 'reserved');
    for (const frame of reserved) frame.body = { ...frame.body, slot: 1 };
    return new Set(reserved.map(({ task }) => task)).size > 3;
  }),
  'more are ahead than the log has in front': of('contradicted', (sample, random) =>
    one(known(sample), random, ({ call, entry }) => {
      const body = { state: 'accepted', ahead: entry.offset + random.pick([1, 1_000_000]) };
      const frame = frames(sample).find(({ task }) => task === call.body?.taskId);
      if (!frame || random.chance(0.5)) call.body = { ...call.body, ...body };
      else sample.history.push({ ...frame, stream: 9_999, event: 'progress', body });
    }),
  ),
  'a status or a stream that broke the service, or is kept from who has the task': of('unjudged', (sample, random) =>
    one(accepted(sample), random, ({ body }) => {
      const [status, code] = random.pick([[500, 'INTERNAL'] as const, [502] as const, [403, 'FORBIDDEN'] as const]);
      const from = endOf(sample);
      const answer = { from, to: from + 1, status, ...(code && { body: { code } }) };
      const stream = random.chance(0.5) ? { stream: true } : {};
      sample.history.push({ op: 'task', task: body?.taskId as string, ...stream, ...answer });
    }),
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
  'a task that was given out is unknown, or its stream is': of('contradicted', (sample, random) =>
    one(accepted(sample), random, ({ body }) => {
      const from = endOf(sample);
      const asked = { task: body?.taskId as string, ...(random.chance(0.5) ? { stream: true } : {}) };
      sample.history.push({ op: 'task', from, to: from + 1, status: 404, ...asked, body: { code: 'UNKNOWN_TASK' } });
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
    return one(winnersOf(sample), random, ({ call: { coupon, user, key } }) => {
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
  'issued, and its row was refused': of('contradicted', (sample, random) => {
    const told = new Set(issued(sample).map(({ task }) => task));
    const calls = accepted(sample).filter(({ body }) => told.has(body?.taskId as string));
    const { dump } = sample;
    const rows = dump.rows.filter(row => calls.some(({ coupon, user }) => coupon === row.coupon && user === row.user));
    return one(rows, random, row => {
      remove(dump.rows, row);
      dump.letters.push({
        ...row,
        kind: 'letter',
        partition: partitionOf(dump, row.coupon),
        reason: 'refused_by_store: no',
      });
    });
  }),
  'an answer at once with another slot': of('contradicted', ({ history }, random) =>
    one(
      history.filter(line => line.op === 'issue' && line.status === 200),
      random,
      line => {
        line.body = { ...line.body, slot: (line.body?.slot ?? 0) + 1 };
      },
    ),
  ),
  'who comes again with another key is told to have won with it': of('contradicted', (sample, random) =>
    one(issued(sample), random, ({ task, body }) => {
      const { coupon, user } = accepted(sample).find(call => call.body?.taskId === task) as Issue;
      refuse(sample, { from: endOf(sample), coupon, user, key: 'another' }, 200, { ...body, taskId: 'another' });
    }),
  ),
  'the key that won is refused, and nobody heard its first answer': of('contradicted', (sample, random) => {
    return one(winnersOf(sample), random, ({ call }) => {
      const { coupon, user, key, body } = call;
      sample.history = sample.history.filter(
        line => !((line.op === 'frame' || line.op === 'task') && line.task === body?.taskId),
      );
      for (const member of ['to', 'status', 'body'] as const) delete (call as Partial<Issue>)[member];
      refuse(sample, { from: endOf(sample), coupon, user, key: key as string }, 409, {
        code: 'DUPLICATED_COUPON',
        slot: 1,
      });
    });
  }),
  'a stream tells of another task': of('contradicted', (sample, random) =>
    one(outcomes(sample), random, frame => {
      frame.body = { ...frame.body, ...random.pick([{ taskId: 'another' }, { couponId: 'another' }]) };
    }),
  ),
  'an outcome with a reason that it does not have': of('contradicted', (sample, random) =>
    one(
      outcomes(sample).filter(({ body }) => body.outcome === 'inactive'),
      random,
      ({ task }) => {
        for (const each of allOf(sample, task))
          if (each.body?.outcome) each.body = { ...each.body, outcome: 'refused' };
      },
    ),
  ),
  'an outcome that is no end': of('contradicted', (sample, random) =>
    one(
      frames(sample).filter(({ body }) => body.state === 'accepted'),
      random,
      frame => {
        frame.event = 'outcome';
      },
    ),
  ),
  'told before it was asked': of('contradicted', (sample, random) =>
    one(accepted(sample), random, call => {
      const frame = frames(sample).find(({ task }) => task === call.body?.taskId);
      if (frame) frame.at = call.from - 1;
    }),
  ),
  'set aside to the end, and has a row': of('unanswered', ({ dump, history }, random) => {
    const told = new Set(
      history.flatMap(line => (line.op === 'frame' && line.body.state === 'done' ? [line.task] : [])),
    );
    const waits = history.filter(
      (line): line is Issue => line.op === 'issue' && line.status === 202 && !told.has(line.body?.taskId as string),
    );
    const asked = new Set(
      history.flatMap(line => (line.op === 'task' && line.body?.state === 'done' ? [line.task] : [])),
    );
    const silent = waits.filter(({ body }) => !asked.has(body?.taskId as string));
    const letters = dump.letters.filter(
      ({ coupon, slot, user }) => slot !== null && silent.some(call => call.coupon === coupon && call.user === user),
    );
    return one(letters, random, letter => {
      const { coupon, key, offset, partition, slot, user } = letter;
      const entry = dump.entries.find(each => each.partition === partition && each.offset === offset) as EntryLine;
      remove(dump.letters, letter);
      dump.rows.push({ kind: 'row', coupon, key, offset, slot, user, at: entry.at } as RowLine);
    });
  }),
  'accepted, and told of another coupon': of('contradicted', (sample, random) =>
    one(accepted(sample), random, ({ body }) => Object.assign(body as object, { couponId: 'another' })),
  ),
  'accepted, and told more than that': of('contradicted', (sample, random) =>
    one(accepted(sample), random, ({ body }) =>
      Object.assign(
        body as object,
        random.pick([{ state: 'reserved' }, { state: 'done', outcome: 'issued', slot: 99 }]),
      ),
    ),
  ),
  'told before its task was given out': of('contradicted', (sample, random) =>
    one(issued(sample), random, ({ task }) => {
      const call = accepted(sample).find(({ body }) => body?.taskId === task) as Issue;
      for (const frame of frames(sample)) if (frame.task === task) frame.at = call.from;
    }),
  ),
  'issued, and its status is a step back': of('contradicted', (sample, random) =>
    one(issued(sample), random, ({ task }) => {
      const [from, state] = [endOf(sample), random.pick(['reserved', 'set_aside'])];
      sample.history.push({ op: 'task', from, to: from + 1, status: 200, task, body: { state } });
    }),
  ),
  'issued, and a later stream is a step back': of('contradicted', (sample, random) =>
    one(issued(sample), random, frame => {
      const body = { state: random.pick(['reserved', 'set_aside']) };
      sample.history.push({ ...frame, at: endOf(sample), stream: 9_999, event: 'progress', body });
    }),
  ),
  'an outcome that comes as progress': of('contradicted', (sample, random) =>
    one(outcomes(sample), random, ({ task }) => {
      for (const frame of frames(sample)) if (frame.task === task) frame.event = 'progress';
    }),
  ),
  'an event of another name': of('contradicted', (sample, random) =>
    one(frames(sample), random, frame => {
      frame.event = 'banana';
    }),
  ),
  'fewer than nobody are ahead': of('contradicted', (sample, random) =>
    one(
      frames(sample).filter(({ body }) => body.ahead !== undefined),
      random,
      ({ body }) => {
        body.ahead = -5;
      },
    ),
  ),
  'the line before somebody grows when it has won': of('out_of_order', (sample, random) =>
    one(
      frames(sample).filter(({ body }) => body.state === 'reserved'),
      random,
      frame => {
        const body = { state: 'accepted', ahead: 1 };
        sample.history.splice(sample.history.indexOf(frame), 0, { ...frame, body });
        frame.body = { ...frame.body, ahead: 2 };
      },
    ),
  ),
  'answered at once, without a task': of('unanswered', sample => {
    const from = endOf(sample);
    sample.history.push({ op: 'issue', from, to: from + 1, status: 200, coupon: 'c0', user: 'zed', key: 'z' });
    return true;
  }),
  'accepted without a task': of('unanswered', (sample, random) =>
    one(accepted(sample), random, ({ body }) => delete body?.taskId),
  ),
  'nobody says how it ended': of('unanswered', (sample, random) =>
    one(issued(sample), random, ({ task }) => {
      const isEnd = (line: Sample['history'][number]) =>
        (line.op === 'frame' || line.op === 'task') && line.task === task && line.body?.state === 'done';
      sample.history = sample.history.filter(line => !isEnd(line));
    }),
  ),
};
