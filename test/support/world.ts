/** One partition's whole road in one process, step by step: log double, memory ledger and board, a real SQLite store. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CouponId, UserCouponRow } from '../../src/coupon.ts';
import { changeLog, decodeChange, requestLog } from '../../src/entry.ts';
import { MemoryBoard } from '../../src/memory/board.ts';
import { MemoryLedger } from '../../src/memory/ledger.ts';
import type { Metrics } from '../../src/metrics.ts';
import { persistStage } from '../../src/persist.ts';
import type { CouponStore, OutcomeBoard, StockLedger } from '../../src/ports.ts';
import { reserveStage } from '../../src/reserve.ts';
import { openDatabase } from '../../src/sqlite/database.ts';
import { SqliteStore } from '../../src/sqlite/store.ts';
import { PartitionLoop } from '../../src/stage.ts';
import { breakable } from './breakable.ts';
import { opened, request, type Step, textOf } from './entries.ts';
import { fakeHost } from './fake-host.ts';
import { LogDouble } from './log-double.ts';

export function tempStore() {
  const folder = mkdtempSync(join(tmpdir(), 'dibs-'));
  const database = openDatabase(join(folder, 'test.db'));
  return {
    database,
    store: new SqliteStore(database),
    close() {
      database.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export interface Said {
  level: string;
  message: string;
}

export function createWorld() {
  const host = fakeHost();
  const log = new LogDouble(host);
  const { store: realStore, database, close } = tempStore();
  const ledger = breakable<StockLedger>(new MemoryLedger());
  const store = breakable<CouponStore>(realStore);
  const board = breakable<OutcomeBoard>(new MemoryBoard());
  const said: Said[] = [];
  const counted: [name: string, by: number, label: string | undefined][] = [];
  const metrics: Metrics = { count: (...args) => counted.push(args as (typeof counted)[number]), observe() {} };
  const say = (level: string, message: string) => said.push({ level, message });
  const tools = { log, host, metrics, say };

  const world = {
    host,
    log,
    ledger,
    store,
    /** The store itself, which never fails. */
    realStore,
    board,
    database,
    said,
    counted,
    tools,
    /** A process that runs the stage; calling it again is another process, or the same one started again. */
    newReserve: (stockLedger: StockLedger = ledger.it, applyMax?: number) =>
      new PartitionLoop(
        reserveStage({ ...tools, ledger: stockLedger, store: store.it, board: board.it }, applyMax),
        0,
        tools,
      ),
    newPersist: () => new PartitionLoop(persistStage({ ...tools, store: store.it, board: board.it }), 0, tools),
    reserve: undefined as unknown as PartitionLoop,
    persist: undefined as unknown as PartitionLoop,

    async open(couponId: string, stock: number) {
      const body = { name: couponId, stock, opensAt: null, closesAt: null, validUntil: null, discount: null };
      await realStore.createCoupon({ couponId: couponId as CouponId, partition: 0, body, createdAt: host.now() });
      world.put(opened(stock, {}, couponId));
    },
    put(...steps: Step[]) {
      return log.put(requestLog, 0, steps.map(textOf));
    },
    crowd(from: number, to: number, coupon = 'a') {
      world.put(...Array.from({ length: to - from }, (_, i) => request(`u${from + i}`, from + i, coupon)));
    },
    /** Steps until the stage has handled the end of its log; failures are retried. */
    async drain(loop: PartitionLoop, stepsMax = 2_000) {
      for (let i = 0; i < stepsMax; i++) {
        try {
          const worked = await loop.step(0);
          const { state, lagEntries } = loop.lag();
          if (state === 'stopped' || (!worked && lagEntries === 0 && loop.place !== undefined)) return;
        } catch (error) {
          said.push({ level: 'thrown', message: String(error) });
        }
      }
      throw new Error(`the stage did not come to the end in ${stepsMax} steps: ${JSON.stringify(loop.lag())}`);
    },
    async drainAll() {
      await world.drain(world.reserve);
      await world.drain(world.persist);
    },
    async rows(couponId = 'a'): Promise<UserCouponRow[]> {
      const rows: UserCouponRow[] = [];
      for await (const chunk of realStore.rows(couponId as CouponId)) rows.push(...chunk);
      return rows;
    },
    async winners(couponId = 'a'): Promise<string[]> {
      return (await world.rows(couponId)).map(row => `${row.slot} ${row.userId}`);
    },
    /** Everything in the change log, decoded. */
    changes: () => log.of(changeLog).map(entry => decodeChange(entry)),
    close,
  };
  world.reserve = world.newReserve();
  world.persist = world.newPersist();
  return world;
}

export type World = ReturnType<typeof createWorld>;

/** The first winners of a crowd that presses in order. */
export const firstOf = (n: number, from = 0): string[] => Array.from({ length: n }, (_, i) => `${i + 1} u${from + i}`);
