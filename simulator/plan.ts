/** What a seed stands for: the cluster, the crowd, the operator and the faults, as data that can be made smaller. */
import { doorBounds } from '../src/issue.ts';
import { appendCharactersMax, statusBatchMax } from '../src/limits.ts';
import { Random } from './random.ts';

export const roles = ['api', 'reserve', 'persist', 'stats'] as const;
export type Role = (typeof roles)[number];
export type Server = 'log' | 'ledger' | 'store' | 'board';
export const servers: readonly Server[] = ['log', 'ledger', 'store', 'board'];

export interface InstancePlan {
  name: string;
  roles: Role[];
  /** ms that its clock is ahead at first. */
  skewMs: number;
  /** Part of the batches of the plan that its stages take: where a batch ends differs from owner to owner. */
  batchPart: number;
}

export interface CouponPlan {
  couponId: string;
  stock: number;
  /** ms of the run, or never. */
  opensAt: number | null;
  closesAt: number | null;
}

/** One person's press of the button, and how it is followed. */
export interface ClientPlan {
  id: number;
  at: number;
  userId: string;
  couponId: string;
  /** The Idempotency-Key, if one is sent. */
  key: string | null;
  instance: number;
  follow: 'stream' | 'poll';
  /** ms between two questions, of who polls. */
  pollMs: number;
  /** The first answer is lost on the way. */
  losesAnswer: boolean;
  /** ms after which a stream is cut and made anew elsewhere; 0 for never. */
  cutsAfterMs: number;
  /** Presses once more, at another instance, this long after its outcome; 0 for no. */
  againAfterMs: number;
}

export interface OperationPlan {
  id: number;
  at: number;
  kind: 'create' | 'add' | 'close' | 'redrive';
  couponId: string;
  add: number;
  instance: number;
}

export type FaultKind =
  | 'kill'
  | 'stop'
  | 'pause'
  | 'cut'
  | 'server_down'
  | 'ledger_emptied'
  | 'ledger_back'
  | 'holder_lost'
  | 'board_emptied'
  | 'board_back'
  | 'redis_back'
  | 'store_back'
  | 'moved'
  | 'user_barred'
  | 'bad_request'
  | 'bad_change'
  | 'change_repeated'
  | 'broker_clock'
  | 'host_clock'
  | 'hints_broken';
const faultKinds: readonly FaultKind[] = [
  ...(['kill', 'stop', 'pause', 'cut', 'server_down', 'ledger_emptied', 'ledger_back', 'holder_lost'] as const),
  ...(['board_emptied', 'board_back', 'redis_back', 'store_back', 'moved', 'user_barred', 'bad_request'] as const),
  ...(['bad_change', 'change_repeated', 'broker_clock', 'hints_broken'] as const),
];

export interface FaultPlan {
  id: number;
  at: number;
  kind: FaultKind;
  instance: number;
  /** How long it lasts, or how far back it goes. */
  ms: number;
  server: Server;
  partition: number;
  /** Whatever else the kind leaves to chance. */
  word: number;
}

/** Chances of one call of a port. */
export interface Rates {
  /** Fails, and nothing happened. */
  before: number;
  /** Fails, and it happened. */
  after: number;
  /** Fails, and it happens later. */
  late: number;
  /** The process ends just before, or just after it happened. */
  killBefore: number;
  killAfter: number;
  /** Of an append: it happens twice. */
  twice: number;
  /** Of a read: a broker that does not know the newest yet. */
  stale: number;
  /** It takes `slowMs`. */
  slow: number;
  hintLost: number;
}

export interface Plan {
  seed: number;
  partitions: number;
  instances: InstancePlan[];
  /** Most that a stage handles, and that a read gives, at once. */
  batchMax: { reserve: number; persist: number; stats: number; read: number };
  /** Entries of one ledger call. */
  applyMax: number;
  /** Where the product has some hundreds or more, and a crowd of a few must reach them too. */
  bounds: typeof doorBounds & { statusBatchMax: number; appendCharactersMax: number };
  callMsMax: number;
  slowMs: number;
  coupons: CouponPlan[];
  clients: ClientPlan[];
  operations: OperationPlan[];
  faults: FaultPlan[];
  rates: Rates;
  /** From here on everything works. */
  calmAt: number;
  /** Faults of calls that are left out, by name: a smaller run of the same seed. */
  spared: string[];
}

