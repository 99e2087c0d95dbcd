/**
 * Who serves a file. In WAL mode a second writer would get in unnoticed, so the server holds a second small database,
 * `x.db.lock`, by a transaction that stays open for life: the system frees it the moment the process is gone, however
 * it went. Readers of the main file never ask for it.
 */
import { randomUUID } from 'node:crypto';
import { DatabaseSync } from 'node:sqlite';
import type { Millis } from '../coupon.ts';
import { Refused } from '../errors.ts';
import { code, openingError, primaryCode } from './database.ts';

export interface Owner {
  pid: number;
  /** Where it serves, for people: `127.0.0.1:8080`. */
  where: string;
  since: Millis;
}

export interface Lock {
  readonly owner: Owner;
  /** May be called twice. */
  close(): void;
}

/** Another starter may have the lock file for a moment only: as often as this we try before we believe it is served. */
const triesMax = 10;
const tryMs = 2;

/** @throws Refused in one sentence that names the owner, when another process (or this one) serves the file. */
export function acquireLock(path: string, where: string, since: Millis): Lock {
  const owner: Owner = { pid: process.pid, where, since };
  const token = randomUUID();
  const lockPath = `${path}.lock`;
  let db: DatabaseSync | undefined;
  try {
    const opened = new DatabaseSync(lockPath, { timeout: 0 });
    db = opened;
    for (let tries = 1; tries <= triesMax; tries++) {
      if (holdFor(opened, owner, token)) return { owner, close: () => opened.isOpen && opened.close() };
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, tryMs);
    }
    throw new Refused(inUse(path, opened, token));
  } catch (error) {
    db?.close();
    throw openingError(lockPath, error);
  }
}

/** Writes who we are where others can read it, then takes the lock that is never given back. False: it is taken. */
function holdFor(db: DatabaseSync, { pid, where, since }: Owner, token: string): boolean {
  try {
    db.exec('BEGIN IMMEDIATE');
    db.exec(`CREATE TABLE IF NOT EXISTS owner (
      one INTEGER PRIMARY KEY CHECK (one = 1), pid INTEGER NOT NULL, "where" TEXT NOT NULL, since INTEGER NOT NULL,
      token TEXT NOT NULL) STRICT`);
    db.prepare('INSERT OR REPLACE INTO owner VALUES (1, ?, ?, ?, ?)').run(pid, where, since, token);
    db.exec('COMMIT');
    db.exec('BEGIN IMMEDIATE');
    return true;
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    if (primaryCode(error) === code.busy) return false;
    throw error;
  }
}

function inUse(path: string, db: DatabaseSync, token: string): string {
  const remedy = 'stop that one, or give another path';
  try {
    const row = db.prepare('SELECT pid, "where", since, token FROM owner').get() as
      | (Owner & { token: string })
      | undefined;
    if (!row || row.token === token) return `${path}: is served by another process: ${remedy}`;
    const since = new Date(row.since).toISOString();
    return `${path}: is served by process ${row.pid} (${row.where}, since ${since}): ${remedy}`;
  } catch (error) {
    if (primaryCode(error) !== code.busy) throw error;
    return `${path}: is served by another process: ${remedy}`;
  }
}
