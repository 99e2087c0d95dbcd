/** Ways to tamper with what the door and the operator were told, and with whom an operator's entry is of. */
import type { AddStock, Call, Close, Create, HistoryLine, Told } from '../../src/checker/history.ts';
import { encodeEntry } from '../../src/entry.ts';
import type { Random, Sample } from './sale-history.ts';
import { endOf, of, one, refuse, type Tampering } from './tampering-parts.ts';

/** One call of an operator, answered when all was over. */
const asks = (call: object, status: number, body?: Told) => (sample: Sample, random: Random) =>
  one(createsOf(sample), random, ({ coupon }) => {
    const from = endOf(sample);
    const answer = { from, to: from + 1, status, ...(body && { body }) };
    sample.history.push({ coupon, ...answer, ...call } as Call);
  });

const isOp =
  <T extends HistoryLine>(op: T['op']) =>
  (line: HistoryLine): line is T =>
    line.op === op;
const createsOf = ({ history }: Sample): Create[] => history.filter(isOp<Create>('create'));
const restock = { op: 'stock', add: 1, key: 'later' };
const unknown: Told = { code: 'UNKNOWN_COUPON' };
const broken: Told = { code: 'INTERNAL' };

/** The call was refused, and what it asked for is in the log. */
const refusedYetThere =
  <T extends Create | AddStock | Close>(op: T['op']) =>
  ({ history }: Sample, random: Random) =>
    one(
      history.filter(isOp<T>(op)).filter(({ status = 0 }) => status < 300),
      random,
      line => Object.assign(line, { status: 403, body: { code: 'FORBIDDEN' } }),
    );

export const refusedOtherwise: Record<string, Tampering> = {
  'a close is not in the log': of('lost', (sample, random) => {
    const closed = new Set(sample.dump.entries.filter(({ text }) => text.includes('"type":"closed"')).map(e => e.text));
    const open = createsOf(sample).filter(
      ({ coupon }) => !closed.has(encodeEntry({ type: 'closed', couponId: coupon as never })),
    );
    return one(open, random, ({ coupon }) => void asks({ op: 'close', coupon }, 200)(sample, random));
  }),
  'a coupon is not in the log': of(
    'lost',
    asks({ op: 'create', coupon: 'never', stock: 1, opensAt: null, closesAt: null }, 201),
  ),
  'a restock that counts was refused': of('contradicted', refusedYetThere<AddStock>('stock')),
  'a coupon that was opened was refused': of('unexpected', refusedYetThere<Create>('create')),
  'a close that counts was refused': of('unexpected', refusedYetThere<Close>('close')),
  'a restock is refused as closed before it was': of('contradicted', (sample, random) =>
    one(createsOf(sample), random, ({ coupon }) => {
      const body = { code: 'COUPON_CLOSED' };
      sample.history.push({ op: 'stock', coupon, add: 1, key: 'early', from: 3.5, to: 3.6, status: 409, body });
    }),
  ),
  'a restock of a coupon that is there is of an unknown one': of('contradicted', asks(restock, 404, unknown)),
  'a close of a coupon that is there is of an unknown one': of('contradicted', asks({ op: 'close' }, 404, unknown)),
  'a restock that has room is too much': of('contradicted', asks(restock, 400, { code: 'MALFORMED_REQUEST' })),
  'a press for a coupon that is there is for an unknown one': of(
    'contradicted',
    asks({ op: 'issue', user: 'late', key: 'l' }, 404, unknown),
  ),
  'inactive at the door, of a coupon that was never opened': of(
    'contradicted',
    asks({ op: 'issue', coupon: 'never', user: 'late', key: 'l' }, 410, {
      code: 'INACTIVE_COUPON',
      reason: 'sold_out',
    }),
  ),
  'a press that broke the service': of('unjudged', asks({ op: 'issue', user: 'late', key: 'l' }, 500, broken)),
  'an operator’s call that broke the service': of('unjudged', (sample, random) =>
    one([{ op: 'close' }, restock], random, call => void asks(call, random.pick([500, 501, 502]))(sample, random)),
  ),
  'inactive at the door for no reason': of(
    'contradicted',
    asks({ op: 'issue', user: 'late', key: 'l' }, 410, { code: 'INACTIVE_COUPON', reason: 'bored' }),
  ),
  'a duplicate at the door of a win that is set aside': of('contradicted', (sample, random) =>
    one(
      sample.dump.letters.filter(({ slot }) => slot !== null),
      random,
      ({ coupon, slot, user }) =>
        refuse(sample, { from: endOf(sample), coupon: coupon as string, user: user as string, key: 'again' }, 409, {
          code: 'DUPLICATED_COUPON',
          slot: slot as number,
        }),
    ),
  ),
};
