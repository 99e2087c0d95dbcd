/** `dibs dump`: everything that a history is held against, read from the log and the store of the settings in force. */

import { openForReading } from '../app.ts';
import type { DumpLine } from '../checker/dump.ts';
import { loadConfig } from '../config.ts';
import type { UserCouponRow } from '../coupon.ts';
import { type LogEntry, requestLog } from '../entry.ts';
import { Unavailable } from '../errors.ts';
import type { CouponReader, EventLog, SetAside } from '../ports.ts';
import { LinesFile } from './lines-file.ts';
import type { Flags } from './serve.ts';

/** Entries of one read. */
const readMax = 2_000;
const readMsMax = 5_000;

export async function dump(path: string, flags: Flags): Promise<void> {
  const ports = await openForReading(loadConfig({ flags, env: process.env }));
  try {
    const file = await LinesFile.open(path);
    for await (const line of dumpLines(ports)) await file.write(line);
    await file.end();
  } finally {
    await ports.close();
  }
}

/** @throws Alarm or Unavailable, as its ports do. */
export async function* dumpLines(ports: {
  log: Pick<EventLog, 'read' | 'end' | 'partitions'>;
  store: CouponReader;
}): AsyncGenerator<DumpLine> {
  const { log, store } = ports;
  for (let partition = 0; partition < log.partitions; partition++) {
    const end = await log.end(requestLog, partition);
    for (let next = 0; next < end; ) {
      const batch = await log.read(requestLog, partition, next, readMax, readMsMax);
      for (const entry of batch.entries) if (entry.offset < end) yield entryLine(partition, entry);
      if (batch.next === next) throw new Unavailable(`${requestLog} gave nothing from ${next} on`);
      next = batch.next;
    }
    const letters = await store.setAside({ partition, limit: Number.MAX_SAFE_INTEGER });
    for (const letter of letters) if (letter.log === requestLog) yield letterLine(letter);
  }
  for (const { couponId } of await store.listCoupons(Number.MAX_SAFE_INTEGER)) {
    for await (const rows of store.rows(couponId)) for (const row of rows) yield rowLine(row);
  }
}

const entryLine = (partition: number, { offset, at, text, bytes }: LogEntry): DumpLine => ({
  ...{ kind: 'entry', partition, offset, at, text },
  ...(bytes ? { bytes: Buffer.from(bytes).toString('base64') } : {}),
});

const rowLine = ({ couponId, userId, slot, offset, key, issuedAt }: UserCouponRow): DumpLine => ({
  ...{ kind: 'row', coupon: couponId, user: userId, slot, offset, key, at: issuedAt },
});

const letterLine = ({ partition, offset, couponId, userId, slot, key, reason }: SetAside): DumpLine => ({
  ...{ kind: 'letter', partition, offset, coupon: couponId, user: userId, slot, key, reason },
});
