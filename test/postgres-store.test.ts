import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import pg from 'pg';
import type { CouponId, UserId } from '../src/coupon.ts';
import { Alarm, Refused, Unavailable } from '../src/errors.ts';
import type { Log } from '../src/metrics.ts';
import type { Committed } from '../src/ports.ts';
import { createPostgresStore, type PostgresStore } from '../src/postgres/store.ts';
import { redeem } from '../src/postgres/writes.ts';
import { collected, Road } from './conformance/coupon-road.ts';
import { type CouponStoreUnderTest, couponStoreConformance } from './conformance/coupon-store.ts';

const url = process.env.DIBS_DATABASE_URL ?? '';
const quiet: Log = () => {};

interface Made extends CouponStoreUnderTest {
  store: PostgresStore;
  url: string;
  schema: string;
  sql(text: string): Promise<pg.QueryResult>;
  /** Resolves with the first row that `text` gives; asked outside of what `sql` has begun. */
  seen(text: string): Promise<pg.QueryResultRow>;
}

async function connect(to: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: to });
  await client.connect();
  return client;
}

/** A store in a database of its own, so that whoever ends sessions ends only ours, and in a schema of its own. */
async function make(): Promise<Made> {
  const name = `dibs_test_${randomBytes(6).toString('hex')}`;
  const schema = 'odd "schema" name';
  const server = await connect(url);
  await server.query(`create database ${name}`);
  const own = Object.assign(new URL(url), { pathname: name }).href;
  const store = await createPostgresStore({ url: own, schema, log: quiet });
  const [client, watcher] = await Promise.all([connect(own), connect(own)]);
  await client.query(`set search_path = ${pg.escapeIdentifier(schema)}`);
  await client.query(`
    create table unwanted (user_id text primary key);
    create function refuse_unwanted() returns trigger language plpgsql as $$ begin
      if exists (select from unwanted where user_id = new.user_id) then
        raise exception 'user % is not wanted here', new.user_id;
      end if;
      return new;
    end $$;
    create trigger refuse_unwanted before insert on user_coupon for each row execute function refuse_unwanted()`);
  return {
    store,
    url: own,
    schema,
    sql: text => client.query(text),
    async seen(text) {
      for (;;) {
        const { rows } = await watcher.query(text);
        if (rows[0]) return rows[0];
      }
    },
    refuse: async user => void (await client.query('insert into unwanted values ($1)', [user])),
    allow: async user => void (await client.query('delete from unwanted where user_id = $1', [user])),
    async close() {
      await Promise.all([store.close(), client.end(), watcher.end()]);
      await server.query(`drop database ${name} with (force)`);
      await server.end();
    },
  };
}

async function using(use: (made: Made) => Promise<void>): Promise<void> {
  const made = await make();
  try {
    await use(made);
  } finally {
    await made.close();
  }
}

if (url === '') {
  it('Postgres', { skip: 'DIBS_DATABASE_URL is not set: node scripts/services.ts run -- npm test' }, () => {});
} else {
  couponStoreConformance('Postgres', make);
  describe('Postgres only', postgresOnly);
}

const ours = `from pg_stat_activity where datname = current_database() and application_name = 'dibs'`;
const waitingCommit = `${ours} and query like '%from persist(%' and wait_event_type = 'Lock'`;

