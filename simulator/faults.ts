/** What befalls the cluster, besides single calls: each fault of the plan, from its moment until it is over. */
import { changeLog, requestLog } from '../src/entry.ts';
import type { Instance } from './instance.ts';
import type { Value } from './log.ts';
import { type ClientPlan, type FaultPlan, type Server, servers } from './plan.ts';
import { Random } from './random.ts';
import type { World } from './world.ts';

/** A process that does not end by itself when asked to is killed. */
const stopMsMax = 6_000;

export function planFaults(world: World): void {
  for (const fault of world.plan.faults) {
    const kept = goesBack(world, fault);
    world.scheduler.in(fault.at, undefined, `fault ${fault.id}: ${fault.kind}`, () => {
      if (kept) kept();
      else befall(world, fault);
    });
  }
}

/** Keeps a state some time before, and answers how to go back to it. */
function goesBack(world: World, { kind, at, ms, id }: FaultPlan): (() => void) | undefined {
  const { ledger, board, store, facts, checks } = world;
  const of = {
    ledger_back: () => [keeping(ledger)],
    board_back: () => [keeping(board)],
    redis_back: () => [keeping(ledger), keeping(board)],
    store_back: () => [keeping(store)],
  };
  if (!(kind in of)) return undefined;
  let backs = of[kind as keyof typeof of]();
  world.scheduler.in(at - ms, undefined, `fault ${id} keeps a state`, () => {
    backs = of[kind as keyof typeof of]();
  });
  return () => {
    for (const back of backs) back();
    if (kind === 'store_back') {
      facts.storeBacks++;
      // A place that is still under way may be noted, later, in front of statistics that are gone.
      const isUnderWay = [...world.wire.underWay].some(call => `${call}`.includes('savePlace'));
      // A process that was killed between the two calls makes no second one any more.
      const isCounting = world.instances.some(each =>
        [...facts.counting].some(id => id.startsWith(`${each?.life.name} `)),
      );
      if (isCounting || isUnderWay) facts.countsTorn = true;
      for (let partition = 0; partition < world.plan.partitions; partition++) checks.stored(partition);
    }
    ledgerMoved(world);
  };
}

function keeping<T>(server: { keep(): T; goBackTo(kept: T): void }): () => void {
  const kept = server.keep();
  return () => server.goBackTo(kept);
}

function befall(world: World, fault: FaultPlan) {
  const { scheduler, wire, ledger, board, store, groups, log, plan, checks } = world;
  const { kind, server, partition, word } = fault;
  const instance = world.instances[fault.instance % world.instances.length];
  const ms = Math.max(0, Math.min(fault.ms, plan.calmAt - scheduler.now));
  const over = (end: () => void, lastsMs = ms) =>
    void scheduler.in(lastsMs, undefined, `fault ${fault.id} is over`, end);
  switch (kind) {
    case 'kill':
      if (instance) world.kill(instance.life, ms);
      return;
    case 'stop':
      if (instance) stop(world, instance, ms);
      return;
    case 'pause':
      if (instance) instance.life.pausedUntil = scheduler.now + ms;
      return;
    case 'cut': {
      if (!instance) return;
      const { life } = instance;
      const from: readonly Server[] = word % 3 === 0 ? servers : [server];
      wire.cut(life, from);
      if (from.includes('log')) groups.lost(life);
      return over(() => {
        wire.heal(life);
        if (from.includes('board')) world.breaks.get(life)?.();
      });
    }
    case 'server_down':
      wire.down.add(server);
      return over(() => {
        wire.down.delete(server);
        if (server === 'board') for (const broken of world.breaks.values()) broken();
      });
    case 'ledger_emptied':
      ledger.empty();
      return ledgerMoved(world);
    case 'holder_lost':
      ledger.loseHolder();
      return;
    case 'board_emptied':
      return board.empty();
    case 'moved':
      return groups.move(['reserve', 'persist', 'stats'][word % 3] as string, partition);
    case 'user_barred': {
      // Everybody, or one of the first of a coupon that has stock, and those before: they are those who win.
      const stocked = new Set(plan.coupons.flatMap(({ couponId, stock }) => (stock > 0 ? [couponId] : [])));
      const first = byTime(plan.clients.filter(({ couponId }) => stocked.has(couponId))).slice(0, 2 + (word % 4));
      const users = (word % 3 === 0 ? plan.clients : first).map(client => client.userId);
      for (const userId of users) store.bar(userId);
      // Longer than the other faults: in many a run the first rows come only when those are over.
      return over(() => {
        for (const userId of users) store.allow(userId);
      }, fault.ms);
    }
    case 'bad_request': {
      const { value, isBad } = badRequest(world, partition, word);
      checks.puttingBad = isBad;
      log.put(requestLog, partition, [value]);
      checks.puttingBad = false;
      return;
    }
    case 'bad_change':
      checks.puttingBad = true;
      log.put(changeLog, partition, [badValues[word % badValues.length] as Value]);
      checks.puttingBad = false;
      return;
    case 'change_repeated':
      return repeatChanges(world, partition, word);
    case 'broker_clock':
      log.skewMs[partition] = new Random(word).int(-900, 900);
      return;
    case 'host_clock':
      world.skewMs[fault.instance % world.skewMs.length] = new Random(word).int(-600_000, 600_000);
      return;
    case 'hints_broken':
      if (instance) world.breaks.get(instance.life)?.();
      return;
    case 'ledger_back':
    case 'board_back':
    case 'redis_back':
    case 'store_back':
      return;
  }
}

