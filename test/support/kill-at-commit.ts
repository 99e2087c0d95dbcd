/**
 * Loaded ahead of a program by `--import`, in all its threads: once the file that DIBS_TEST_KILL_FILE names is there,
 * the process kills itself at SQLite's next COMMIT, `before` or `after` it as the file says; or the COMMIT `fails`, as
 * when the disk does while it is synced: what was written may be found there later.
 */
import { existsSync, readFileSync } from 'node:fs';
import { StatementSync } from 'node:sqlite';
import { isMainThread } from 'node:worker_threads';

/** An answer that another thread gave too early has this long to get out, ms. */
const lingerMs = 200;
/** SQLITE_IOERR_FSYNC. */
const ioErrorOfSync = 1034;
const file = process.env.DIBS_TEST_KILL_FILE ?? '';
const { run } = StatementSync.prototype;

StatementSync.prototype.run = function (this: StatementSync, ...args: unknown[]) {
  const runIt = () => run.apply(this, args as Parameters<typeof run>);
  if (this.sourceSQL !== 'COMMIT' || !existsSync(file)) return runIt();
  const what = readFileSync(file, 'utf8');
  // It is just being written.
  if (what === '') return runIt();
  if (what === 'fails') {
    const answer = runIt();
    if (isMainThread) return answer;
    throw Object.assign(new Error('disk I/O error'), { code: 'ERR_SQLITE_ERROR', errcode: ioErrorOfSync });
  }
  if (what === 'after') runIt();
  else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, lingerMs);
  process.kill(process.pid, 'SIGKILL');
  throw new Error('killed');
} as typeof run;
