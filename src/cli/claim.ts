import type { ClaimOutcome, ProblemError, Progress } from '../client/index.ts';
import { createClient } from '../client/index.ts';
import { defaultTiming } from '../client/timing.ts';
import { CommandError, connect, exitCodes, interruption, type ServerOptions } from './connect.ts';
import { number, paint, plain, print, printJson, StatusLine, time } from './terminal.ts';

export interface ClaimCommandOptions extends ServerOptions {
  user?: string;
  key?: string;
  /** Seconds. */
  wait: number;
}

export async function claim(couponId: string, options: ClaimCommandOptions): Promise<void> {
  if (options.user === undefined && options.token === undefined) {
    throw new CommandError('who claims? give --user, or --token where the server asks for one', exitCodes.usage);
  }
  // Says at once when nothing answers or there is no such coupon; the claim itself would be patient.
  const waitMs = options.wait * 1_000;
  const begun = performance.now();
  await connect(options)
    .coupons.get(couponId, { answerMsMax: Math.min(waitMs, defaultTiming.answerMsMax) })
    .catch((error: ProblemError) => {
      if (error.status !== 401 && error.status !== 403) throw error;
    });
  const client = createClient({ baseUrl: options.url, token: options.token, userId: options.user });
  using interrupted = interruption();
  const started = performance.now();
  const claim = client.claim(couponId, {
    signal: interrupted.signal,
    ...(options.key === undefined ? {} : { key: options.key }),
  });
  let stands = 'whether the request stands is not known';
  claim.taskId.then(
    taskId => {
      if (taskId !== undefined) stands = 'the request stands';
    },
    // The outcome is rejected for the same reason.
    () => {},
  );
  const line = new StatusLine();
  const late = setTimeout(
    () => {
      const why = `no outcome within ${options.wait} s; ${stands}, ask again with --key ${claim.key}`;
      claim.abort(new CommandError(why));
    },
    waitMs - (performance.now() - begun),
  );
  try {
    for await (const progress of claim) if (!options.json) line.show(progressText(progress));
    const outcome = await claim.outcome;
    line.clear();
    if (options.json) printJson(outcome);
    else print(`${outcomeText(outcome)} ${paint('dim', `(${Math.round(performance.now() - started)} ms)`)}`);
    process.exitCode = outcome.outcome === 'issued' ? exitCodes.ok : exitCodes.failed;
  } catch (error) {
    line.clear();
    if (interrupted.signal.aborted) {
      const why = `stopped; ${stands}, ask again with --key ${claim.key}`;
      throw new CommandError(why, exitCodes.interrupted);
    }
    throw error;
  } finally {
    clearTimeout(late);
  }
}

function progressText({ ahead, state }: Progress): string {
  switch (state) {
    case 'accepted':
      if (ahead === undefined) return 'in the line';
      return ahead === 0 ? 'in the line, next' : `in the line, at most ${number(ahead)} ahead`;
    case 'reserved':
      return 'a coupon is held for you, being written down';
    case 'set_aside':
      return 'set aside: an operator has to look (`dibs dead-letters list`)';
  }
}

function outcomeText(end: ClaimOutcome): string {
  switch (end.outcome) {
    case 'issued':
      return `${paint('green', 'issued')}: slot ${number(end.slot)}, coupon ${end.userCouponId}`;
    case 'duplicated':
      return `${paint('yellow', 'duplicated')}: this user holds slot ${number(end.slot)} already, coupon ${end.userCouponId}`;
    case 'inactive':
      switch (end.reason) {
        case 'sold_out':
          return `${paint('red', 'sold out')}: every unit has gone`;
        case 'closed':
          return `${paint('red', 'closed')}: this sale is over`;
        case 'not_open':
          return `${paint('yellow', 'not open')}: ${end.opensAt ? `it opens at ${time(end.opensAt)}` : 'not yet'}`;
      }
      break;
    case 'refused':
      return `${paint('red', 'refused')}: ${plain(end.detail)} (${plain(end.code)})`;
  }
  return 'inactive';
}
