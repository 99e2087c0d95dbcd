/** One persist transaction: the batch as the arguments of one call, its answer, and what its errors mean. */
import { encodeWon, requestLog, type Won } from '../entry.ts';
import { Alarm, messageOf } from '../errors.ts';
import type { Checkpoint, Committed, SetAside, StoreBatch } from '../ports.ts';
import { type Runner, type Statement, sqlState } from './connection.ts';

export interface CheckpointRow {
  change_next: number;
  change_hash: string;
  next: number;
  clock: number;
  hash: string;
  malformed: number;
  unknown_coupon: number;
}

export const checkpointColumns = 'change_next, change_hash, next, clock, hash, malformed, unknown_coupon';

export const checkpointOf = (row: CheckpointRow | undefined): Checkpoint => ({
  changeNext: row?.change_next ?? 0,
  changeHash: row?.change_hash ?? '',
  next: row?.next ?? 0,
  clock: row?.clock ?? 0,
  hash: row?.hash ?? '',
  strays: { malformed: row?.malformed ?? 0, unknown_coupon: row?.unknown_coupon ?? 0 },
});

interface PersistRow extends CheckpointRow {
  moved: boolean;
  inserted: number | null;
  refused_offsets: number[] | null;
  refused_reasons: string[] | null;
  restored: number[] | null;
}

/**
 * The first call takes all rows to be new and fails as a whole when one is not, or is refused; the second leaves out
 * repeats and finds the rows to blame. What it still refuses is no user's row, and cannot be set aside.
 */
export async function commit(runner: Runner, partition: number, batch: StoreBatch): Promise<Committed> {
  const call = (careful: boolean) => runner.rows<PersistRow>(persistCall(partition, batch, careful));
  const rows = await call(false).catch(error => {
    if (sqlState(error) === undefined) throw error;
    return call(true).catch(again => {
      if (!isConstraint(again)) throw again;
      throw new Alarm(`Postgres refuses changes of partition ${partition} that are no user's row: ${messageOf(again)}`);
    });
  });
  const row = rows[0] as PersistRow;
  if (row.moved) return { kind: 'moved', checkpoint: checkpointOf(row) };
  return {
    kind: 'committed',
    inserted: row.inserted ?? 0,
    refused: refusedOf(partition, batch.won, row.refused_offsets ?? [], row.refused_reasons ?? []),
    restored: row.restored ?? [],
  };
}

const isConstraint = (error: unknown): boolean => /^(22|23|44|P0)/.test(sqlState(error) ?? '');

const columns = `moved, (place).change_next, (place).change_hash, (place).next, (place).clock, (place).hash,
  (place).malformed, (place).unknown_coupon, inserted, refused_offsets, refused_reasons, restored`;

const persistText = `select ${columns} from persist($1, $2, $3, $4, $5, $6, $7, $8, $9,
  $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::text[], $15::bigint[], $16, $17, $18, $19)`;

function persistCall(partition: number, batch: StoreBatch, careful: boolean): Statement {
  const { checkpoint: c, won } = batch;
  return {
    name: 'persist',
    text: persistText,
    values: [
      partition,
      batch.expectChangeNext,
      c.changeNext,
      c.changeHash,
      c.next,
      c.clock,
      c.hash,
      c.strays.malformed,
      c.strays.unknown_coupon,
      textArray(won.map(w => w.couponId)),
      textArray(won.map(w => w.userId)),
      numberArray(won.map(w => w.slot)),
      numberArray(won.map(w => w.offset)),
      textArray(won.map(w => w.key)),
      numberArray(won.map(w => w.at)),
      json(batch.sales),
      json(batch.setAside.map(a => ({ ...a, reason: storable(a.reason), bytes: base64(a.bytes) }))),
      json(Object.entries(batch.counts).map(([couponId, counts]) => ({ couponId, ...counts }))),
      careful,
    ],
  };
}

// Array literals made at once: pg's own take five times as long.
const numberArray = (numbers: readonly number[]): string => `{${numbers.join(',')}}`;
const textArray = (texts: readonly string[]): string =>
  texts.length === 0 ? '{}' : `{"${texts.map(t => t.replace(/["\\]/g, '\\$&')).join('","')}"}`;

const json = (list: readonly unknown[]): string | null => (list.length === 0 ? null : JSON.stringify(list));
const base64 = (text: string): string => Buffer.from(text).toString('base64');
/** Text holds no NUL in Postgres. */
const storable = (text: string): string => text.replaceAll('\0', '\u{fffd}');

function refusedOf(partition: number, won: readonly Won[], offsets: number[], reasons: string[]): SetAside[] {
  if (offsets.length === 0) return [];
  const byOffset = new Map(won.map(w => [w.offset, w]));
  return offsets.flatMap((offset, i) => {
    const winner = byOffset.get(offset);
    return winner ? [setAsideWinner(partition, winner, reasons[i] ?? 'refused_by_store')] : [];
  });
}

function setAsideWinner(partition: number, won: Won, reason: string): SetAside {
  const { couponId, userId, slot, offset, key, at } = won;
  return { log: requestLog, partition, offset, couponId, userId, slot, key, at, reason, bytes: encodeWon(won) };
}