function postgresOnly(): void {
  it('migrates once when several start at once', () =>
    using(async ({ url }) => {
      const migrated: string[] = [];
      const log: Log = (_, message) => migrated.push(message);
      const stores = await Promise.all([1, 2, 3].map(() => createPostgresStore({ url, schema: 'fresh', log })));
      assert.ok(migrated.length > 0);
      assert.equal(migrated.length, new Set(migrated).size);
      await Promise.all(stores.map(store => Road.open(store)));
      await Promise.all(stores.map(store => store.close()));
    }));

  it('refuses a schema that is newer than this build', () =>
    using(async ({ sql, schema, url }) => {
      await sql(`update meta set value = '999' where name = 'schema_version'`);
      await assert.rejects(createPostgresStore({ url, schema, log: quiet }), Refused);
    }));

  it('says Unavailable when nothing answers, Refused for a wrong database, and prints no password', async () => {
    const away = 'postgres://me:hunter2@127.0.0.1:9/dibs';
    await assert.rejects(createPostgresStore({ url: away, log: quiet, startMsMax: 300 }), (error: Error) => {
      assert.ok(error instanceof Unavailable);
      assert.doesNotMatch(error.message, /hunter2/);
      return true;
    });
    const wrong = new URL(url);
    wrong.pathname = '/no_such_database';
    await assert.rejects(createPostgresStore({ url: wrong.href, log: quiet }), Refused);
    await assert.rejects(createPostgresStore({ url: 'mysql://me:hunter2@x', log: quiet }), (error: Error) => {
      assert.ok(error instanceof Refused);
      assert.doesNotMatch(error.message, /hunter2/);
      return true;
    });
  });

  it('writes a batch with one statement, and one with refused rows with two', () =>
    using(async ({ store, refuse }) => {
      const road = await Road.open(store);
      const cost = async (run: () => Promise<unknown>) => {
        const before = store.counts.statements;
        await run();
        return store.counts.statements - before;
      };
      const counts = { [road.couponId]: { duplicated: 1, closed: 0, not_open: 0, sold_out: 0 } };
      const won = road.wins(1, 20);
      assert.equal(
        await cost(() => road.commit({ won, counts, sales: [road.sale(1)], setAside: [road.malformed(30)] })),
        1,
      );
      await refuse(road.user(22));
      assert.equal(await cost(() => road.commit({ won: road.wins(21, 40), next: 41 })), 2);
    }));

  it('of two commits at once, the one that waited for the other is moved', () =>
    using(async ({ store, sql, seen }) => {
      const road = await Road.open(store);
      const batch = road.batch({ won: road.wins(1, 3), next: 4 });
      await sql('begin');
      await sql(`select * from checkpoint where partition = ${road.partition} for update`);
      const both = [store.commit(road.partition, batch), store.commit(road.partition, batch)];
      await seen(`select 1 ${waitingCommit} having count(*) = 2`);
      await sql('commit');
      const answers: Committed[] = await Promise.all(both);
      assert.deepEqual(answers.map(a => a.kind).sort(), ['committed', 'moved']);
      assert.equal((await road.row()).issued, 3);
    }));

  it('a backend that is terminated in the middle of a commit: Unavailable, nothing written, and it can be repeated', () =>
    using(async ({ store, sql, seen }) => {
      const road = await Road.open(store);
      const batch = road.batch({ won: road.wins(1, 3), sales: [road.sale(2)], next: 4 });
      await sql('begin');
      await sql(`select * from coupon where coupon_id = '${road.couponId}' for update`);
      const cut = assert.rejects(store.commit(road.partition, batch), Unavailable);
      const { pid } = await seen(`select pid ${waitingCommit}`);
      await sql(`select pg_terminate_backend(${pid})`);
      await cut;
      await sql('rollback');
      assert.deepEqual(await store.checkpoint(road.partition), road.checkpoint);
      assert.deepEqual([(await road.row()).issued, await road.slots()], [0, []]);
      const repeated = await store.commit(road.partition, batch);
      assert.deepEqual(repeated, { kind: 'committed', inserted: 3, refused: [], restored: [] });
    }));

  it('a session that is terminated while a snapshot is read: Unavailable, and nothing crashes', () =>
    using(async ({ store, sql }) => {
      const road = await Road.open(store);
      const cut = store.withSnapshot(road.partition, async s => {
        await sql(`select pg_terminate_backend(pid) ${ours} and state = 'idle in transaction'`);
        return collected(s.holders);
      });
      await assert.rejects(cut, Unavailable);
      assert.equal(await store.withSnapshot(road.partition, async s => s.frontier.next), 1);
    }));

  it('survives the end of its idle sessions', () =>
    using(async ({ store, sql }) => {
      const road = await Road.open(store);
      await sql(`select pg_terminate_backend(pid) ${ours}`);
      for (;;) {
        // The pool hears of it in its own time; until then a statement may meet a dead connection.
        const row = await road.row().catch(error => assert.ok(error instanceof Unavailable));
        if (row) break;
      }
    }));

  it('commits while all connections of users and snapshots are busy', () =>
    using(async ({ store, sql }) => {
      const road = await Road.open(store);
      await sql('begin');
      await sql('lock table place in access exclusive mode');
      const stuck = Array.from({ length: 20 }, () => store.place('mail', 0));
      await store.withSnapshot(road.partition, () =>
        store.withSnapshot(road.partition, () => road.commit({ won: road.wins(1, 2), next: 3 })),
      );
      await sql('commit');
      await Promise.all(stuck);
      assert.equal((await road.row()).issued, 2);
    }));

  it('finds rows refused by a check that waits for the end of the transaction', () =>
    using(async ({ store, sql, refuse }) => {
      await sql(`drop trigger refuse_unwanted on user_coupon;
        create constraint trigger refuse_late after insert on user_coupon deferrable initially deferred
        for each row execute function refuse_unwanted()`);
      const road = await Road.open(store);
      await refuse(road.user(3));
      const committed = await road.commit({ won: road.wins(1, 5), next: 6 });
      assert.deepEqual([committed.inserted, committed.refused.map(a => a.offset)], [4, [3]]);
      assert.match(committed.refused[0]?.reason ?? '', /not wanted here/);
      assert.equal((await road.row()).issued, 4);
    }));

  it('sets aside what a trigger refuses with a code of its own, and a slot that is too great', () =>
    using(async ({ store, sql }) => {
      await sql(`create function refuse_odd() returns trigger language plpgsql as $$ begin
          if new.slot = 3 then raise exception 'odd' using errcode = 'DB007'; end if; return new;
        end $$;
        create trigger refuse_odd before insert on user_coupon for each row execute function refuse_odd()`);
      const road = await Road.open(store);
      const won = [...road.wins(1, 4), road.won(5, { slot: 2 ** 40 })];
      const committed = await road.commit({ won, next: 6 });
      assert.deepEqual([committed.inserted, committed.refused.map(a => a.slot)], [3, [3, 2 ** 40]]);
    }));

  it('counts what went in when a trigger skips a row, so that the others and a redrive have their room', () =>
    using(async ({ store, sql }) => {
      await sql(`create function skip() returns trigger language plpgsql as $$ begin
          if new.slot = 1 then return null; end if; return new;
        end $$;
        create trigger skip before insert on user_coupon for each row execute function skip()`);
      const road = await Road.open(store, { stock: 3 });
      const committed = await road.commit({ won: road.wins(1, 2), next: 3 });
      assert.deepEqual([committed.inserted, committed.refused.map(a => a.slot)], [1, [1]]);
      assert.match(committed.refused[0]?.reason ?? '', /the row was not taken, and no error given$/);
      assert.equal((await road.row()).issued, 1);
      await sql('drop trigger skip on user_coupon');
      assert.equal((await road.commit({ won: road.wins(1, 1), next: 3 })).inserted, 1);
      assert.equal((await road.commit({ won: road.wins(3, 3), next: 4 })).inserted, 1);
      assert.deepEqual([(await road.row()).issued, (await road.slots()).map(([slot]) => slot)], [3, [1, 2, 3]]);
    }));

  it('a coupon that became the user’s between the statements of a redeem is nobody’s yet, and not expired', async () => {
    const row = { couponId: 'a', userId: 'u', slot: 1, offset: 1, key: '', issuedAt: 1, redeemedAt: null };
    const answer = (expired: boolean) => {
      const replies: object[][] = [[], [{ ...row, expired }]];
      const runner = { rows: async () => replies.shift() as never };
      return redeem(runner, 'u' as UserId, 'a' as CouponId, 1, 5);
    };
    assert.deepEqual(await answer(false), { kind: 'unknown' });
    assert.deepEqual(await answer(true), { kind: 'expired', row });
  });

  it('sets nobody aside for a cause that may pass: a lock, a full disk, a right that was taken away', () =>
    using(async ({ store, sql }) => {
      const road = await Road.open(store);
      for (const code of ['53100', '55P03', '40001', '57P01']) {
        await sql(`create or replace function refuse_unwanted() returns trigger language plpgsql as $$ begin
          raise exception 'passing' using errcode = '${code}'; end $$`);
        await assert.rejects(road.commit({ won: road.wins(1, 4), next: 5 }), Unavailable);
      }
      await sql(`create or replace function refuse_unwanted() returns trigger language plpgsql as $$ begin
        raise exception 'no right' using errcode = '42501'; end $$`);
      await assert.rejects(road.commit({ won: road.wins(1, 4), next: 5 }), /no right/);
      assert.deepEqual([(await road.asides()).length, await road.slots()], [0, []]);
      assert.deepEqual(await store.checkpoint(road.partition), road.checkpoint);
    }));

  it('alarms when the store refuses what cannot be set aside, and writes nothing', () =>
    using(async ({ store }) => {
      const road = await Road.open(store);
      await road.commit({ won: road.wins(1, 4), next: 5 });
      const tooLow = road.batch({ sales: [road.sale(6, { stock: 3 })], next: 7 });
      await assert.rejects(store.commit(road.partition, tooLow), Alarm);
      const back = road.batch({ next: 3 });
      await assert.rejects(store.commit(road.partition, back), Alarm);
      assert.deepEqual(await store.checkpoint(road.partition), road.checkpoint);
      assert.equal((await road.row()).stock, 100);
    }));

  it('stays consistent and says nothing false when a batch of a thousand is refused whole', () =>
    using(async ({ store, sql }) => {
      const road = await Road.open(store, { stock: 5_000 });
      await sql(`create or replace function refuse_unwanted() returns trigger language plpgsql as $$ begin
        raise exception 'nobody'; end $$`);
      const committed = await road.commit({ won: road.wins(1, 1_000), next: 1_001 });
      assert.deepEqual([committed.inserted, committed.refused.length], [0, 1_000]);
    }));

  it('takes up the sale for a coupon whose row was lost', () =>
    using(async ({ store, sql }) => {
      const road = await Road.open(store, { stock: 1 });
      await road.commit({ sales: [road.sale(3, { stock: 7, closed: true, phase: 'closed' })], next: 4 });
      await sql('delete from coupon');
      const { row, created } = await road.create({ stock: 1 });
      assert.deepEqual([created, row.stock, row.closed], [true, 7, true]);
    }));

  it('may be closed twice', () =>
    using(async ({ store }) => {
      await store.close();
      await store.close();
      await assert.rejects(store.listCoupons(1), Unavailable);
    }));
}
