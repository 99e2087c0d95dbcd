/** The rows in Postgres. The port's promises are in src/ports.ts, the rules in migrations/. */
import type { Log } from '../metrics.ts';
import type { CouponStore } from '../ports.ts';
import { type CheckpointRow, checkpointColumns, checkpointOf, commit } from './commit.ts';
import { assertUrl, Connections, type Counted, commitMsMax, readMsMax, scanMsMax } from './connection.ts';
import { migrate } from './migrate.ts';
import { coupons, listCoupons, rowsOf, setAside, userCoupons, views } from './reads.ts';
import { withSnapshot } from './snapshot.ts';
import { saveStats, stats } from './stats.ts';
import { claim, createCoupon, redeem } from './writes.ts';

export interface PostgresStoreOptions {
  url: string;
  /** Made when it is not there. */
  schema?: string;
  log: Log;
  /** Connections that answer users; persist has its own, so that reads cannot hold it up. */
  poolMax?: number;
  /** How long the start waits for a server that is away. */
  startMsMax?: number;
  /** Nothing is made or migrated: what is not as this build needs it is refused. */
  mustExist?: boolean | undefined;
}

export interface PostgresStore extends CouponStore {
  /** Statements sent so far, for benches. */
  readonly counts: Readonly<Counted>;
}

const poolMaxDefault = 8;
/** Persist has one call in flight a partition. */
const commitPoolMax = 4;
/** Snapshots at a time; each holds its connection while a ledger is rebuilt. */
const scanPoolMax = 2;

/** Ready when it resolves: connected and migrated. @throws Unavailable, Refused. */
export async function createPostgresStore(given: PostgresStoreOptions): Promise<PostgresStore> {
  const { url, schema = 'dibs', log } = given;
  assertUrl(url);
  const { options } = await migrate(url, schema, log, { msMax: given.startMsMax, mustExist: given.mustExist });
  const counts: Counted = { statements: 0 };
  const pool = (max: number, statementMsMax: number, waitMsMax?: number) =>
    new Connections(
      { url, schema, options, max, statementMsMax, ...(waitMsMax === undefined ? {} : { waitMsMax }) },
      counts,
      log,
    );
  const commits = pool(commitPoolMax, commitMsMax);
  const users = pool(given.poolMax ?? poolMaxDefault, readMsMax);
  const scans = pool(scanPoolMax, scanMsMax, scanMsMax);
  return {
    counts,
    claim: identity => claim(users, identity),
    createCoupon: row => createCoupon(users, row),
    commit: (partition, batch) => commit(commits, partition, batch),
    async checkpoint(partition) {
      const [row] = await commits.rows<CheckpointRow>({
        name: 'checkpoint',
        text: `select ${checkpointColumns} from checkpoint where partition = $1`,
        values: [partition],
      });
      return checkpointOf(row);
    },
    coupons: ids => coupons(users, ids),
    listCoupons: limit => listCoupons(users, limit),
    read: (partition, queries) => views(users, partition, queries),
    userCoupons: (userId, limit, after) => userCoupons(users, userId, limit, after),
    redeem: (userId, couponId, slot, now) => redeem(users, userId, couponId, slot, now),
    setAside: filter => setAside(users, filter),
    stats: (couponId, seconds, now) => stats(users, couponId, seconds, now),
    saveStats: updates => saveStats(users, updates),
    rows: couponId => rowsOf(scans, couponId),
    withSnapshot: (partition, use) => withSnapshot(scans, partition, use),
    async place(stage, partition) {
      const [row] = await users.rows<{ next: number }>({
        name: 'place',
        text: 'select next from place where stage = $1 and partition = $2',
        values: [stage, partition],
      });
      return row?.next ?? 0;
    },
    async savePlace(stage, partition, from, next) {
      // Without a row the place is 0.
      const [row] = await users.rows<{ next: number }>({
        name: 'save_place',
        text: `with there as (select next from place where stage = $1 and partition = $2),
          moved as (
            insert into place as p (stage, partition, next)
            select $1, $2::integer, $4::bigint where $3::bigint = 0 or exists (select from there)
            on conflict (stage, partition) do update set next = excluded.next where p.next = $3::bigint
            returning next)
          select next from moved union all select next from there where not exists (select from moved)`,
        values: [stage, partition, from, next],
      });
      return row?.next ?? 0;
    },
    async close() {
      await Promise.all([commits.end(), users.end(), scans.end()]);
    },
  };
}
