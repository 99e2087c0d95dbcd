/**
 * Loaded ahead of a program by `--import`, in all its threads: once the file that DIBS_TEST_KILL_FILE names is there,
 * the process kills itself where the file says: before or after the next statement of that kind. `embedded:fails-commit`
 * kills nobody: the COMMIT fails, as when the disk does while it is synced, and what was written is found there later.
 * Nor does `embedded:fills-` any of them: each such statement fails as on a full disk, and nothing of it is kept.
 */
import { existsSync, readFileSync } from 'node:fs';
import { StatementSync } from 'node:sqlite';
import { isMainThread } from 'node:worker_threads';

/** Of the writing thread: a request comes into the log, a change does, a winner gets a row, all of it is committed. */
const statements = {
  request: /^INSERT INTO "coupon-issued" /,
  change: /^INSERT INTO "coupon-issued-success" /,
  row: /^INSERT INTO user_coupon /,
  commit: /^COMMIT$/,
} as const;

export const embeddedPoints = [
  'embedded:before-request',
  'embedded:after-request',
  'embedded:before-change',
  'embedded:after-change',
  'embedded:after-row',
  'embedded:before-commit',
  'embedded:after-commit',
] as const;
export type EmbeddedPoint = (typeof embeddedPoints)[number];

/** An answer that another thread gave too early has this long to get out, ms. */
const lingerMs = 200;
/** SQLITE_IOERR_FSYNC. */
const ioErrorOfSync = 1034;
/** SQLITE_FULL. */
const full = 13;
const file = process.env.DIBS_TEST_KILL_FILE;

if (file !== undefined) {
  const { run } = StatementSync.prototype;
  const sqliteError = (message: string, errcode: number) =>
    Object.assign(new Error(message), { code: 'ERR_SQLITE_ERROR', errcode });
  const strike = () => {
    process.kill(process.pid, 'SIGKILL');
    throw new Error('killed');
  };
  StatementSync.prototype.run = function (this: StatementSync, ...args: unknown[]) {
    const runIt = () => run.apply(this, args as Parameters<typeof run>);
    const sql = this.sourceSQL;
    const kind = Object.entries(statements).find(([, pattern]) => pattern.test(sql))?.[0];
    if (kind === undefined || !existsSync(file)) return runIt();
    const [when, what] = readFileSync(file, 'utf8').replace('embedded:', '').split('-');
    if (what !== kind) return runIt();
    if (when === 'fails') {
      const answer = runIt();
      if (isMainThread) return answer;
      throw sqliteError('disk I/O error', ioErrorOfSync);
    }
    if (when === 'fills') {
      if (isMainThread) return runIt();
      throw sqliteError('database or disk is full', full);
    }
    if (when === 'after') runIt();
    else if (kind === 'commit') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, lingerMs);
    return strike();
  } as typeof run;
}
