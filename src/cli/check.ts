/** `dibs verify --history`: what the clients of a sale saw, held against what was kept. */
import { readFile } from 'node:fs/promises';
import { check } from '../checker/check.ts';
import { parseDump } from '../checker/dump.ts';
import { type CheckReport, findingKinds } from '../checker/findings.ts';
import { parseHistory } from '../checker/history.ts';
import { CommandError, exitCodes } from './connect.ts';
import { count, paint, plain, print, printJson } from './terminal.ts';

export async function checkFiles(
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
  const [lines, kept] = [parsed(parseHistory, await textOf(history)), parsed(parseDump, await textOf(dump))];
  const report = check(lines, kept);
  if (json) printJson(report);
  else for (const line of checkLines(report)) print(line);
  process.exitCode = report.ok ? exitCodes.ok : exitCodes.failed;
}

export function checkLines(report: CheckReport): string[] {
  const { calls, entries, findings, frames, ok, rows, totals } = report;
  const lines = findings.flatMap(({ detail, kind, witnesses }) => [
    `${paint('red', kind)}  ${plain(detail)}`,
    ...witnesses.map(witness => `    ${plain(JSON.stringify(witness) ?? '')}`),
  ]);
  const seen = [count(calls, 'call'), count(frames, 'event'), count(entries, 'entry', 'entries'), count(rows, 'row')];
  const found = findingKinds.filter(kind => totals[kind] > 0).map(kind => `${totals[kind]} ${kind}`);
  const verdict = ok ? paint('green', 'verified') : paint('red', `NOT as it must be (${found.join(', ')})`);
  return [...lines, `${verdict}: ${seen.join(', ')}`];
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new CommandError(`${path} cannot be read (${(error as NodeJS.ErrnoException).code}): name another file`);
  }
}

function parsed<T>(parse: (text: string) => T, text: string): T {
  try {
    return parse(text);
  } catch (error) {
    throw new CommandError((error as Error).message);
  }
}
