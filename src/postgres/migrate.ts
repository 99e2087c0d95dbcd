/** Brings the schema to what this build needs. Two processes that start at once do it once. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import pg from 'pg';
import { messageOf, Refused, Unavailable } from '../errors.ts';
import type { Log } from '../metrics.ts';
import { clientConfig, quoted, scanMsMax, sqlState, translated } from './connection.ts';

const folder = join(import.meta.dirname, 'migrations');
/** How long a start waits for a server that is away or starting up. */
const startMsMax = 30_000;
const retryMs = 250;

export interface Server {
  /** Settings that sessions need because the server's defaults lose commits. */
  options: string;
}

export interface MigrateOptions {
  /** How long it waits for a server that is away. */
  msMax?: number | undefined;
  /** Nothing is made or changed: what is not as this build needs it is refused. */
  mustExist?: boolean | undefined;
}

export async function migrate(url: string, schema: string, log: Log, options: MigrateOptions = {}): Promise<Server> {
  const { msMax = startMsMax, mustExist = false } = options;
  const deadline = Date.now() + msMax;
  for (let attempt = 1; ; attempt++) {
    try {
      return await migrateOnce(url, schema, log, mustExist);
    } catch (error) {
      if (refusals.has(sqlState(error) ?? '')) {
        throw new Refused(
          `DIBS_DATABASE_URL: Postgres refuses us (${messageOf(error)}): correct user, password or database`,
        );
      }
      const meaning = error instanceof Refused ? error : translated(error);
      if (!(meaning instanceof Unavailable) || Date.now() >= deadline) throw meaning;
      if (attempt === 1) log('warn', `waiting for Postgres: ${messageOf(error)}`);
      await wait(retryMs);
    }
  }
}

/** Wrong password, no such role, no such database, no right to connect or to create. */
const refusals = new Set(['28P01', '28000', '3D000', '42501']);

async function migrateOnce(url: string, schema: string, log: Log, mustExist: boolean): Promise<Server> {
  const client = new pg.Client(clientConfig({ url, schema, statementMsMax: scanMsMax }));
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query('begin');
    await client.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`dibs migrations of ${schema}`]);
    const before = await schemaVersion(client, schema);
    const files = (await readdir(folder)).filter(name => name.endsWith('.sql')).sort();
    if (before > files.length) {
      throw new Refused(`schema ${schema} has version ${before}, this build knows ${files.length}: run a newer build`);
    }
    if (mustExist && before < files.length) {
      throw new Refused(
        before === 0
          ? `there is no dibs in schema ${schema}: name the database of a server with DIBS_DATABASE_URL`
          : `schema ${schema} has version ${before}, this build needs ${files.length}: use the build that serves it`,
      );
    }
    if (before === 0) await makeSchema(client, schema);
    for (const name of files.slice(before)) {
      await client.query(await readFile(join(folder, name), 'utf8'));
      log('info', `migrated ${schema}: ${name}`);
    }
    if (before < files.length) {
      await client.query(
        `insert into meta values ('schema_version', $1)
        on conflict (name) do update set value = excluded.value`,
        [String(files.length)],
      );
    }
    await client.query('commit');
    return { options: await neededOptions(client, log) };
  } finally {
    await client.end().catch(() => {});
  }
}

/** Who may not make one may have been given one. */
async function makeSchema(client: pg.Client, schema: string): Promise<void> {
  const there = await client.query('select 1 from pg_namespace where nspname = $1', [schema]);
  if (there.rowCount === 0) await client.query(`create schema ${quoted(schema)}`);
}

async function schemaVersion(client: pg.Client, schema: string): Promise<number> {
  const meta = await client.query('select 1 from pg_tables where schemaname = $1 and tablename = $2', [schema, 'meta']);
  if (meta.rowCount === 0) return 0;
  const version = await client.query(`select value from meta where name = 'schema_version'`);
  return Number(version.rows[0]?.value ?? 0);
}

async function neededOptions(client: pg.Client, log: Log): Promise<string> {
  const { rows } = await client.query(
    `select current_setting('synchronous_commit') as "commit", current_setting('fsync') as fsync`,
  );
  if (rows[0]?.fsync !== 'on') log('warn', 'Postgres runs with fsync off: a power cut loses committed rows');
  return rows[0]?.commit === 'off' ? '-c synchronous_commit=on' : '';
}
