/**
 * One SQLite file: opened, checked, migrated, and written in transactions that the owner begins and ends.
 *
 * SQLite's POSIX locks are dropped when any descriptor of the file is closed in the owning process: never open a
 * database file (or its -wal, -shm, .lock) through `fs` in the process that serves it. Use `backup()` to copy it.
 */
import { randomUUID } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { Alarm, messageOf, OutcomeUnknown, Refused, Unavailable } from '../errors.ts';
import { addPartition, applicationId, migrations } from './schema.ts';

/** Pages (4 KiB) in the WAL before the writer copies them back: smaller and larger were measured to be no better. */
const walPagesMax = 1_000;
const walBytesMax = 64 * 1024 * 1024;
/** Page cache of one connection. The index by user is written all over, so the writer's is larger than the default. */
const writerCacheKiB = 64 * 1024;
const readerCacheKiB = 16 * 1024;

/** Told when a transaction has ended: what was kept in memory about it is now true, or must be forgotten. */
export interface TransactionWatcher {
  committed(): void;
  rolledBack(): void;
}

export class Database {
  readonly db: DatabaseSync;
  readonly path: string;
  readonly readOnly: boolean;
  /** Made once, with the file: two files are never the same log. */
  readonly identity: string;
  /** Of each log. */
  readonly partitions: number;
  private readonly watchers: TransactionWatcher[] = [];
  private readonly statements: Record<'begin' | 'beginRead' | 'commit' | 'rollback', StatementSync>;
  /** Between begin() and commit() or rollback(), even if SQLite has rolled back by itself meanwhile. */
  private begun = false;
  /** A write of the open transaction failed half-way: it can only be rolled back. */
  private spoilt = false;

  constructor(db: DatabaseSync, path: string, readOnly: boolean) {
    this.db = db;
    this.path = path;
    this.readOnly = readOnly;
    this.identity = metaOf(db, 'identity') as string;
    this.partitions = Number(metaOf(db, 'partitions'));
    this.statements = {
      begin: db.prepare('BEGIN IMMEDIATE'),
      beginRead: db.prepare('BEGIN DEFERRED'),
      commit: db.prepare('COMMIT'),
      rollback: db.prepare('ROLLBACK'),
    };
  }

  watch(watcher: TransactionWatcher): void {
    this.watchers.push(watcher);
  }

  /** @throws Unavailable when the file cannot be written now. */
  begin(): void {
    if (this.begun) throw new Error('a transaction is already open');
    this.orRefuse(() => this.statements.begin.run());
    this.begun = true;
  }

  /**
   * After it returns everything is on disk. When it throws, the transaction is over and watchers have forgotten it.
   * @throws Unavailable: surely nothing of it is kept (the disk is full). @throws OutcomeUnknown: the disk failed
   * while it was synced; close this connection and read the file anew.
   */
  commit(): void {
    if (!this.begun) throw new Error('no transaction is open');
    if (!this.usable) {
      this.rollback();
      throw new Unavailable(unusable);
    }
    try {
      this.statements.commit.run();
    } catch (error) {
      this.rollback();
      if (primaryCode(error) === code.ioError) throw new OutcomeUnknown(messageOf(error), { cause: error });
      throw databaseError(error);
    }
    this.begun = false;
    for (const watcher of this.watchers) watcher.committed();
  }

  /** Ends the transaction, if any, without its writes. SQLite may have rolled back by itself. */
  rollback(): void {
    if (this.db.isOpen && this.db.isTransaction) this.statements.rollback.run();
    this.begun = false;
    this.spoilt = false;
    for (const watcher of this.watchers) watcher.rolledBack();
  }

  /**
   * Runs `work`, which does not wait for anything, inside the open transaction, which can only be rolled back when it
   * throws; without one, in one of its own.
   */
  write<T>(work: () => T): T {
    const own = !this.begun;
    if (own) this.begin();
    if (!this.usable) throw new Unavailable(unusable);
    let result: T;
    try {
      result = this.orRefuse(work);
    } catch (error) {
      this.spoilt = true;
      if (own) this.rollback();
      throw error;
    }
    if (own) this.commit();
    return result;
  }

  /** Runs `work`, which does not wait for anything, on one snapshot: that of the open transaction, else its own. */
  read<T>(work: () => T): T {
    if (this.db.isTransaction) return this.orRefuse(work);
    return this.orRefuse(() => {
      this.statements.beginRead.run();
      try {
        return work();
      } finally {
        if (this.db.isTransaction) this.statements.commit.run();
      }
    });
  }

  /** Copies what the WAL holds back into the file, as far as nobody is in the way. For idle moments. */
  checkpoint(): void {
    if (!this.begun) this.orRefuse(() => this.db.exec('PRAGMA wal_checkpoint(PASSIVE)'));
  }

  meta(name: string): string | undefined {
    return metaOf(this.db, name);
  }

  setMeta(name: string, value: string): void {
    this.write(() =>
      this.db
        .prepare('INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value')
        .run(name, value),
    );
  }

  /** May be called twice. */
  close(): void {
    if (!this.db.isOpen) return;
    this.rollback();
    this.db.close();
  }

  private get usable(): boolean {
    return this.db.isTransaction && !this.spoilt;
  }

  private orRefuse<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw databaseError(error);
    }
  }
}

const unusable = 'a write of this transaction failed, it can only be rolled back';

/**
 * Opens the file, making it when it is not there (not with `readOnly`). May be called for the same file any number
 * of times; only the holder of the lock (lock.ts) may write. A file that has fewer partitions gets more, never fewer.
 * @throws Refused: no such file, not ours, or made by a newer build. @throws Unavailable: cannot be read now.
 */
