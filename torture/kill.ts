/** `kill -9` of real processes at named points of the road. */
import type { EmbeddedPoint } from '../test/support/kill-at-commit.ts';
import { type KillPoint, killPoints } from '../test/support/kill-points.ts';
import type { Slot } from './arena.ts';
import type { EmbeddedArena } from './embedded.ts';
import { extent, type Fault } from './round.ts';

/** A point that is not reached by then strikes nobody. */
const strikeMsMax = 80_000;
/** Deaths of an API process for each that is asked for, while members of groups are still dying. */
const apiDeathsMax = 3;

/** How often each role was struck: points have their turn, beginning anywhere. */
const struck = new Map<string, number>();

function nextPoint<P extends string>(role: string, choice: readonly P[], random: () => number): P {
  const turn = struck.get(role) ?? Math.floor(random() * choice.length);
  struck.set(role, turn + 1);
  return choice[turn % choice.length] as P;
}

async function struckDown(who: string, point: string, ended: Promise<string>): Promise<void> {
  const how = await ended.catch((cause: unknown) => {
    throw new Error(`${who} did not pass ${point} within ${strikeMsMax} ms`, { cause });
  });
  if (how !== 'SIGKILL') throw new Error(`${who} ended with ${how} at ${point}`);
}

/** One process of each role dies at a point of its own, and another takes its place; all at once. */
export const killed = (points: Partial<Record<Slot, readonly KillPoint[]>>): Fault => ({
  own: [],
  // Most points are passed only by winners.
  stock: 100_000,
  async run({ arena, crowd, random, did }) {
    using _ = crowd.pressing(extent.pressEachMs);
    const roles = Object.entries(points).map(([name, choice]) => ({ name, choice, isApi: name.startsWith('api') }));
    let membersLeft = roles.filter(({ isApi }) => !isApi).length;
    // A member of a group is back after its dead self's session, an API process at once; so that one dies more often.
    const mayDie = (i: number, isApi: boolean) =>
      !extent.isOver() && (i < extent.deaths || (isApi && membersLeft > 0 && i < apiDeathsMax * extent.deaths));
    const dying = roles.map(async ({ name, choice, isApi }) => {
      const slot = name as Slot;
      for (let i = 0; mayDie(i, isApi); i++) {
        const point = nextPoint(name, choice, random);
        const victim = arena.node(slot);
        await victim.arm(point);
        await struckDown(slot, point, victim.end(strikeMsMax));
        did(point);
        await arena.start(slot);
      }
      if (!isApi) membersLeft--;
    });
    await Promise.all(dying);
  },
});

const pointsOf = (role: string): KillPoint[] => killPoints.filter(point => point.startsWith(`${role}:`));
export const allPoints = {
  api2: pointsOf('api'),
  reserve: pointsOf('reserve'),
  persist: pointsOf('persist'),
  stats: pointsOf('stats'),
};

/** The one process of the embedded profile dies at points of its writing thread, and starts again on its file. */
export const killedEmbedded = (choice: readonly (EmbeddedPoint | typeof anyMoment)[]): Fault<EmbeddedArena> => ({
  own: [],
  stock: 100_000,
  async run({ arena, crowd, random, did }) {
    using _ = crowd.pressing(extent.pressEachMs);
    for (let i = 0; i < embeddedDeathsMin * extent.deaths && !extent.isOver(); i++) {
      const point = nextPoint('embedded', choice, random);
      if (point === anyMoment) {
        crowd.press(10);
        await new Promise(resolve => setTimeout(resolve, anyMomentMsMax * random()));
        await arena.node.kill();
      } else {
        await arena.arm(point);
        crowd.press(2);
        await struckDown('the embedded process', point, arena.node.end(strikeMsMax));
      }
      did(point);
      await arena.start();
    }
  },
});

/** From outside, while requests are on their way in: also in the middle of a commit. */
export const anyMoment = 'embedded:any-moment';
const anyMomentMsMax = 40;
/** It waits for nobody's session. */
const embeddedDeathsMin = 3;