/** What a focus draws differently: a list is picked from, and anything else stands. What is absent, planOf draws. */
interface Focus {
  spanMs?: readonly number[];
  partitions?: number;
  instancesMin?: number;
  allRoles?: true;
  reserveMax?: readonly number[];
  persistMax?: readonly number[];
  statusBatchMax?: number;
  callMsMax?: readonly number[];
  slowMs?: readonly number[];
  rates?: Partial<Rates>;
  /** How much goes wrong: from 0, nothing, to 3. */
  intensity?: number;
  faults?: readonly FaultKind[];
  faultsMin?: number;
  faultMs?: readonly number[];
  server?: Server;
  word?: number;
  coupons?: readonly number[];
  stock?: readonly number[];
  /** Every coupon opens, and not before. */
  opensFromMs?: number;
  clients?: readonly number[];
  users?: readonly number[];
  keyed?: readonly number[];
  /** Chance that a press is one of a burst. */
  inBurst?: number;
  follow?: ClientPlan['follow'];
  pollMs?: number;
  /** Chance that a coupon is there from the beginning. */
  createdFirst?: number;
  /** Of each coupon, besides its creation. */
  operations?: readonly number[];
  operationKinds?: readonly OperationPlan['kind'][];
  add?: readonly number[];
}

/** Of focuses that are about time: a crowd that comes all along, mostly without keys. */
const allAlong = { clients: [12, 24], keyed: [0, 0.3], inBurst: 0 };
/** What a seed may be about; a quarter of them are about everything at once. */
const focuses = {
  everything: {},
  aside: { faults: ['user_barred', 'user_barred', 'ledger_emptied', 'board_emptied', 'redis_back', 'kill'] },
  loss: {
    faults: [
      ...(['ledger_emptied', 'ledger_back', 'ledger_back', 'ledger_back'] as const),
      ...(['redis_back', 'holder_lost', 'store_back', 'store_back'] as const),
    ],
  },
  bad: { faults: ['bad_request', 'bad_request', 'bad_change', 'ledger_emptied', 'broker_clock', 'moved'] },
  latch: {
    faults: ['cut', 'cut', 'cut', 'server_down', 'hints_broken'],
    server: 'ledger',
    ...{ faultMs: [1_200, 3_000], spanMs: [4_000], ...allAlong },
    ...{ stock: [0, 1, 2], operations: [1, 2, 3], add: [1, 2, 5] },
    operationKinds: ['add'],
  },
  owners: {
    faults: ['kill', 'kill', 'moved', 'moved', 'pause', 'cut', 'change_repeated', 'change_repeated'],
    ...{ rates: { killAfter: 0.015 }, partitions: 1, coupons: [2, 3] },
  },
  /** A sale opens while answers take seconds: what is known of the log's clock is told by calls that came late. */
  window: {
    faults: ['broker_clock', 'hints_broken', 'pause'],
    ...{ rates: { slow: 0.15 }, slowMs: [4_000], spanMs: [6_000], opensFromMs: 2_500, ...allAlong },
  },
  /** Two owners write the board, which now and then does not answer: the store does, and both are asked all the time. */
  board: {
    faults: ['moved', 'moved', 'moved', 'moved', 'board_emptied', 'cut', 'pause'],
    server: 'board',
    ...{ intensity: 3, faultsMin: 8, word: 1, rates: { before: 0.1, slow: 0.1 } },
    ...{ spanMs: [1_000, 2_500, 4_000], slowMs: [700, 1_500], callMsMax: [10, 40] },
    ...{ partitions: 1, instancesMin: 2, reserveMax: [5, 8], persistMax: [1, 2] },
    allRoles: true,
    // Whoever asks at a board that goes back must not wait in a queue until it is right again.
    statusBatchMax,
    ...{ stock: [8, 20], createdFirst: 1, clients: [8, 14], users: [20, 60], pollMs: 40 },
    follow: 'poll',
  },
} satisfies Record<string, Focus>;
const often = ['aside', 'loss', 'bad', 'latch', 'owners', 'everything'] as const;
const foci = [...often, ...often, 'window', 'board', 'everything', 'everything'] as const;