export function openDatabase(
  path: string,
  { readOnly = false, partitions = 1 }: { readOnly?: boolean; partitions?: number } = {},
): Database {
  let db: DatabaseSync | undefined;
  try {
    if (!readOnly) checkWritable(path);
    db = new DatabaseSync(path, { readOnly, timeout: 0, enableForeignKeyConstraints: true });
    if (readOnly) {
      db.exec(`PRAGMA cache_size = -${readerCacheKiB}`);
      checkVersion(db, path);
    } else {
      checkOurs(db, path);
      db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = ${walPagesMax};
        PRAGMA journal_size_limit = ${walBytesMax}; PRAGMA cache_size = -${writerCacheKiB}; PRAGMA temp_store = MEMORY`);
      migrate(db, path, partitions);
    }
    return new Database(db, path, readOnly);
  } catch (error) {
    db?.close();
    if (primaryCode(error) === code.notADatabase) throw new Refused(notOurs(path));
    throw openingError(path, error);
  }
}

const notOurs = (path: string): string => `${path}: is not a file of dibs: give another path`;

function checkOurs(db: DatabaseSync, path: string): void {
  const { application_id: id } = db.prepare('PRAGMA application_id').get() as { application_id: number };
  const { n } = db.prepare('SELECT count(*) AS n FROM sqlite_schema').get() as { n: number };
  if (id !== applicationId && n > 0) throw new Refused(notOurs(path));
}

function checkVersion(db: DatabaseSync, path: string): void {
  checkOurs(db, path);
  const version = versionOf(db);
  if (version !== migrations.length) {
    const remedy = version < migrations.length ? 'start the server once with this build' : 'use the newer build';
    throw new Refused(`${path}: has version ${version}, this build reads ${migrations.length}: ${remedy}`);
  }
}

function migrate(db: DatabaseSync, path: string, partitions: number): void {
  if (versionOf(db) > migrations.length) checkVersion(db, path);
  db.exec('BEGIN IMMEDIATE');
  try {
    const version = versionOf(db);
    for (const step of migrations.slice(version)) db.exec(step);
    if (version < migrations.length) {
      db.exec(`PRAGMA application_id = ${applicationId}`);
      const set = db.prepare('INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)');
      set.run('version', String(migrations.length));
      if (version === 0) set.run('identity', randomUUID());
    }
    const known = Number(metaOf(db, 'partitions'));
    for (let partition = known; partition < partitions; partition++) db.exec(addPartition(partition));
    if (partitions > known) db.prepare("UPDATE meta SET value = ? WHERE name = 'partitions'").run(String(partitions));
    db.exec('COMMIT');
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

function versionOf(db: DatabaseSync): number {
  const made = db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'").get();
  return made ? Number(metaOf(db, 'version')) : 0;
}

const metaOf = (db: DatabaseSync, name: string): string | undefined =>
  (db.prepare('SELECT value FROM meta WHERE name = ?').get(name) as { value: string } | undefined)?.value;

/** Statements are prepared once and kept: preparing costs more than running. */
export const prepareAll = <N extends string>(db: DatabaseSync, sql: Record<N, string>): Record<N, StatementSync> =>
  Object.fromEntries(Object.entries<string>(sql).map(([name, text]) => [name, db.prepare(text)])) as Record<
    N,
    StatementSync
  >;

/** SQLite's primary result codes that we tell apart. */
export const code = {
  busy: 5,
  readOnly: 8,
  ioError: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  tooBig: 18,
  constraint: 19,
  mismatch: 20,
  notADatabase: 26,
} as const;

export function primaryCode(error: unknown): number | undefined {
  const extended = (error as { errcode?: unknown } | null)?.errcode;
  return typeof extended === 'number' ? extended & 0xff : undefined;
}

/** A row that these tables will never take, however often it is tried. */
export function isRefusal(error: unknown): boolean {
  const primary = primaryCode(error);
  return primary === code.constraint || primary === code.mismatch || primary === code.tooBig;
}

const notWritable = (path: string): Refused =>
  new Refused(`${path}: cannot be written: let this user write it and its directory, or give another path`);

/** SQLite itself may take a file that only its WAL can be written for, and never get the WAL back into it. */
function checkWritable(path: string): void {
  try {
    accessSync(path, constants.W_OK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw notWritable(path);
  }
}

/** What an error of SQLite means while a file is opened: what an operator has to mend is refused. */
export function openingError(path: string, error: unknown): unknown {
  switch (primaryCode(error)) {
    case code.cannotOpen:
      return new Refused(
        `${path}: cannot be opened: give the path of a file in a directory that exists and that this user may write`,
      );
    case code.readOnly:
      return notWritable(path);
    case code.full:
      return new Refused(`${path}: cannot be written, the disk is full: make room, or give another path`);
    case code.ioError:
      return new Unavailable(`${path}: ${messageOf(error)}: see that the disk has room and is well`, { cause: error });
    default:
      return databaseError(error);
  }
}

/** What an error of SQLite means to the core. Errors that are not SQLite's pass unchanged. */
export function databaseError(error: unknown): unknown {
  const primary = primaryCode(error);
  if (primary === undefined) return error;
  if (primary === code.corrupt || primary === code.notADatabase) {
    return new Alarm(`the database file is damaged: ${messageOf(error)}: restore a backup`, { cause: error });
  }
  if (isRefusal(error)) return new Alarm(`the tables refuse a write: ${messageOf(error)}`, { cause: error });
  return new Unavailable(`sqlite: ${messageOf(error)}`, { cause: error });
}
