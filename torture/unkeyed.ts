/**
 * Who presses without an Idempotency-Key. The client always has one, so the press is sent here; what follows it is the
 * client's. A press that was not answered is made again, as anybody would: both may stand in the log.
 */
import { outcomeOf } from '../src/client/claim.ts';
import { type Following, follow } from '../src/client/follow.ts';
import { type Http, ProblemError, UnreachableError } from '../src/client/http.ts';
import type { ClaimOutcome } from '../src/client/index.ts';
import { backoffMs, systemClock, type Timing } from '../src/client/timing.ts';
import { isTask, type TaskStatus } from '../src/client/wire.ts';

export interface UnkeyedPress {
  http: Http;
  timing: Timing;
  couponId: string;
  user: string;
  signal: AbortSignal;
}

/** Refusals that tell how the press ended; every other one turns away who pressed. */
const verdicts = new Set(['DUPLICATED_COUPON', 'INACTIVE_COUPON']);

/** What turned the user away, if anything did. @throws as the client's claim does: the signal's reason, or silence. */
export async function pressUnkeyed(press: UnkeyedPress): Promise<string | undefined> {
  const answer = await accepted(press);
  if (answer instanceof ProblemError) return verdicts.has(answer.code) ? undefined : `${answer.code}, ${answer.detail}`;
  const { http, timing, couponId, signal } = press;
  const server = { neverPushes: false, streamsOpen: 0, streamsMax: Number.POSITIVE_INFINITY };
  const { taskId } = answer;
  const following: Following = {
    http,
    timing,
    clock: systemClock,
    server,
    couponId,
    key: '',
    taskId,
    signal,
    progress() {},
  };
  const outcome: ClaimOutcome = outcomeOf((await follow(following)).task);
  return outcome.outcome === 'refused' ? `${outcome.code}, ${outcome.detail}` : undefined;
}

/** Until the server takes it or refuses it for good. */
async function accepted({ http, timing, couponId, user, signal }: UnkeyedPress): Promise<TaskStatus | ProblemError> {
  const path = `/coupons/${encodeURIComponent(couponId)}/issue`;
  for (let tries = 1; ; tries++) {
    try {
      return await http.call<TaskStatus>({ method: 'POST', path, headers: { 'x-user-id': user }, signal, is: isTask });
    } catch (error) {
      const isRefused = error instanceof ProblemError && error.status >= 400 && error.status < 500;
      if (isRefused && error.status !== 429) return error;
      if (!(error instanceof ProblemError || error instanceof UnreachableError)) throw error;
    }
    await systemClock.wait(backoffMs(tries, timing, systemClock.random), signal);
    signal.throwIfAborted();
  }
}
