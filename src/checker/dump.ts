/**
 * A dump: what the service has kept, one JSON object a line. All entries of the request log from offset 0 on, all rows
 * of users, all that was set aside. It is taken when nothing is under way.
 */
import type { LogEntry } from '../entry.ts';
import { type Lines, maybe, number, orNull, parseLines, type Shape, text } from './history.ts';

export interface EntryLine {
  kind: 'entry';
  partition: number;
  offset: number;
  /** The log's append time, ms since 1970. */
  at: number;
  text: string;
  /** Base64, only when the bytes are not UTF-8. */
  bytes?: string;
}

export interface RowLine {
  kind: 'row';
  coupon: string;
  user: string;
  slot: number;
  offset: number;
  key: string;
  at: number;
}

/** A dead letter of the request log: a winner that the store refused has a slot, a malformed entry none. */
export interface LetterLine {
  kind: 'letter';
  partition: number;
  offset: number;
  coupon: string | null;
  user: string | null;
  slot: number | null;
  key: string | null;
  reason: string;
}

export type DumpLine = EntryLine | RowLine | LetterLine;

export interface Dump {
  entries: EntryLine[];
  rows: RowLine[];
  letters: LetterLine[];
}

const place: Shape = { partition: number, offset: number };
const shapes: Record<DumpLine['kind'], Shape> = {
  entry: { ...place, at: number, text, bytes: maybe(text) },
  row: { coupon: text, user: text, slot: number, offset: number, key: text, at: number },
  letter: {
    ...{ ...place, coupon: orNull(text), user: orNull(text) },
    ...{ slot: orNull(number), key: orNull(text), reason: text },
  },
};

/** @throws Error that names the line which is none of a dump. */
export async function parseDump(lines: Lines): Promise<Dump> {
  const dump: Dump = { entries: [], rows: [], letters: [] };
  const kinds = { entry: dump.entries, row: dump.rows, letter: dump.letters } as unknown as Record<string, unknown[]>;
  await parseLines(lines, 'dump', 'kind', shapes, line => kinds[line.kind as string]?.push(line));
  return dump;
}

export const logEntryOf = ({ offset, at, text, bytes }: EntryLine): LogEntry =>
  bytes === undefined ? { offset, at, text } : { offset, at, text, bytes: Buffer.from(bytes, 'base64') };
