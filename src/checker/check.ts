/**
 * Holds what the clients saw against what was kept. The rules are told once more in truth.ts; of the service there is
 * nothing here but the codec of an entry. A history may begin at any time and be of any coupons: what it does not
 * name is judged by log and rows alone, but a coupon that it created it has all calls of.
 */
import { Asked } from './asked.ts';
import { Door } from './door.ts';
import type { Dump } from './dump.ts';
import { type CheckReport, Found } from './findings.ts';
import type { HistoryLine } from './history.ts';
import { checkRows } from './rows.ts';
import { checkTold } from './told.ts';
import { Truth } from './truth.ts';

export function check(history: readonly HistoryLine[], dump: Dump): CheckReport {
  const found = new Found();
  const truth = new Truth(dump.entries, found);
  const asked = new Asked(history, truth, found);
  const aside = new Set(dump.letters.flatMap(({ coupon, slot, user }) => (slot === null ? [] : [`${coupon} ${user}`])));
  const door = new Door(asked, truth, aside, found);
  for (const line of history) if (line.op !== 'frame') door.check(line);
  checkTold(history, asked, truth, aside, found);
  checkRows(dump, truth, found);
  const frames = history.filter(({ op }) => op === 'frame').length;
  const { findings, totals } = found;
  return {
    ok: findings.length === 0,
    calls: history.length - frames,
    frames,
    entries: dump.entries.length,
    rows: dump.rows.length,
    unjudged: door.unjudged,
    totals,
    findings,
  };
}
