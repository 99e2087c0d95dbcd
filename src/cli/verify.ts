import type { CouponVerification, Verification, VerifyProblem } from '../client/index.ts';
import { connect, exitCodes, interruption, type ServerOptions } from './connect.ts';
import { count, number, paint, plain, print, printJson, table } from './terminal.ts';

/** A whole log is folded again: 1,000,000 entries take seconds. */
const verifyMsMax = 10 * 60_000;

export async function verify(couponId: string | undefined, options: ServerOptions): Promise<void> {
  using interrupted = interruption();
  const found = await connect(options).verify(couponId, { answerMsMax: verifyMsMax, signal: interrupted.signal });
  report(found, options);
}

/** Prints what a verification found, wherever it was made, and sets the exit code. */
export function report(found: Verification, { json }: { json?: boolean }): void {
  if (json) printJson(found);
  else for (const line of verificationLines(found)) print(line);
  process.exitCode = found.ok ? exitCodes.ok : exitCodes.failed;
}

export function verificationLines(found: Verification): string[] {
  const lines: string[] = [];
  if (found.coupons.length > 0) {
    lines.push(
      table<CouponVerification>(found.coupons, [
        { head: 'coupon', of: c => c.couponId },
        { head: 'stock', of: c => c.stock },
        { head: 'winners by the log', of: c => c.winners },
        { head: 'rows', of: c => c.rows },
        { head: 'set aside', of: c => c.setAside ?? 0 },
        { head: 'verdict', of: c => (c.problems.length === 0 ? 'as it must be' : count(totalOf(c), 'problem')) },
      ]),
    );
  }
  for (const { about, problem } of problemsOf(found)) lines.push(problemText(about, problem));
  const behind = found.behind ? `, ${number(found.behind)} not in the store yet and not judged` : '';
  const verdict = found.ok ? paint('green', 'verified') : paint('red', 'NOT as it must be');
  lines.push(
    `${verdict}: ${count(found.checkedEntries, 'entry', 'entries')} folded again, ${number(found.unanswered)} unanswered${behind}`,
  );
  return lines;
}

const totalOf = (coupon: CouponVerification) => coupon.problemsTotal ?? coupon.problems.length;

/** All that are named, coupon by coupon, then those of no single coupon. */
export function problemsOf(found: Verification): { about: string; problem: VerifyProblem }[] {
  const ofCoupons = found.coupons.flatMap(({ couponId, problems }) =>
    problems.map(problem => ({ about: `${couponId}: `, problem })),
  );
  return [...ofCoupons, ...(found.problems ?? []).map(problem => ({ about: '', problem }))];
}

function problemText(about: string, { detail, kind, offset, slot, userId }: VerifyProblem): string {
  const where = [
    slot === undefined ? '' : `slot ${number(slot)}`,
    userId === undefined ? '' : `user ${userId}`,
    offset === undefined ? '' : `offset ${number(offset)}`,
  ].filter(Boolean);
  const at = where.length === 0 ? '' : ` (${where.join(', ')})`;
  return `${paint('red', plain(kind))}  ${plain(`${about}${detail}${at}`)}`;
}
