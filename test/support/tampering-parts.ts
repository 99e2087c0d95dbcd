/** What ways to tamper with a sample are made of. */
import type { EntryLine, RowLine } from '../../src/checker/dump.ts';
import type { FindingKind } from '../../src/checker/findings.ts';
import type { Frame, Issue, Told } from '../../src/checker/history.ts';
import { encodeRequest } from '../../src/entry.ts';
import { keyHash } from '../../src/task.ts';
import type { Random, Sample } from './sale-history.ts';

export interface Tampering {
  /** `unjudged`: no finding, and yet reported. */
  kind: FindingKind | 'unjudged';
  /** Changes the sample; false when it has nothing of the sort. */
  tamper(sample: Sample, random: Random): boolean;
}

export const of = (kind: Tampering['kind'], tamper: Tampering['tamper']): Tampering => ({ kind, tamper });

/** A request whose one key has one accepted call and one entry. */
export interface Known {
  call: Issue & { to: number };
  entry: EntryLine;
}

export const accepted = ({ history }: Sample): (Issue & { to: number })[] =>
  history.filter((line): line is Issue & { to: number } => line.op === 'issue' && line.status === 202);

export function known(sample: Sample): Known[] {
  const calls = Map.groupBy(accepted(sample), ({ coupon, user, key }) => `${coupon} ${user} ${key}`);
  const texts = Map.groupBy(sample.dump.entries, ({ text }) => text);
  return [...calls.values()].flatMap(([call, ...more]) => {
    if (!call || call.key === undefined || more.length > 0) return [];
    const { coupon, user } = call;
    const found = texts.get(encodeRequest(coupon as never, user as never, keyHash(`${coupon} ${user}`, call.key)));
    return found?.length === 1 ? [{ call, entry: found[0] as EntryLine }] : [];
  });
}

/** Those of them that have a row. */
export function winnersOf(sample: Sample): Known[] {
  const won = new Set(sample.dump.rows.map(({ coupon, user, offset }) => `${coupon} ${user} ${offset}`));
  return known(sample).filter(({ call, entry }) => won.has(`${call.coupon} ${call.user} ${entry.offset}`));
}

export const frames = ({ history }: Sample): Frame[] => history.filter(line => line.op === 'frame');
export const outcomes = (sample: Sample): Frame[] => frames(sample).filter(({ event }) => event === 'outcome');
export const issued = (sample: Sample): Frame[] => outcomes(sample).filter(({ body }) => body.outcome === 'issued');
export const endOf = ({ history }: Sample): number =>
  Math.max(...history.map(line => ('at' in line ? line.at : (line.to ?? 0)))) + 1;

/** One of them is taken, if there is any. */
export function one<T>(from: readonly T[], random: Random, use: (item: T) => void): boolean {
  if (from.length === 0) return false;
  use(random.pick(from));
  return true;
}

export const partitionOf = ({ entries }: Sample['dump'], coupon: string): number =>
  entries.find(({ text }) => text.includes(`"couponId":"${coupon}"`))?.partition ?? 0;

export const remove = <T>(from: T[], item: T): void => void from.splice(from.indexOf(item), 1);

export function refuse(
  sample: Sample,
  call: Omit<Issue, 'op' | 'to'> & { to?: number },
  status: number,
  body: Told,
): void {
  sample.history.push({ op: 'issue', to: call.from + 0.5, status, body, ...call });
}

/** Winners of a coupon by slot; two neighbours. */
export function neighbours(sample: Sample, random: Random): [RowLine, RowLine] | undefined {
  const rows = random.pick(sample.dump.rows);
  const all = sample.dump.rows.filter(({ coupon }) => coupon === rows?.coupon).sort((a, b) => a.slot - b.slot);
  const i = random.int(0, all.length - 2);
  const [a, b] = [all[i], all[i + 1]];
  return a && b ? [a, b] : undefined;
}

/** The log without its entries from this one on; what was made of them is gone too. */
export function cut({ dump }: Sample, { partition, offset }: EntryLine): void {
  const gone = new Set(dump.entries.filter(e => e.partition === partition && e.offset >= offset).map(e => e.text));
  const isGone = (user: string | null, key: string | null) =>
    [...gone].some(text => text.includes(`"userId":"${user}","key":"${key}"`));
  dump.entries = dump.entries.filter(e => e.partition !== partition || e.offset < offset);
  dump.rows = dump.rows.filter(row => !isGone(row.user, row.key));
  dump.letters = dump.letters.filter(l =>
    l.slot === null ? l.offset < offset || l.partition !== partition : !isGone(l.user, l.key),
  );
}

/** All that says how the task ended. */
export const allOf = ({ history }: Sample, task: string): { body?: Told }[] =>
  history.filter(
    line => (line.op === 'frame' || line.op === 'task') && line.task === task && line.body?.state === 'done',
  ) as {
    body?: Told;
  }[];

/** No other call may have left the entry. */
export const isAlone = ({ history }: Sample, { coupon, user, key }: Issue): boolean =>
  history.filter(line => line.op === 'issue' && line.coupon === coupon && line.user === user && line.key === key)
    .length === 1;
