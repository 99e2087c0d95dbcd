/** What is kept, held against the log: each winner has one row or one dead letter, and nobody else has any. */
import type { Dump, LetterLine, RowLine } from './dump.ts';
import type { Found } from './findings.ts';
import type { Judged, Sale, Truth, Win } from './truth.ts';

export function checkRows(dump: Dump, truth: Truth, found: Found): void {
  const rows = Map.groupBy(dump.rows, ({ coupon }) => coupon);
  const winners = dump.letters.filter(({ slot }) => slot !== null);
  const letters = Map.groupBy(winners, ({ coupon }) => coupon ?? '');
  for (const [coupon, some] of rows) {
    if (!truth.sales.has(coupon))
      found.add('unexpected', 'rows of a coupon that was never opened', ...some.slice(0, 3));
  }
  for (const [coupon, some] of letters) {
    if (!truth.sales.has(coupon))
      found.add('unexpected', 'winners set aside of a coupon that was never opened', ...some.slice(0, 3));
  }
  for (const sale of truth.sales.values()) {
    checkSale(sale, rows.get(sale.coupon) ?? [], letters.get(sale.coupon) ?? [], found);
  }
  checkMalformed(dump.letters, truth, found);
}

function checkSale(sale: Sale, rows: readonly RowLine[], letters: readonly LetterLine[], found: Found): void {
  if (rows.length > sale.stock) found.add('duplicated', `${rows.length} rows for ${sale.stock} units`, sale.coupon);
  const byUser = new Map<string, RowLine>();
  const bySlot = new Map<number, RowLine>();
  for (const row of rows) {
    const [ofUser, ofSlot] = [byUser.get(row.user), bySlot.get(row.slot)];
    if (ofUser) found.add('duplicated', 'two rows of one user', ofUser, row);
    if (ofSlot) found.add('duplicated', 'two rows of one slot', ofSlot, row);
    byUser.set(row.user, row);
    bySlot.set(row.slot, row);
    checkRow(row, sale.wins.get(row.user), found);
  }
  const waiting = new Map<string, LetterLine>();
  for (const letter of letters) {
    const user = letter.user ?? '';
    const win = sale.wins.get(user);
    if (!win || win.slot !== letter.slot || !isOf(letter, win)) {
      found.add('unexpected', 'a winner set aside who did not win so', letter, win?.entry.line);
    }
    checkReason(letter, 'refused_by_store', found);
    const twin = byUser.get(user) ?? waiting.get(user);
    if (twin) found.add('duplicated', 'a winner is kept twice', letter, twin);
    waiting.set(user, letter);
  }
  for (const [user, { entry, slot }] of sale.wins) {
    if (byUser.has(user) || waiting.has(user)) continue;
    found.add('lost', `won slot ${slot}, and has neither row nor dead letter`, entry.line);
  }
}

const isOf = ({ key, offset, partition }: LetterLine, { entry: { entry, line } }: Win): boolean =>
  partition === line.partition && offset === line.offset && entry.type === 'request' && key === entry.key;

function checkRow(row: RowLine, win: Win | undefined, found: Found): void {
  if (!win) {
    found.add('unexpected', 'a row of who did not win', row);
    return;
  }
  const { entry, line } = win.entry;
  if (win.slot !== row.slot) found.add('out_of_order', `won slot ${win.slot}, and has ${row.slot}`, row, line);
  if (row.offset === line.offset && row.at === line.at && entry.type === 'request' && row.key === entry.key) return;
  found.add('contradicted', 'a row of another request than the one that won', row, line);
}

/** The words behind it are those of the store, or of the build that set it aside. */
function checkReason(letter: LetterLine, reason: string, found: Found): void {
  if (letter.reason.split(':', 1)[0] !== reason)
    found.add('contradicted', `a dead letter for another reason than ${reason}`, letter);
}

function checkMalformed(letters: readonly LetterLine[], truth: Truth, found: Found): void {
  const kept = new Map<string, LetterLine>();
  for (const letter of letters) {
    if (letter.slot !== null) continue;
    const place = `${letter.partition}/${letter.offset}`;
    const twin = kept.get(place);
    if (twin) found.add('duplicated', 'one entry is kept twice as a dead letter', twin, letter);
    kept.set(place, letter);
    const entry: Judged | undefined = truth.partitions.get(letter.partition)?.entries[letter.offset];
    if (entry?.verdict.kind !== 'malformed') {
      found.add('unexpected', 'a dead letter of an entry that can be read, or is not there', letter, entry?.line);
    }
    checkReason(letter, 'malformed', found);
    // What cannot be read names nobody.
    if (letter.coupon !== null || letter.user !== null || letter.key !== null)
      found.add('unexpected', 'a dead letter of a malformed entry that names somebody', letter, entry?.line);
  }
  for (const [partition, { entries }] of truth.partitions) {
    for (const { line, verdict } of entries) {
      if (verdict.kind !== 'malformed' || kept.has(`${partition}/${line.offset}`)) continue;
      found.add('lost', 'a malformed entry without its dead letter', line);
    }
  }
}
