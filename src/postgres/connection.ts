/** Connections to Postgres: bounded pools, what their errors mean, and 64-bit integers as numbers. */
import pg from 'pg';
import { messageOf, Refused, Unavailable } from '../errors.ts';
import type { Log } from '../metrics.ts';

/** Getting a connection, new or from the pool. */
const connectMsMax = 3_000;
/** A statement of a pool that answers users. */
export const readMsMax = 5_000;
/** A persist call; a thousand rows all of which are refused take about a second. */
export const commitMsMax = 15_000;
/** One chunk of a snapshot, or waiting for the turn to take one. */
export const scanMsMax = 30_000;
/** A snapshot's transaction may wait this long for its reader. */
const idleInTransactionMsMax = 60_000;
/** The server's own limit strikes first; ours is for a server that is silent. */
const silenceMsMax = 1_000;
const keepAliveMs = 10_000;
const idleConnectionMsMax = 60_000;

export interface PoolSettings {
  url: string;
  schema: string;
  max: number;
  statementMsMax: number;
  waitMsMax?: number;
  /** Further settings of the session, such as `-c synchronous_commit=on`. */
  options?: string;
}

export interface Statement {
  /** Named statements are prepared once a connection. */
  name?: string;
  text: string;
  values?: unknown[];
  /** Rows as arrays of cells: half the cost when there are many. */
  rowMode?: 'array';
}

export type Row = Record<string, unknown>;

/** Runs statements: a pool, or one connection inside a transaction. */
export interface Runner {
  rows<T extends object = Row>(statement: Statement): Promise<T[]>;
}

export interface Counted {
  statements: number;
}

/** bigint and bigint[] as numbers: offsets, slots and times stay below 2^53. Only here, not for all users of pg. */
const types = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    if (oid === pg.types.builtins.INT8) return Number;
    // int8[] has no name among the builtins. It never holds nulls here.
    if (oid === 1016) return (text: string) => (text === '{}' ? [] : text.slice(1, -1).split(',').map(Number));
    return pg.types.getTypeParser(oid, format as 'text');
  },
} as pg.CustomTypesConfig;

export const quoted = (name: string): string => pg.escapeIdentifier(name);

export function clientConfig(s: Omit<PoolSettings, 'max'>): pg.ClientConfig {
  // What the address says goes before what we pass beside it, so its own options are taken out and joined to ours.
  const url = new URL(s.url);
  const theirs = url.searchParams.get('options') ?? '';
  url.searchParams.delete('options');
  const searchPath = `-c search_path=${quoted(s.schema).replace(/[\\ ]/g, '\\$&')},public`;
  return {
    connectionString: url.href,
    application_name: 'dibs',
    options:
      `${theirs} ${searchPath} -c default_transaction_isolation=read\\ committed -c jit=off ${s.options ?? ''}`.trim(),
    connectionTimeoutMillis: s.waitMsMax ?? connectMsMax,
    statement_timeout: s.statementMsMax,
    query_timeout: s.statementMsMax + silenceMsMax,
    idle_in_transaction_session_timeout: idleInTransactionMsMax,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveMs,
    types,
  };
}

export class Connections implements Runner {
  private readonly pool: pg.Pool;
  private readonly counts: Counted;
  private ended: Promise<void> | undefined;

  constructor(settings: PoolSettings, counts: Counted, log: Log) {
    this.counts = counts;
    this.pool = new pg.Pool({ ...clientConfig(settings), max: settings.max, idleTimeoutMillis: idleConnectionMsMax });
    // A connection that breaks while nobody uses it says so here; whoever uses it next gets another one.
    this.pool.on('error', error => log('debug', `an idle connection to Postgres broke: ${messageOf(error)}`));
    // Between two statements of a transaction nobody listens; the next statement fails.
    this.pool.on('connect', client => client.on('error', () => {}));
  }

  async rows<T extends object = Row>(statement: Statement): Promise<T[]> {
    const client = await this.connect();
    let broken: Error | undefined;
    try {
      return await this.run<T>(client, statement);
    } catch (error) {
      // One that the server refused a statement on is as good as before.
      if (sqlState(error) === undefined) broken = error as Error;
      throw error;
    } finally {
      client.release(broken);
    }
  }

  /** A transaction begun with `begin`, on one connection; rolled back when `use` throws. */
  async transaction<T>(begin: string, use: (runner: Runner) => Promise<T>): Promise<T> {
    const client = await this.connect();
    const runner: Runner = { rows: statement => this.run(client, statement) };
    let done = false;
    try {
      await runner.rows({ text: begin });
      const result = await use(runner);
      await runner.rows({ text: 'commit' });
      done = true;
      return result;
    } finally {
      // A connection in the middle of something is closed, which rolls back.
      client.release(!done);
    }
  }

  private async connect(): Promise<pg.PoolClient> {
    try {
      return await this.pool.connect();
    } catch (error) {
      throw translated(error);
    }
  }

  private async run<T extends object = Row>(client: pg.PoolClient, statement: Statement): Promise<T[]> {
    this.counts.statements++;
    try {
      return (await client.query<T & pg.QueryResultRow>(statement)).rows;
    } catch (error) {
      throw translated(error);
    }
  }

  end(): Promise<void> {
    this.ended ??= this.pool.end();
    return this.ended;
  }
}

/** Classes of SQLSTATE that pass: connection, rolled back, resources, operator (shutdown, timeout), system, and more. */
const passing = new Set(['08', '25', '28', '3D', '40', '53', '55', '57', '58']);

export const sqlState = (error: unknown): string | undefined =>
  error instanceof pg.DatabaseError ? error.code : undefined;

/** What an error of pg means to the core. One that the server gave and that does not pass stays what it is. */
export function translated(error: unknown): Error {
  const state = sqlState(error);
  if (state !== undefined && !passing.has(state.slice(0, 2))) return error as Error;
  return new Unavailable(`Postgres: ${messageOf(error)}${state === undefined ? '' : ` (${state})`}`);
}

/** An address that cannot be one, without printing it: it holds a password. */
export function assertUrl(url: string): void {
  if (!/^postgres(ql)?:\/\//.test(url) || !URL.canParse(url)) {
    throw new Refused(
      'DIBS_DATABASE_URL is not an address of Postgres: write postgres://user:password@host:port/database',
    );
  }
}
