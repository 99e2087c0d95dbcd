/**
 * The real core and the real HTTP side in one process: log and store are one SQLite file in a folder of its own,
 * ledger and board are in memory. Every part can be taken out and made to fail by `tamper`.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CouponId } from '../../src/coupon.ts';
import { changeLog, requestLog } from '../../src/entry.ts';
import { createHost, type Host } from '../../src/host.ts';
import { createMetrics, type Prometheus } from '../../src/http/prometheus.ts';
import { type Bounds, createHttp, type Http, type HttpSettings } from '../../src/http/server.ts';
import type { Verify } from '../../src/http/verifications.ts';
import { Hub } from '../../src/hub.ts';
import { FrontDoor } from '../../src/issue.ts';
import { MemoryBoard } from '../../src/memory/board.ts';
import { MemoryLedger } from '../../src/memory/ledger.ts';
import type { Level } from '../../src/metrics.ts';
import { Operator } from '../../src/operator.ts';
import { persistStage } from '../../src/persist.ts';
import type { CouponStore, EventLog, LedgerReader } from '../../src/ports.ts';
import { reserveStage } from '../../src/reserve.ts';
import { openDatabase } from '../../src/sqlite/database.ts';
import { SqliteLog } from '../../src/sqlite/log.ts';
import { SqliteStore } from '../../src/sqlite/store.ts';
import { type RunningStage, runStage } from '../../src/stage.ts';
import { statsStage } from '../../src/stats.ts';
import { StatusReader } from '../../src/status.ts';
import { createSealer, type Sealer } from '../../src/task.ts';

export interface MemoryApp {
  url: string;
  port: number;
  http: Http;
  log: EventLog;
  store: CouponStore;
  sealer: Sealer;
  host: Host;
  door: FrontDoor;
  hub: Hub;
  metrics: Prometheus;
  /** What was said, for people. */
  said: { level: Level; message: string }[];
  stop(): Promise<void>;
  /** What is kept: ends of both logs, coupons, rows, everything set aside. Two that are equal: nothing was stored. */
  kept(): Promise<unknown>;
  /** The reserve stage stands still from now on, until the function it answers is called. */
  holdReserve(): Promise<() => Promise<void>>;
}

export interface MemoryAppOptions {
  settings?: Partial<HttpSettings>;
  secret?: string;
  bounds?: Partial<Bounds>;
  /** Puts something else in the place of a part that the HTTP side and the front door use. */
  tamper?: Partial<{
    log(log: EventLog): EventLog;
    ledger(l: LedgerReader): LedgerReader;
    store(s: CouponStore): CouponStore;
  }>;
  ready?(): { ok: boolean; why?: string };
  verify?: Verify;
  hostOf?(host: Host): Host;
}

export async function startMemoryApp(options: MemoryAppOptions = {}): Promise<MemoryApp> {
  const { settings = {}, bounds = {}, secret = 'the secret of the tests', tamper = {}, hostOf = h => h } = options;
  const folder = mkdtempSync(join(tmpdir(), 'dibs-http-'));
  const host = hostOf(createHost());
  const database = openDatabase(join(folder, 'dibs.db'));
  const realLog = new SqliteLog(database, host);
  const realStore = new SqliteStore(database);
  const realLedger = new MemoryLedger();
  const said: MemoryApp['said'] = [];
  const say = (level: Level, message: string) => void said.push({ level, message });
  const metrics = createMetrics();
  const board = new MemoryBoard();
  const log = tamper.log?.(realLog) ?? realLog;
  const store = tamper.store?.(realStore) ?? realStore;
  const ledger = tamper.ledger?.(realLedger) ?? realLedger;
  const sealer = createSealer(secret, log.identity, n => host.randomBytes(n));
  const door = new FrontDoor({ log, ledger, board, store, host, metrics, say });
  const status = new StatusReader({ ledger, board, store });
  const hub = new Hub({ status, board, host, say });
  const operator = new Operator({ door, log, ledger, store, host });
  const stageTools = { log: realLog, ledger: realLedger, store: realStore, board, host, metrics, say };
  const running = new Map<string, RunningStage>();
  const run = async (name: 'reserve' | 'persist' | 'stats') => {
    const stage = {
      reserve: () => reserveStage(stageTools),
      persist: () => persistStage(stageTools),
      stats: () => statsStage(realStore)({ store: realStore }),
    }[name]();
    running.set(name, await runStage(stage, stageTools));
  };
  for (const name of ['reserve', 'persist', 'stats'] as const) await run(name);
  await hub.start();
  const lags = () => [...running.values()].flatMap(stage => stage.lag());
  const http = await createHttp({
    ...{ door, status, hub, sealer, operator, store, host, metrics, say, lags, bounds },
    partitions: log.partitions,
    settings: { host: '127.0.0.1', port: 0, auth: { kind: 'none' }, ...settings },
    ready: options.ready ?? (() => ({ ok: true })),
    verify: options.verify ?? (async couponId => ({ ok: true, coupons: couponId ? [{ couponId }] : [] })),
  });
  const { url, port } = await http.start();
  return {
    ...{ url, port, http, log: realLog, store: realStore, sealer, host, door, hub, metrics, said },
    async stop() {
      await http.stop();
      door.stop();
      await hub.stop();
      for (const stage of running.values()) await stage.stop();
      await realLog.close();
      database.close();
      rmSync(folder, { recursive: true });
    },
    kept: () => keptIn(realLog, realStore),
    async holdReserve() {
      await running.get('reserve')?.stop();
      return () => run('reserve');
    },
  };
}

/** Nothing was stored since `kept` was asked for, and nothing broke. */
export async function assertKept(app: MemoryApp, kept: unknown): Promise<void> {
  assert.deepEqual(await app.kept(), kept);
  assert.deepEqual(
    app.said.filter(({ level }) => level === 'error'),
    [],
  );
}

async function keptIn(log: EventLog, store: CouponStore): Promise<unknown> {
  const coupons = await store.listCoupons(1_000);
  const rows: unknown[] = [];
  for (const { couponId } of coupons) for await (const some of store.rows(couponId as CouponId)) rows.push(...some);
  return {
    requests: await log.end(requestLog, 0),
    changes: await log.end(changeLog, 0),
    coupons: coupons.map(({ couponId, body }) => ({ couponId, body })),
    rows,
    setAside: await store.setAside({ limit: 100 }),
  };
}
