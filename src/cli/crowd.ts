/** Many claims from one process: who presses when, how long it took, how it ended. Every wait is bounded. */
import type { Claim, ClaimOutcome } from '../client/index.ts';

export interface CrowdPlan {
  users: number;
  /** Presses a second; undefined: as fast as the connections carry. */
  rate?: number | undefined;
  /** When each user presses, ms from the beginning, ascending; instead of a rate. */
  dueMs?: readonly number[];
  /** Users whose request is under way at once. */
  connections: number;
  /** With nothing answered for this long the rest is given up. */
  silenceMsMax: number;
}

export interface Tally {
  pressed: number;
  /** 202: durable in the log. */
  accepted: number;
  answered: number;
  issued: number;
  duplicated: number;
  inactive: Record<string, number>;
  /** By code, at the door or by the task. */
  refused: Record<string, number>;
  /** Those that never were in the log, by code and reason. */
  atDoor: Record<string, number>;
  unanswered: number;
  /** Why, of the first few. */
  unansweredWhy: string[];
  /** Requests sent again, all users together. */
  retries: number;
  /** Outcomes that came by asking, not by the push. */
  polled: number;
  slots: number[];
  /** From the press to 202, and from the press to the pushed outcome. */
  acceptedMs: number[];
  pushedMs: number[];
  elapsedMs: number;
  /** Stopped before everybody had pressed. */
  partial: boolean;
}

const tickMs = 4;
const lookMs = 100;
const whysMax = 5;

const emptyTally = (): Tally => ({
  pressed: 0,
  accepted: 0,
  answered: 0,
  issued: 0,
  duplicated: 0,
  inactive: {},
  refused: {},
  atDoor: {},
  unanswered: 0,
  unansweredWhy: [],
  retries: 0,
  polled: 0,
  slots: [],
  acceptedMs: [],
  pushedMs: [],
  elapsedMs: 0,
  partial: false,
});

/**
 * Lets the crowd press and resolves when all are answered, the signal fires, or silence lasts too long.
 * With a rate or a schedule, times count from when a user meant to press: a server that makes the crowd queue does not
 * look fast.
 */
export function runCrowd(
  plan: CrowdPlan,
  press: (user: number) => Claim,
  signal: AbortSignal,
  look: (tally: Tally) => void,
): Promise<Tally> {
  const { connections, rate, silenceMsMax, users } = plan;
  const dueMs = plan.dueMs ?? (rate === undefined ? undefined : { at: (user: number) => (user * 1_000) / rate });
  const mayPress = (user: number) => dueMs === undefined || begun + (dueMs.at(user) as number) <= performance.now();
  const tally = emptyTally();
  const open = new Set<Claim>();
  const begun = performance.now();
  const ended = Promise.withResolvers<Tally>();
  let posting = 0;
  let newsAt = begun;
  let stopped = false;

  const pump = () => {
    while (!stopped && tally.pressed < users && posting < connections && mayPress(tally.pressed))
      begin(tally.pressed++);
  };
  const news = () => {
    newsAt = performance.now();
  };

  const begin = (user: number) => {
    const pressedAt = dueMs === undefined ? performance.now() : begun + (dueMs.at(user) as number);
    if (open.size === 0) news();
    const claim = press(user);
    open.add(claim);
    posting++;
    const sent = () => {
      posting--;
      pump();
    };
    claim.taskId.then(taskId => {
      news();
      if (taskId !== undefined) {
        tally.accepted++;
        tally.acceptedMs.push(performance.now() - pressedAt);
      }
      sent();
    }, sent);
    claim.outcome.then(
      end => {
        news();
        if (claim.via === 'stream') tally.pushedMs.push(performance.now() - pressedAt);
        if (claim.via === 'poll') tally.polled++;
        note(tally, end);
        close(claim);
      },
      error => {
        tally.unanswered++;
        if (tally.unansweredWhy.length < whysMax) tally.unansweredWhy.push(String(error?.message ?? error));
        close(claim);
      },
    );
  };

  const close = (claim: Claim) => {
    tally.retries += Math.max(0, claim.tries - 1);
    open.delete(claim);
    if (open.size === 0 && (stopped || tally.pressed === users)) finish();
  };
  const stop = (why: string) => {
    if (stopped) return;
    stopped = true;
    tally.partial = tally.pressed < users;
    for (const claim of open) claim.abort(new Error(why));
    if (open.size === 0) finish();
  };
  const finish = () => {
    clearInterval(ticker);
    clearInterval(looker);
    signal.removeEventListener('abort', onAbort);
    tally.elapsedMs = performance.now() - begun;
    ended.resolve(tally);
  };
  const onAbort = () => stop('stopped');

  const ticker = dueMs === undefined ? undefined : setInterval(pump, tickMs);
  const looker = setInterval(() => {
    tally.elapsedMs = performance.now() - begun;
    look(tally);
    if (open.size > 0 && performance.now() - newsAt > silenceMsMax)
      stop(`nothing was answered for ${silenceMsMax / 1_000} s`);
  }, lookMs);
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  pump();
  return ended.promise;
}

function note(tally: Tally, end: ClaimOutcome): void {
  tally.answered++;
  const add = (to: Record<string, number>, name: string) => {
    to[name] = (to[name] ?? 0) + 1;
  };
  const door = (name: string) => {
    if (end.taskId === undefined) add(tally.atDoor, name);
  };
  switch (end.outcome) {
    case 'issued':
      tally.issued++;
      tally.slots.push(end.slot);
      return;
    case 'duplicated':
      tally.duplicated++;
      door('DUPLICATED_COUPON');
      return;
    case 'inactive':
      add(tally.inactive, end.reason);
      door(`INACTIVE_COUPON ${end.reason}`);
      return;
    case 'refused':
      add(tally.refused, end.code);
      door(end.code);
      return;
  }
}