const byTime = (clients: readonly ClientPlan[]): ClientPlan[] => [...clients].sort((a, b) => a.at - b.at);

function stop(world: World, instance: Instance, downMs: number): void {
  const { life } = instance;
  if (!instance.up && !life.alive) return;
  const end = () => world.kill(life, downMs);
  instance.stop().then(end, error => world.facts.fail('no_crash', `stop rejects with ${error}`));
  const within = Math.min(stopMsMax, Math.max(0, world.plan.calmAt - world.scheduler.now));
  world.scheduler.in(within, undefined, `${life.name} has not stopped`, end);
}

/** An append whose answer was lost long ago, and that was taken up again since, stands in the log only now. */
function repeatChanges({ log, facts }: World, partition: number, word: number): void {
  const readable = log.of(changeLog, partition).filter(entry => !facts.unreadable[partition]?.includes(entry.offset));
  const back = 1 + (word % 6);
  const again = readable.slice(-back).slice(0, 1 + (word % 3));
  if (again.length > 0) {
    log.put(
      changeLog,
      partition,
      again.map(entry => entry.text),
    );
  }
}

function ledgerMoved({ checks, plan }: World): void {
  for (let partition = 0; partition < plan.partitions; partition++) checks.decided(partition);
}

const badValues: readonly Value[] = [
  'not JSON at all',
  '[]',
  '{"type":"request"}',
  '{"v":1,"type":"request","couponId":"c0","userId":"has a space","key":"0000000000000000"}',
  '{"v":1,"type":"won","couponId":"c0","userId":"u1","slot":-1}',
  new Uint8Array([0x7b, 0xff, 0xfe, 0x7d]),
];

/** Another producer's entry: bad, or good and without effect. */
function badRequest({ facts }: World, partition: number, word: number): { value: Value; isBad: boolean } {
  const opened = [...(facts.truth[partition]?.sales.keys() ?? [])][0];
  if (word % 4 === 0) {
    return {
      value: '{"v":1,"type":"request","couponId":"ghost","userId":"x1","key":"00000000000000aa"}',
      isBad: false,
    };
  }
  if (word % 4 === 1 && opened) {
    return {
      value: `{"v":1,"type":"opened","couponId":"${opened}","stock":99,"opensAt":null,"closesAt":null}`,
      isBad: false,
    };
  }
  return { value: badValues[word % badValues.length] as Value, isBad: true };
}
