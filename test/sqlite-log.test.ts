import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type Change, changeLog, decodeChange, encodeChange, requestLog } from '../src/entry.ts';
import { Alarm, NotAccepted, Refused } from '../src/errors.ts';
import { createHost, type Host } from '../src/host.ts';
import { type Database, openDatabase } from '../src/sqlite/database.ts';
import { acquireLock } from '../src/sqlite/lock.ts';
import { SqliteLog, SqliteLogReader } from '../src/sqlite/log.ts';
import { eventLogConformance } from './conformance/event-log.ts';

const folder = mkdtempSync(join(tmpdir(), 'dibs-sqlite-log-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const strays = { malformed: 0, unknown_coupon: 0 };
let files = 0;
const newPath = () => join(folder, `${++files}.db`);

function open(path = newPath(), host: Host = createHost()) {
  const database = openDatabase(path);
  return { path, database, log: new SqliteLog(database, host) };
}
const texts = async (log: SqliteLogReader, from = 0) =>
  (await log.read(requestLog, 0, from, 1_000, 0)).entries.map(e => e.text);

eventLogConformance('SQLite', async () => {
  const path = newPath();
  const opened: Database[] = [];
  const openLog = () => {
    opened.push(openDatabase(path, { partitions: 3 }));
    return new SqliteLog(opened.at(-1) as Database, createHost());
  };
  const close = async () => {
    for (const database of opened.splice(0)) database.close();
  };
  const log = openLog();
  return {
    log,
    close,
    async reopen() {
      await log.close();
      await close();
      return openLog();
    },
  };
});

test('entries are numbered from zero and each log counts for itself', async () => {
  const { database, log } = open();
  assert.equal(await log.append(requestLog, 0, ['a', 'b']), 0);
  assert.equal(await log.append(requestLog, 0, ['c']), 2);
  assert.equal(await log.append(changeLog, 0, ['x']), 0);
  assert.deepEqual(await texts(log, 1), ['b', 'c']);
  assert.equal(await log.end(requestLog, 0), 3);
  database.close();
});

test('the tail in memory gives the same as the file, however long the log', async () => {
  const { database, path, log } = open();
  for (let i = 0; i < 100; i++) {
    log.appendNow(
      requestLog,
      0,
      Array.from({ length: 100 }, (_, n) => `${i}.${n} \ud83d\ude00 \ud800 \0 end`),
    );
  }
  const file = openDatabase(path, { readOnly: true });
  const reader = new SqliteLogReader(file, createHost());
  for (const from of [0, 1, 1_807, 1_808, 5_903, 9_000, 9_999, 10_000]) {
    assert.deepEqual(log.readNow(requestLog, 0, from, 700), reader.readNow(requestLog, 0, from, 700));
  }
  database.close();
  file.close();
});

test('what an entry says is kept with it in memory, where it needs no decoding, and only there', async () => {
  const { path, database, log } = open();
  const mark: Change = { type: 'mark', from: 0, next: 1, clock: 5, hash: 'h', counts: {}, strays };
  await log.append(changeLog, 0, [encodeChange(mark)], [''], [mark]);
  await log.append(changeLog, 0, [encodeChange(mark)]);
  const saysOf = async (l: SqliteLogReader) =>
    (await l.read(changeLog, 0, 0, 10, 0)).entries.map(e => [e.change, decodeChange(e)]);
  const decoded = { v: 1, ...mark };
  assert.deepEqual(await saysOf(log), [
    [mark, mark],
    [undefined, decoded],
  ]);
  database.close();
  assert.deepEqual(await saysOf(open(path).log), [
    [undefined, decoded],
    [undefined, decoded],
  ]);
});

test('append times never step back, across a restart too', async () => {
  let now = 5_000;
  const host = { ...createHost(), now: () => now };
  const first = open(newPath(), host);
  await first.log.append(requestLog, 0, ['a']);
  now = 4_000;
  await first.log.append(requestLog, 0, ['b']);
  first.database.close();
  const { database, log } = open(first.path, host);
  await log.append(requestLog, 0, ['c']);
  now = 6_000;
  await log.append(requestLog, 0, ['d']);
  assert.deepEqual(
    log.readNow(requestLog, 0, 0, 9).entries.map(e => e.at),
    [5_000, 5_000, 5_000, 6_000],
  );
  database.close();
});

test('a file keeps its identity and offsets when it is opened again; two files differ', async () => {
  const first = open();
  await first.log.append(requestLog, 0, ['a', 'b']);
  first.database.close();
  const again = open(first.path);
  assert.equal(again.log.identity, first.log.identity);
  assert.match(again.log.identity, /^[0-9a-f-]{36}$/);
  assert.equal(await again.log.append(requestLog, 0, ['c']), 2);
  const other = open();
  assert.notEqual(other.log.identity, first.log.identity);
  again.database.close();
  other.database.close();
});

test('a reader on another connection sees only what is committed', async () => {
  const { database, path, log } = open();
  const file = openDatabase(path, { readOnly: true });
  const reader = new SqliteLogReader(file, createHost());
  database.begin();
  await log.append(requestLog, 0, ['a']);
  assert.deepEqual(await texts(log), ['a']);
  assert.deepEqual(await texts(reader), []);
  assert.equal(await reader.end(requestLog, 0), 0);
  database.commit();
  assert.deepEqual(await texts(reader), ['a']);
  assert.equal(reader.identity, log.identity);
  database.close();
  file.close();
});

test('a rolled-back transaction takes its entries, their offsets and the tail with it', async () => {
  const { database, log } = open();
  await log.append(requestLog, 0, ['a']);
  database.begin();
  assert.equal(await log.append(requestLog, 0, ['gone', 'gone too']), 1);
  database.rollback();
  assert.deepEqual(await texts(log), ['a']);
  assert.equal(await log.end(requestLog, 0), 1);
  assert.equal(await log.append(requestLog, 0, ['b']), 1);
  assert.deepEqual(await texts(log), ['a', 'b']);
  database.close();
});

test('after a write has failed half-way, the transaction cannot be committed', async () => {
  const { database, log } = open();
  database.begin();
  await assert.rejects(log.append(requestLog, 0, ['a', 7 as unknown as string]), /isWellFormed/);
  await assert.rejects(log.append(requestLog, 0, ['b']), NotAccepted);
  assert.throws(() => database.commit(), /rolled back/);
  assert.deepEqual(await texts(log), []);
  assert.equal(await log.append(requestLog, 0, ['b']), 0);
  database.close();
});

test('places beyond the end and entries that are gone raise the alarm', async () => {
  const { database, log, path } = open();
  await log.append(requestLog, 0, ['a', 'b', 'c']);
  await assert.rejects(log.read(requestLog, 0, 4, 10, 0), Alarm);
  assert.deepEqual(await log.read(requestLog, 0, 3, 10, 0), { entries: [], next: 3, end: 3 });
  database.close();
  const cut = open(path);
  cut.database.db.exec(`DELETE FROM "${requestLog}" WHERE offset = 0`);
  await assert.rejects(cut.log.read(requestLog, 0, 0, 10, 0), Alarm);
  cut.database.db.exec(`DELETE FROM "${requestLog}" WHERE offset > 0`);
  await assert.rejects(cut.log.read(requestLog, 0, 2, 10, 0), Alarm);
  cut.database.close();
});

test('a waiting read is answered by the next commit, by its signal, and by its time', { timeout: 20_000 }, async () => {
  const { database, path, log } = open();
  const file = openDatabase(path, { readOnly: true });
  const reader = new SqliteLogReader(file, createHost());
  const [own, other] = [log.read(requestLog, 0, 0, 10, 60_000), reader.read(requestLog, 0, 0, 10, 60_000)];
  await log.append(changeLog, 0, ['not this one']);
  await log.append(requestLog, 0, ['a']);
  reader.wake();
  assert.equal((await own).entries[0]?.text, 'a');
  assert.equal((await other).entries[0]?.text, 'a');
  const stop = new AbortController();
  const stopped = reader.read(requestLog, 0, 1, 10, 60_000, stop.signal);
  stop.abort();
  assert.deepEqual(await stopped, { entries: [], next: 1, end: 1 });
  assert.deepEqual(await reader.read(requestLog, 0, 1, 10, 5), { entries: [], next: 1, end: 1 });
  const left = reader.read(requestLog, 0, 1, 10, 60_000);
  await reader.close();
  assert.deepEqual((await left).entries, []);
  database.close();
  file.close();
});

test('a full disk refuses the turn, loses nothing, and goes on when there is room', async () => {
  const { database, log } = open();
  const big = 'x'.repeat(3_000);
  await log.append(requestLog, 0, ['first']);
  const { page_count: pages } = database.db.prepare('PRAGMA page_count').get() as { page_count: number };
  database.db.exec(`PRAGMA max_page_count = ${pages + 20}`);
  let kept = 1;
  const fill = () => {
    for (;;) {
      database.begin();
      log.appendNow(requestLog, 0, [big, big, big]);
      database.commit();
      kept += 3;
    }
  };
  assert.throws(fill, NotAccepted);
  assert.throws(() => database.commit(), /rolled back/);
  assert.ok(kept > 1);
  assert.equal(await log.end(requestLog, 0), kept);
  assert.equal((await texts(log)).length, kept);
  await assert.rejects(log.append(requestLog, 0, [big, big, big]), NotAccepted);
  database.db.exec(`PRAGMA max_page_count = ${pages + 1_000}`);
  assert.equal(await log.append(requestLog, 0, [big]), kept);
  assert.equal((await texts(log)).length, kept + 1);
  database.close();
});

test('a second server is refused and told whose file it is; kill -9 frees the file', { timeout: 20_000 }, async () => {
  const path = newPath();
  const lockModule = new URL('../src/sqlite/lock.ts', import.meta.url).href;
  const script = `const { acquireLock } = await import('${lockModule}');
    acquireLock(${JSON.stringify(path)}, '127.0.0.1:8080', 0); console.log('held'); setInterval(() => {}, 1000);`;
  const owner = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise(resolve => owner.stdout.once('data', resolve));
  const said = new RegExp(`is served by process ${owner.pid} \\(127.0.0.1:8080, since 1970-01-01T00:00:00.000Z\\)`);
  assert.throws(() => acquireLock(path, 'x', 0), { name: 'Refused', message: said });
  const gone = new Promise(resolve => owner.once('exit', resolve));
  owner.kill('SIGKILL');
  await gone;
  const lock = acquireLock(path, 'here', Date.now());
  assert.throws(() => acquireLock(path, 'there', 0), new RegExp(`process ${process.pid} \\(here`));
  const reader = openDatabaseOf(path);
  reader.close();
  lock.close();
  lock.close();
  acquireLock(path, 'there', 0).close();
});

/** Others read a file that is being served. */
function openDatabaseOf(path: string): Database {
  openDatabase(path).close();
  return openDatabase(path, { readOnly: true });
}

test('what is committed is synced: the writer opens in WAL mode with synchronous FULL', () => {
  const { database } = open();
  const pragma = (name: string) => Object.values(database.db.prepare(`PRAGMA ${name}`).get() ?? {})[0];
  assert.deepEqual([pragma('journal_mode'), pragma('synchronous')], ['wal', 2]);
});

test('a file that cannot be written is refused with its path and the remedy', () => {
  const path = newPath();
  writeFileSync(path, '');
  const sentence = /\.db[^ ]*: cannot be written: let this user write it and its directory, or give another path$/;
  assert.throws(() => openDatabase(`file:${path}?mode=ro`), { name: 'Refused', message: sentence });
  if (process.getuid?.() === 0) return;
  chmodSync(path, 0o444);
  assert.throws(() => openDatabase(path), { name: 'Refused', message: sentence });
});

test('files that are not ours, are newer, or are not there are refused in a sentence', () => {
  const missing = join(folder, 'nowhere', 'x.db');
  assert.throws(() => openDatabase(missing), Refused);
  assert.throws(() => acquireLock(missing, 'x', 0), Refused);
  assert.throws(() => openDatabase(newPath(), { readOnly: true }), Refused);
  const { database, path } = open();
  database.setMeta('version', '99');
  database.close();
  assert.throws(() => openDatabase(path), /has version 99.*newer build/);
  const foreign = openDatabase(newPath());
  foreign.db.exec('PRAGMA application_id = 7');
  foreign.close();
  assert.throws(() => openDatabase(foreign.path), /is not a file of dibs/);
});
