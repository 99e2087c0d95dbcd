/** The terms of a sale as they are stored, held against those that the log gives. */
import type { CouponRow } from './coupon.ts';
import type { SaleChange } from './sale.ts';
import type { Findings } from './verify-findings.ts';

/** The coupon's row follows the sale changes, marked or not: it is as they were at the checkpoint or at a later one. */
export function compareTerms(row: CouponRow, changes: readonly SaleChange[], next: number, found: Findings): void {
  const [opening] = changes as [SaleChange];
  const { body } = row;
  const isAsOpened =
    body.stock === opening.stock && body.opensAt === opening.opensAt && body.closesAt === opening.closesAt;
  if (!isAsOpened) {
    const shown = ({ stock, opensAt, closesAt }: Pick<SaleChange, 'stock' | 'opensAt' | 'closesAt'>): string =>
      `stock ${stock}, opensAt ${opensAt}, closesAt ${closesAt}`;
    found.add('stock', {
      detail: `its row was created with ${shown(body)}, the log opened it with ${shown(opening)}`,
    });
  }
  const later = changes.findIndex(change => change.offset >= next);
  const versions = changes.slice(later < 0 ? -1 : Math.max(0, later - 1));
  if (versions.some(terms => terms.stock === row.stock && terms.closed === row.closed)) return;
  const shown = (terms: { stock: number; closed: boolean }): string =>
    `stock ${terms.stock}${terms.closed ? ', closed' : ''}`;
  found.add('stock', { detail: `its row has ${shown(row)}, the log ${shown(versions[0] as SaleChange)}` });
}

export function compareChanges(stored: readonly SaleChange[], ought: readonly SaleChange[], found: Findings): void {
  const shown = (change: SaleChange | undefined): string =>
    change
      ? JSON.stringify([
          change.offset,
          change.at,
          change.stock,
          change.opensAt,
          change.closesAt,
          change.closed,
          change.phase,
          change.key,
        ])
      : 'nothing';
  for (let i = 0; i < Math.max(stored.length, ought.length); i++) {
    const [has, should] = [stored[i], ought[i]];
    if (shown(has) === shown(should)) continue;
    const offset = (has ?? (should as SaleChange)).offset;
    found.add('stock', {
      detail: `sale change ${i + 1} is stored as ${shown(has)}, the log gives ${shown(should)}`,
      offset,
    });
    return;
  }
}