export function planOf(seed: number): Plan {
  const random = new Random(seed);
  const { int, chance, pick } = bound(random);
  const focus: Focus = focuses[pick(foci)];
  const spanMs = pick(focus.spanMs ?? [200, 300, 1_000, 2_500, 4_000]);
  const partitions = focus.partitions ?? int(1, 2);
  const instances = instancesOf(random, focus);
  const coupons = couponsOf(random, focus, spanMs);
  const intensity = focus.intensity ?? pick([0, 1, 1, 2, 3]);
  const bursts = Array.from({ length: int(1, 4) }, () => int(0, spanMs));
  const calmAt = spanMs + 150 + (intensity === 0 ? 0 : pick([0, 300, 1_500]));
  const rate = (name: keyof Rates, most: number) =>
    focus.rates?.[name] ?? (intensity > 0 && chance(0.4) ? random.part() * most * intensity : 0);
  const plan: Plan = {
    ...{ seed, partitions, instances, coupons, spared: [] },
    faults: faultsOf(random, focus, intensity, calmAt, partitions, bursts),
    batchMax: {
      ...{
        reserve: pick(focus.reserveMax ?? [1, 2, 3, 5, 500]),
        persist: pick(focus.persistMax ?? [1, 2, 4, 7, 1_000]),
        stats: pick([1, 5, 2_000]),
      },
      read: pick([2, 3, 1_000, 1_000]),
    },
    callMsMax: pick(focus.callMsMax ?? [0, 2, 10, 40]),
    slowMs: pick(focus.slowMs ?? [200, 700, 1_500, 4_000]),
    clients: clientsOf(random, focus, coupons, spanMs, bursts),
    operations: operationsOf(random, focus, coupons, spanMs),
    rates: {
      ...{ before: rate('before', 0.05), after: rate('after', 0.05), late: rate('late', 0.12) },
      ...{ killBefore: rate('killBefore', 0.008), killAfter: rate('killAfter', 0.015) },
      ...{ twice: rate('twice', 0.08), stale: rate('stale', 0.1), slow: rate('slow', 0.05) },
      hintLost: rate('hintLost', 0.3),
    },
    calmAt,
    // Drawn last: what else a seed plans does not depend on it, nor on the clocks of hosts.
    applyMax: pick([1, 2, 500]),
    bounds: boundsOf(random, focus, intensity),
  };
  return { ...plan, faults: [...plan.faults, ...clockStepsOf(random, plan, intensity)] };
}

function boundsOf(random: Random, focus: Focus, intensity: number): Plan['bounds'] {
  const { pick } = bound(random);
  const { acceptQueueMax, filterBatchMax, appendBatchMax } = doorBounds;
  return {
    // A full queue refuses: where nothing is broken nobody is.
    acceptQueueMax: intensity === 0 ? acceptQueueMax : pick([2, 6, acceptQueueMax, acceptQueueMax, acceptQueueMax]),
    filterBatchMax: pick([1, 3, filterBatchMax, filterBatchMax, filterBatchMax]),
    appendBatchMax: pick([1, 3, appendBatchMax, appendBatchMax, appendBatchMax]),
    statusBatchMax: focus.statusBatchMax ?? pick([1, 3, statusBatchMax, statusBatchMax, statusBatchMax]),
    appendCharactersMax: pick([1, 400, appendCharactersMax, appendCharactersMax, appendCharactersMax]),
  };
}

/** Somebody sets a host's clock, mostly while something else befalls it or a sale opens. */
function clockStepsOf(random: Random, { calmAt, faults, coupons }: Plan, intensity: number): FaultPlan[] {
  const { int, chance, pick } = bound(random);
  if (intensity === 0 || chance(0.5)) return [];
  const openings = coupons.flatMap(({ opensAt }) => (opensAt === null ? [] : { at: opensAt, instance: int(0, 9) }));
  return Array.from({ length: int(1, 3) }, (_, i) => {
    const { at, instance } = pick([...faults, ...openings]);
    return {
      ...{ id: faults.length + i, kind: 'host_clock', ms: 0, instance },
      at: chance(0.3) ? int(0, calmAt) : Math.min(calmAt, Math.max(0, at + int(-300, 500))),
      ...{ server: 'log', partition: 0, word: int(0, 99) },
    };
  });
}

function faultsOf(
  random: Random,
  focus: Focus,
  intensity: number,
  calmAt: number,
  partitions: number,
  bursts: readonly number[],
): FaultPlan[] {
  const { int, chance, pick } = bound(random);
  if (intensity === 0) return [];
  const some = chance(0.4) ? [pick(faultKinds)] : faultKinds.filter(() => chance(0.4));
  const kinds = focus.faults ?? (some.length > 0 ? some : faultKinds);
  return Array.from({ length: int(focus.faultsMin ?? 1, 5 * intensity) }, (_, id) => {
    const kind = pick(kinds);
    // A user that is to be refused is so from the beginning, mostly.
    const early = kind === 'user_barred' && chance(0.9);
    return {
      ...{ id, kind, at: early ? 0 : chance(0.5) ? int(0, calmAt) : pick(bursts) + int(150, 220), instance: int(0, 9) },
      ms: early ? calmAt + 3_000 : pick(focus.faultMs ?? [5, 50, 300, 1_200, 3_000]),
      server: focus.server ?? pick(servers),
      ...{ partition: int(0, partitions - 1), word: focus.word ?? int(0, 99) },
    };
  });
}

