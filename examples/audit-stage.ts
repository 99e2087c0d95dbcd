/**
 * A stage of one's own: it reads what the sale decided, in order, and keeps a count of wins per coupon in a file.
 * Nothing else is touched: it has its own place in the log and catches up by itself after a restart. Of several
 * processes each would need a file of its own, since partitions move between them; a table would do for all.
 *
 *   node examples/audit-stage.ts            serves with the settings of DIBS_*, and prints each count as it grows
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { changeLog, decodeChange, defineStage, loadConfig, start } from '../src/index.ts';

export type Counts = Record<string, number>;

/** Written with `defineStage`, as dibs' own statistics are. `told` hears the counts whenever they have grown. */
export const auditStage = (path: string, told: (counts: Counts) => void = () => {}) =>
  defineStage({
    name: 'audit',
    log: changeLog,
    async handle(batch) {
      const counts = readCounts(path);
      let grown = false;
      for (const entry of batch.entries) {
        const change = decodeChange(entry);
        // A text says why it cannot be read; dibs sets it aside.
        if (typeof change === 'string' || change.type !== 'won') continue;
        // Slots are 1..N in order, so the greatest is the count, and a batch that comes again changes nothing.
        const known = counts[change.couponId] ?? 0;
        if (change.slot <= known) continue;
        counts[change.couponId] = change.slot;
        grown = true;
      }
      if (!grown) return;
      // Whole or not at all: a crash leaves the old file, and the batch comes again.
      writeFileSync(`${path}.new`, `${JSON.stringify(counts, null, 2)}\n`);
      renameSync(`${path}.new`, path);
      told(counts);
    },
  });

export function readCounts(path: string): Counts {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Counts;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
}

if (import.meta.main) {
  const config = loadConfig({ env: process.env });
  const path = join(process.env.AUDIT_FOLDER ?? '.', 'audit.json');
  const app = await start(config, { stages: [auditStage(path, counts => console.log(counts))] });
  console.log(`dibs listens on ${app.url}, the counts are in ${path}`);
  console.log(
    `try: npx dibs coupon create apple --stock 10 --url ${app.url}; npx dibs rush apple --users 50 --url ${app.url}`,
  );
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void app.stop());
}
