/** The four ports as one process has them: the shared servers behind the wire, each effect held against the truth. */

import type { Ports } from '../src/app.ts';
import { changeDeadLetters, changeLog, type LogName } from '../src/entry.ts';
import type { CouponStore, EventLog, OutcomeBoard, StockLedger } from '../src/ports.ts';
import { logNames } from './log.ts';
import type { Server } from './plan.ts';
import type { Life } from './scheduler.ts';
import type { Call, Line } from './wire.ts';
import type { World } from './world.ts';

export function portsOf(world: World, life: Life): Ports {
  const showing: Showing = { read: undefined, seen: new Map() };
  return {
    log: logOf(world, life),
    ledger: ledgerOf(world, life),
    store: storeOf(world, life, showing),
    board: boardOf(world, life, showing),
  };
}

/** The board as persist saw it: nobody else asks for the checkpoint in the very step in which it has read a board. */
interface Showing {
  read: { step: number; changeNext: number | undefined } | undefined;
  seen: Map<number, number | undefined>;
}

const lineOf = (life: Life, server: Server): Line => ({ life, server, kinds: new Map() });

function logOf({ wire, log, groups, plan, checks }: World, life: Life): EventLog {
  const line = lineOf(life, 'log');
  const textsOf = (verb: string) => {
    const ofLog = (name: LogName) => Array.from({ length: plan.partitions }, (_, n) => `${verb} ${name} ${n}`);
    return Object.fromEntries(logNames.map(name => [name, ofLog(name)])) as Record<LogName, string[]>;
  };
  const texts = { append: textsOf('append to'), read: textsOf('read of'), end: textsOf('end of') };
  const call = <T>(
    method: keyof typeof texts,
    name: LogName,
    partition: number,
    effect: Call<T>['effect'],
    may?: 'twice' | 'stale',
  ) => wire.call({ line, method: texts[method][name][partition] as string, effect, may });
  return {
    identity: log.identity,
    partitions: log.partitions,
    appendCharactersMax: plan.bounds.appendCharactersMax,
    append(name, partition, values) {
      const appended = call(
        ...(['append', name, partition] as const),
        async fault => {
          const base = await log.append(name, partition, values);
          if (fault === 'twice') await log.append(name, partition, values);
          return base;
        },
        'twice',
      );
      if (name === changeDeadLetters) {
        checks.copies(life, partition, values);
        appended.catch(() => checks.givesUpCopies(life, partition));
      }
      return appended;
    },
    read: (name, partition, from, max, waitMs, signal) =>
      call(
        ...(['read', name, partition] as const),
        async fault => {
          if (fault === 'stale' && from < (await log.end(name, partition)))
            return { entries: [], next: from, end: from };
          return log.read(name, partition, from, Math.min(max, plan.batchMax.read), waitMs, signal);
        },
        'stale',
      ),
    end: (name, partition) => call('end', name, partition, () => log.end(name, partition)),
    assign: async (group, name, on) => groups.join(group, name, on, life),
    async commit() {},
    reachable: () => wire.reaches(life, 'log'),
    async close() {},
  };
}

function ledgerOf({ wire, ledger, checks }: World, life: Life): StockLedger {
  const line = lineOf(life, 'ledger');
  const call = <T>(method: string, effect: () => Promise<T>) => wire.call({ line, method, effect });
  return {
    place: partition => call('place', () => ledger.place(partition)),
    apply: (partition, build, batch) =>
      call('apply', async () => {
        const applied = await ledger.apply(partition, build, batch);
        checks.applied(partition, batch, applied);
        return applied;
      }),
    told: (partition, build, from, next) =>
      call('told', async () => {
        const told = await ledger.told(partition, build, from, next);
        checks.told(partition, told);
        return told;
      }),
    rebuild: (partition, identity, snapshot, replaces) =>
      call('rebuild', async () => {
        const place = await ledger.rebuild(partition, identity, snapshot, replaces);
        checks.rebuilt(partition);
        return place;
      }),
    read: (partition, queries) => call('read', () => ledger.read(partition, queries)),
    sales: wanted => call('sales', () => ledger.sales(wanted)),
    async close() {},
  };
}

