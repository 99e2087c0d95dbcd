/** `dibs verify --history`: what the clients of a sale saw, held against what was kept. */
import { createReadStream } from 'node:fs';
import { check } from '../checker/check.ts';
import { parseDump } from '../checker/dump.ts';
import { type CheckReport, findingKinds } from '../checker/findings.ts';
import { type Lines, parseHistory } from '../checker/history.ts';
import { CommandError, exitCodes } from './connect.ts';
import { count, paint, plain, print, printJson } from './terminal.ts';

export async function checkFiles(
  couponId: string | undefined,
  history: string | undefined,
  dump: string | undefined,
  { json }: { json?: boolean },
): Promise<void> {
  if (history === undefined || dump === undefined) {
    throw new CommandError(
      '--history and --dump go together: `rush --history` writes one, `dump` the other',
      exitCodes.usage,
    );
  }
  if (couponId !== undefined)
    throw new CommandError('a history is checked as a whole: name no coupon', exitCodes.usage);
  const [lines, kept] = [await parsed(parseHistory, history), await parsed(parseDump, dump)];
  // Of a history without calls everything would be as it must be.
  if (!lines.some(({ op }) => op !== 'frame'))
    throw new CommandError(`${history} has no call: nothing could be checked`);
  const report = check(lines, kept);
  if (json) printJson(report);
  else for (const line of checkLines(report)) print(line);
  process.exitCode = report.ok ? exitCodes.ok : exitCodes.failed;
}

export function checkLines(report: CheckReport): string[] {
  const { calls, entries, findings, frames, ok, rows, totals, unjudged } = report;
  const lines = findings.flatMap(({ detail, kind, witnesses }) => [
    `${paint('red', kind)}  ${plain(detail)}`,
    ...witnesses.map(witness => `    ${plain(JSON.stringify(witness) ?? '')}`),
  ]);
  const seen = [count(calls, 'call'), count(frames, 'event'), count(entries, 'entry', 'entries'), count(rows, 'row')];
  const refused = Object.entries(unjudged).map(
    ([code, n]) => `not judged: ${count(n, 'call')} answered with ${plain(code)}`,
  );
  const found = findingKinds.filter(kind => totals[kind] > 0).map(kind => `${totals[kind]} ${kind}`);
  const verdict = ok ? paint('green', 'verified') : paint('red', `NOT as it must be (${found.join(', ')})`);
  return [...lines, ...refused, `${verdict}: ${seen.join(', ')}`];
}

async function parsed<T>(parse: (lines: Lines) => Promise<T>, path: string): Promise<T> {
  try {
    return await parse(linesOf(path));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new CommandError(
      code === undefined ? `${path}: ${message}` : `${path} cannot be read (${code}): name another file`,
    );
  }
}

/** Without its whole text in one string, which has a length at most. */
async function* linesOf(path: string): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of createReadStream(path, 'utf8') as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() as string;
    yield* lines;
  }
  yield rest;
}
