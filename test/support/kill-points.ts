/** Named points of the road at which a process of a test kills itself, as `kill -9` would. */
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
  const target: object = ports[point.port];
  const watched = async (method: (...args: unknown[]) => Promise<unknown>, args: unknown[]) => {
    const now = (when: Point['when'], answer?: unknown) =>
      point.when === when && isArmed() && point.isMeant(args, answer);
    if (now('before')) strike();
    const answering = method.apply(target, args);
    // A turn later the call is on its way.
    if (now('during')) setImmediate(strike);
    const answer = await answering;
    if (now('after', answer)) strike();
    return answer;
  };
  const proxy = new Proxy(target, {
    get(_, property) {
      const value = Reflect.get(target, property, target) as unknown;
      if (typeof value !== 'function') return value;
      if (property !== point.method) return value.bind(target);
      return (...args: unknown[]) => watched(value as (...args: unknown[]) => Promise<unknown>, args);
    },
  });
  return { ...ports, [point.port]: proxy };
}

function strike(): void {
  process.kill(process.pid, 'SIGKILL');
}
