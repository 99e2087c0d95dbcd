/** Named points of the road at which a process of a test kills itself, as `kill -9` would, or stands still. */
import type { Ports } from '../../src/app.ts';
import { changeLog, requestLog } from '../../src/entry.ts';
import type { Applied, StoreBatch } from '../../src/ports.ts';

interface Point {
  port: keyof Ports;
  method: string;
  /** `during`: the call was handed over, and nobody hears its answer. */
  when: 'before' | 'during' | 'after';
  /** Whether this call is one of those that are meant. */
  isMeant(args: readonly unknown[], answer: unknown): boolean;
  /** A call that has to come first: it is held, and never made. */
  holds?: { port: keyof Ports; method: string; isMeant(args: readonly unknown[]): boolean };
}

const always = () => true;
const hasWinners = ([, , values]: readonly unknown[]) => (values as string[]).some(v => v.includes('"type":"won"'));
const appendsWinners = (args: readonly unknown[]) => args[0] === changeLog && hasWinners(args);
const appendsRequests = ([log]: readonly unknown[]) => log === requestLog;
const commitsWinners = ([, batch]: readonly unknown[]) => (batch as StoreBatch).won.length > 0;
const decidedWinners = (_: readonly unknown[], answer: unknown) => {
  const applied = answer as Applied;
  return applied.kind === 'applied' && applied.changes.some(change => change.type === 'won');
};

const points = {
  'api:before-append': { port: 'log', method: 'append', when: 'before', isMeant: appendsRequests },
  'api:during-append': { port: 'log', method: 'append', when: 'during', isMeant: appendsRequests },
  'api:after-append': { port: 'log', method: 'append', when: 'after', isMeant: appendsRequests },
  'reserve:after-apply': { port: 'ledger', method: 'apply', when: 'after', isMeant: decidedWinners },
  'reserve:during-append': { port: 'log', method: 'append', when: 'during', isMeant: appendsWinners },
  'reserve:after-append': { port: 'log', method: 'append', when: 'after', isMeant: appendsWinners },
  'reserve:after-told': { port: 'ledger', method: 'told', when: 'after', isMeant: always },
  'persist:before-commit': { port: 'store', method: 'commit', when: 'before', isMeant: commitsWinners },
  // Behind the winners that one scheduler has in hand the other puts more into its queue.
  'schedulers:overtaken': {
    ...{ port: 'log', method: 'append', when: 'after', isMeant: appendsWinners },
    holds: { port: 'store', method: 'commit', isMeant: commitsWinners },
  },
  'persist:during-commit': { port: 'store', method: 'commit', when: 'during', isMeant: commitsWinners },
  'persist:after-commit': { port: 'store', method: 'commit', when: 'after', isMeant: commitsWinners },
  'persist:after-board': { port: 'board', method: 'commit', when: 'after', isMeant: always },
  'stats:before-save': { port: 'store', method: 'saveStats', when: 'before', isMeant: always },
  'stats:after-save': { port: 'store', method: 'saveStats', when: 'after', isMeant: always },
  'stats:after-place': { port: 'store', method: 'savePlace', when: 'after', isMeant: always },
} as const satisfies Record<string, Point>;

export type KillPoint = keyof typeof points;
export const killPoints = Object.keys(points) as KillPoint[];

/** All of them; the one that `armed` names strikes. */
export const withKillPoints = (ports: Ports, armed: () => KillPoint | undefined): Ports =>
  killPoints.reduce((wrapped, name) => withKillPoint(wrapped, name, () => armed() === name), ports);

/** Puts the point around its port. It strikes at the first pass that is meant while `isArmed`. */
export function withKillPoint(ports: Ports, name: KillPoint, isArmed: () => boolean): Ports {
  const point: Point = points[name];
  const { holds } = point;
  let isHeld = false;
  const around: Ports = !holds
    ? ports
    : withCalls(ports, holds, (call, args) => {
        if (!isArmed() || !holds.isMeant(args)) return call(...args);
        isHeld = true;
        return new Promise(() => {});
      });
  return withCalls(around, point, async (call, args) => {
    const now = (when: Point['when'], answer?: unknown) =>
      point.when === when && isArmed() && isHeld === (holds !== undefined) && point.isMeant(args, answer);
    if (now('before')) strike();
    const answering = call(...args);
    // A turn later the call is on its way.
    if (now('during')) setImmediate(strike);
    const answer = await answering;
    if (now('after', answer)) strike();
    return answer;
  });
}

type Call = (...args: unknown[]) => Promise<unknown>;

/** The ports, with every call of one method made by `make`. */
function withCalls(
  ports: Ports,
  { port, method }: Pick<Point, 'port' | 'method'>,
  make: (call: Call, args: unknown[]) => Promise<unknown>,
): Ports {
  const target: object = ports[port];
  const proxy = new Proxy(target, {
    get(_, property) {
      const value = Reflect.get(target, property, target) as unknown;
      if (typeof value !== 'function') return value;
      const call = value.bind(target) as Call;
      return property === method ? (...args: unknown[]) => make(call, args) : call;
    },
  });
  return { ...ports, [port]: proxy };
}

let hasStruck = false;

/** DIBS_TEST_SIGNAL=SIGSTOP: it stands still there, once. */
function strike(): void {
  if (hasStruck) return;
  hasStruck = true;
  process.kill(process.pid, (process.env.DIBS_TEST_SIGNAL ?? 'SIGKILL') as NodeJS.Signals);
}