const bound = (random: Random) => ({
  int: random.int.bind(random),
  chance: random.chance.bind(random),
  pick: random.pick.bind(random) as Random['pick'],
});

function instancesOf(random: Random, focus: Focus): InstancePlan[] {
  const { int, chance } = bound(random);
  const n = int(focus.instancesMin ?? 1, 3);
  const all = focus.allRoles ?? chance(0.5);
  const instances = Array.from({ length: n }, (_, i) => ({
    name: `p${i}`,
    roles: roles.filter(() => all || chance(0.6)),
    skewMs: int(-900, 900),
    batchPart: random.pick([1, 1, 0.5, 0.3]),
  }));
  // Each role has somebody.
  for (const role of roles) {
    if (!instances.some(instance => instance.roles.includes(role))) random.pick(instances).roles.push(role);
  }
  return instances;
}

function couponsOf(random: Random, focus: Focus, spanMs: number): CouponPlan[] {
  const { int, chance, pick } = bound(random);
  const { opensFromMs } = focus;
  return Array.from({ length: pick(focus.coupons ?? [1, 1, 2, 3]) }, (_, i) => {
    const opensAt = opensFromMs !== undefined ? int(opensFromMs, spanMs) : chance(0.15) ? int(0, spanMs + 2_500) : null;
    const closesAt = chance(0.1) ? (opensAt ?? 0) + int(1, spanMs + 2_000) : null;
    return { couponId: `c${i}`, stock: pick(focus.stock ?? [0, 1, 1, 2, 3, 3, 5, 8, 20]), opensAt, closesAt };
  });
}

function clientsOf(
  random: Random,
  focus: Focus,
  coupons: readonly CouponPlan[],
  spanMs: number,
  bursts: readonly number[],
): ClientPlan[] {
  const { int, chance, pick } = bound(random);
  const users = pick(focus.users ?? [1, 3, 8, 20, 60]);
  const keyed = pick(focus.keyed ?? [0, 0.3, 1]);
  const follow = focus.follow ?? pick(['stream', 'poll', undefined] as const);
  return Array.from({ length: pick(focus.clients ?? [2, 4, 8, 12, 20]) }, (_, id) => {
    // Now and then one presses for a coupon that never will be, or comes before it is there.
    const afterMs = chance(0.1) ? 0 : 150;
    const couponId = chance(0.02) ? 'nowhere' : pick(coupons).couponId;
    const userId = `u${int(0, users - 1)}`;
    const at = afterMs + (chance(focus.inBurst ?? 0.6) ? pick(bursts) : int(0, spanMs));
    return {
      ...{ id, at, userId, couponId, instance: int(0, 9) },
      key: chance(keyed) ? pick(['a', 'a', `b${id}`]) : null,
      follow: follow ?? pick(['stream', 'poll'] as const),
      pollMs: focus.pollMs ?? 800,
      ...{ losesAnswer: chance(0.08), cutsAfterMs: chance(0.15) ? int(1, 2_000) : 0 },
      againAfterMs: chance(0.1) ? int(1, 1_500) : 0,
    };
  });
}

function operationsOf(random: Random, focus: Focus, coupons: readonly CouponPlan[], spanMs: number): OperationPlan[] {
  const { int, chance, pick } = bound(random);
  const operations: Omit<OperationPlan, 'id'>[] = coupons.map(({ couponId }) => {
    const at = chance(focus.createdFirst ?? 0.8) ? 0 : int(0, spanMs);
    return { at, kind: 'create', couponId, add: 0, instance: int(0, 9) };
  });
  for (const { couponId } of coupons) {
    for (let n = pick(focus.operations ?? [0, 0, 0, 1, 1, 3]); n > 0; n--) {
      const kind = pick(focus.operationKinds ?? (['add', 'add', 'add', 'close', 'redrive'] as const));
      operations.push({
        at: int(0, spanMs),
        kind,
        couponId,
        add: pick(focus.add ?? [1, 2, 5, 9_999_999]),
        instance: int(0, 9),
      });
    }
  }
  return operations.map((operation, id) => ({ id, ...operation }));
}
