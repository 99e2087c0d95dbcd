/** Judgements that the checker cannot make alone: it finds contradictions, in a dump of what has come to rest. */
import { check } from '../src/checker/check.ts';
import type { Dump, RowLine } from '../src/checker/dump.ts';
import { type CheckReport, type FindingKind, Found } from '../src/checker/findings.ts';
import type { HistoryLine, Issue } from '../src/checker/history.ts';
import { Truth } from '../src/checker/truth.ts';

/** What is not as it must be. */
export class Violated extends Error {
  override readonly name = 'Violated';
}

export const foundText = ({ totals }: CheckReport): string =>
  (Object.keys(totals) as FindingKind[])
    .flatMap(kind => (totals[kind] > 0 ? [`${totals[kind]} ${kind}`] : []))
    .join(', ');

/** Who is turned away contradicts nothing. `turnedAway`: what they heard. @throws Violated unless people get in. */
export function assertLetIn(when: string, history: readonly HistoryLine[], turnedAway: readonly string[]): void {
  if (turnedAway.length > 0) throw new Violated(`${turnedAway.length} were turned away ${when}: ${turnedAway[0]}`);
  const presses = history.filter(({ op }) => op === 'issue') as Issue[];
  // That it is sold out or closed the checker holds against the log.
  const isAnswered = presses.some(({ status, body }) => status === 202 || body?.code === 'INACTIVE_COUPON');
  if (!isAnswered) throw new Violated(`nobody was let in ${when}, of ${presses.length} requests`);
}

/** @throws Violated when a request that was made since `from` is accepted, or there was none. */
export function assertShut(when: string, history: readonly HistoryLine[], from: number): void {
  const presses = history.filter(line => line.op === 'issue' && line.from >= from) as Issue[];
  const accepted = presses.filter(({ status }) => status === 202);
  if (presses.length === 0) throw new Error(`nobody pressed ${when}`);
  if (accepted.length > 0) throw new Violated(`${accepted.length} of ${presses.length} were accepted ${when}`);
}

/** `leaks`: lines in which a process says a secret that it was given. @throws Violated when there is one */
export function assertUnsaid(leaks: readonly string[]): void {
  if (leaks.length > 0) throw new Violated(`a secret was said in ${leaks.length} lines: ${leaks[0]}`);
}

/** Of a service at rest. @throws Violated */
export function assertRight(history: readonly HistoryLine[], dump: Dump): CheckReport {
  const report = check(history, dump);
  if (!report.ok) throw new Violated(`the checker found ${foundText(report)}: ${JSON.stringify(report.findings[0])}`);
  // Nobody here has a rate or asks badly, and what breaks is no 500.
  const unjudged = Object.keys(report.unjudged);
  if (unjudged.length > 0) throw new Violated(`the crowd was answered with ${unjudged.join(', ')}`);
  return report;
}

/** Of one whose requests were cut off on purpose: that shows, but no two have one task or slot. @throws Violated */
export function assertLoss(history: readonly HistoryLine[], dump: Dump): CheckReport {
  const report = check(history, dump);
  const { lost, duplicated, out_of_order } = report.totals;
  if (lost > 0 && duplicated + out_of_order === 0) return { ...report, ok: true };
  throw new Violated(`the log was cut, and the checker found ${foundText(report) || 'nothing'}`);
}

/** Of one that stopped with all its requests kept: it owes answers, and rows of which nobody was told. @throws Violated */
export function assertKept(history: readonly HistoryLine[], dump: Dump): CheckReport {
  const report = check(history, { ...dump, rows: [...dump.rows, ...owedRows(history, dump)] });
  report.totals.unanswered = 0;
  const findings = report.findings.filter(({ kind }) => kind !== 'unanswered');
  if (findings.length === 0) return { ...report, ok: true, findings };
  throw new Violated(`the checker found ${foundText(report)}: ${JSON.stringify(findings[0])}`);
}

function owedRows(history: readonly HistoryLine[], dump: Dump): RowLine[] {
  const users = new Map<string, string>();
  for (const line of history)
    if (line.op === 'issue' && line.body?.taskId !== undefined) users.set(line.body.taskId, line.user);
  const told = new Set<string | undefined>();
  for (const line of history) {
    if (line.body?.outcome !== 'issued') continue;
    if (line.op === 'issue') told.add(line.user);
    else if (line.op === 'frame' || line.op === 'task') told.add(users.get(line.task));
  }
  const kept = new Set([...dump.rows, ...dump.letters].map(({ coupon, user }) => `${coupon} ${user}`));
  const owed: RowLine[] = [];
  for (const { coupon, wins } of new Truth(dump.entries, new Found()).sales.values())
    for (const [user, { entry: found, slot }] of wins) {
      const { entry, line } = found;
      if (entry.type !== 'request' || told.has(user) || kept.has(`${coupon} ${user}`)) continue;
      owed.push({ kind: 'row', coupon, user, slot, key: entry.key, offset: line.offset, at: line.at });
    }
  return owed;
}