/** What a run does not need of a store is not there. */
function storeOf({ wire, log, store, checks, facts, scheduler }: World, life: Life, showing: Showing): CouponStore {
  const line = lineOf(life, 'store');
  const call = <T>(method: string, effect: () => Promise<T>) => wire.call({ line, method, effect });
  const used: Partial<CouponStore> = {
    claim: identity => call('claim', () => store.claim(identity)),
    createCoupon: row =>
      call('createCoupon', async () => {
        const created = await store.createCoupon(row);
        checks.couponCreated(row.couponId);
        return created;
      }),
    coupons: ids => call('coupons', () => store.coupons(ids)),
    listCoupons: limit => call('listCoupons', () => store.listCoupons(limit)),
    checkpoint(partition) {
      if (showing.read?.step === scheduler.steps) showing.seen.set(partition, showing.read.changeNext);
      return call('checkpoint', () => store.checkpoint(partition));
    },
    commit(partition, batch) {
      const committing = call('commit', async () => {
        const committed = await store.commit(partition, batch);
        checks.committed(partition, committed);
        return committed;
      });
      committing.then(
        committed => checks.knowsRefused(life, partition, committed),
        () => {},
      );
      return committing;
    },
    read: (partition, queries) => call('read', () => store.read(partition, queries)),
    setAside: filter => call('setAside', () => store.setAside(filter)),
    place: (stage, partition) => call('place', () => store.place(stage, partition)),
    savePlace: (stage, partition, from, next) =>
      call('savePlace', async () => {
        facts.counting.delete(`${life.name} ${partition}`);
        const place = await store.savePlace(stage, partition, from, next);
        if (place === next) checks.counted(partition, log.of(changeLog, partition).slice(from, next));
        return place;
      }),
    saveStats: updates =>
      call('saveStats', () => {
        for (const { couponId } of updates) facts.counting.add(`${life.name} ${facts.partitionOf(couponId)}`);
        return store.saveStats(updates);
      }),
    async withSnapshot(partition, use) {
      return use(await call('snapshot', () => store.snapshotNow(partition)));
    },
    async close() {},
  };
  return used as CouponStore;
}

function boardOf({ wire, board, scheduler, checks, plan, breaks }: World, life: Life, showing: Showing): OutcomeBoard {
  const line = lineOf(life, 'board');
  const hintOf = `${life.name} hint`;
  const call = <T>(method: string, effect: () => Promise<T>) => wire.call({ line, method, effect });
  return {
    commit: (partition, update) =>
      call('commit', async () => {
        const was = board.stateOf(partition)?.changeNext;
        const answer = await board.commit(partition, update);
        checks.notLowered(partition, was);
        checks.shown(partition);
        return answer;
      }),
    restore: (partition, all, replaces) => {
      const seen = showing.seen.get(partition);
      return call('restore', async () => {
        const was = board.stateOf(partition)?.changeNext;
        await board.restore(partition, all, replaces);
        checks.restored(partition, all.changeNext, seen, was);
      });
    },
    read(partition, offsets) {
      const reading = call('read', () => board.read(partition, offsets));
      reading.then(
        view => {
          showing.read = { step: scheduler.steps, changeNext: view?.changeNext };
        },
        () => {},
      );
      return reading;
    },
    announce: (partition, decidedNext) => call('announce', () => board.announce(partition, decidedNext)),
    subscribe: on =>
      call('subscribe', () => {
        const listener = {
          hint: (hint: Parameters<typeof on.hint>[0]) => {
            const { random, name } = wire.draw(hintOf);
            if (!wire.reaches(life, 'board') || (wire.isRough && random.chance(plan.rates.hintLost))) return;
            scheduler.in(wire.travelMs(random), life, name, () => on.hint(hint));
          },
          broken: () => {},
        };
        breaks.set(life, on.broken);
        return board.subscribe(listener);
      }),
    async close() {},
  };
}
