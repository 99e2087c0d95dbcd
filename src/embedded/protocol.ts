/** What the main thread and the writing thread of the embedded profile say to each other. */
import type { Millis } from '../coupon.ts';
import type { LogName } from '../entry.ts';
import { Alarm, messageOf, NotAccepted, OutcomeUnknown, Refused, Unavailable } from '../errors.ts';
import type { CounterName, HistogramName, Level } from '../metrics.ts';
import type { BoardContent, BoardUpdate, CouponStore } from '../ports.ts';
import type { StageLag } from '../stage.ts';

export interface WriterOptions {
  /** Path of the database file. */
  path: string;
  /** Where the server listens, for the lock's message. */
  where: string;
}

/** Methods of the store that write. */
export type StoreWrite = 'claim' | 'createCoupon' | 'redeem' | 'saveStats' | 'savePlace';

export type Request =
  /** The values, a line each: one text is cheaper to hand over than many. */
  | { kind: 'append'; id: number; log: LogName; lines: string }
  | { kind: 'write'; id: number; method: StoreWrite; args: unknown[] };

export type ToWriter = Request | { kind: 'stop' };

export type Answer = { id: number; value: unknown } | { id: number; error: PlainError };

export type BoardAction =
  | { kind: 'commit'; partition: number; update: BoardUpdate }
  | {
      kind: 'restore';
      partition: number;
      all: BoardContent;
      replaces: number | undefined;
    }
  | { kind: 'announce'; partition: number; decidedNext: number };

/** What was counted and observed under one name and label. */
export type Measured =
  | { kind: 'count'; name: CounterName; label: string | undefined; values: number[] }
  | { kind: 'observe'; name: HistogramName; label: string | undefined; values: number[] };

/** One append to the change log. */
export interface AppendedChanges {
  /** Offset of the first. */
  from: number;
  at: Millis;
  /** The values, a line each. */
  lines: string;
}

/** Everything that one committed transaction did, in one message. */
export interface Turn {
  kind: 'turn';
  answers: Answer[];
  changes: AppendedChanges[];
  board: BoardAction[];
  /** Why nothing of it was kept. */
  refused?: string;
}

/** Of the turns since the last report. */
export interface Report {
  kind: 'report';
  measured: Measured[];
  lags: StageLag[];
}

export type FromWriter =
  | { kind: 'opened' }
  | { kind: 'ready' }
  | { kind: 'failed'; error: PlainError }
  | { kind: 'say'; level: Level; message: string; fields: Record<string, unknown> | undefined }
  | { kind: 'stopped' }
  | Turn
  | Report;

/** An error as it crosses the threads. */
export interface PlainError {
  name: string;
  message: string;
}

export const toPlain = (error: unknown): PlainError => ({
  name: error instanceof Error ? error.name : 'Error',
  message: messageOf(error),
});

const known = { NotAccepted, OutcomeUnknown, Unavailable, Alarm, Refused } as const;

export function fromPlain({ name, message }: PlainError): Error {
  const Known = known[name as keyof typeof known];
  return Known ? new Known(message) : new Error(message);
}

export type StoreWriteArgs<M extends StoreWrite> = Parameters<CouponStore[M]>;
