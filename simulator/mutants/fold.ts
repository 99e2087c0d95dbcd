import type { Mutant } from './mutant.ts';

/** Mistakes of the fold and of the ledger that keeps it. */
export const foldMutants: readonly Mutant[] = [
  {
    name: 'one more than the stock',
    file: 'sale.ts',
    find: "taken >= terms.stock ? 'sold_out'",
    replace: "taken > terms.stock ? 'sold_out'",
  },
  {
    name: 'a holder may win again',
    file: 'sale.ts',
    find: "      if (sale.holders.has(entry.userId)) return { kind: 'lost', reason: 'duplicated' };\n",
    replace: '',
  },
  {
    name: 'holders grow, and their keys do not',
    file: 'sale.ts',
    find: 'new Uint32Array(2 * length)',
    replace: 'new Uint32Array(length)',
  },
  {
    name: 'sold out is asked before duplicated',
    file: 'sale.ts',
    find: 'if (sale.holders.has(entry.userId)) return',
    replace: 'if (sale.holders.has(entry.userId) && sale.taken < currentTerms(sale).stock) return',
  },
  {
    name: "take the newest entry's clock, which may step back",
    file: 'sale.ts',
    find: 'if (entry.at > frontier.clock) frontier.clock = entry.at;',
    replace: 'frontier.clock = entry.at;',
  },
  {
    name: "take the host's clock",
    file: 'sale.ts',
    find: 'if (entry.at > frontier.clock) frontier.clock = entry.at;',
    replace: 'frontier.clock = Date.now();',
  },
  {
    name: 'a restock with the same key adds again',
    file: 'sale.ts',
    find: 'if (refused || sale.changes.some(c => c.key === entry.key))',
    replace: 'if (refused)',
  },
  {
    name: 'a restock after the close re-opens',
    file: 'sale.ts',
    find: "const refused = phaseAt(terms, sale.taken, clock) === 'closed' || stock > stockMax;",
    replace: 'const refused = stock > stockMax;',
  },
  {
    name: 'a second opening opens again',
    file: 'sale.ts',
    find: "      if (sale) return { kind: 'unchanged' };\n",
    replace: '',
  },
  {
    name: 'a phase begins without a sale change',
    file: 'sale.ts',
    find: "if (decision.kind === 'terms' || phase !== currentTerms(sale).phase) {",
    replace: "if (decision.kind === 'terms') {",
  },
  {
    name: 'a replay forgets the sale changes',
    file: 'sale.ts',
    find: '      if (change.offset === offset) changes.push(',
    replace: '      if (change.offset === -1) changes.push(',
  },
  {
    name: 'skip instead of answering a replay',
    file: 'memory/ledger.ts',
    find: 'isNew ? fold.decide(entry) : fold.recorded(entry)',
    replace: 'isNew ? fold.decide(entry) : []',
  },
  {
    name: 'drop the offset check',
    file: 'memory/ledger.ts',
    find: '    if (batch.from > fold.frontier.next) return',
    replace: '    if (batch.from < 0) return',
  },
  {
    name: 'a replay is decided again',
    file: 'memory/ledger.ts',
    find: 'const isNew = entry.offset >= frontier.next;',
    replace: 'const isNew = true;',
  },
  {
    name: 'told moves wherever it is said to',
    file: 'memory/ledger.ts',
    find: '    if (from > state.told || next > state.fold.frontier.next) return undefined;\n',
    replace: '',
  },
  {
    name: 'a damaged sale goes on',
    file: 'memory/ledger.ts',
    find: 'if (!sale || sale.taken === sale.holders.size) return undefined;',
    replace: 'if (sale !== null) return undefined;',
  },
  {
    name: 'a rebuild forgets what is malformed',
    file: 'memory/ledger.ts',
    find: '  for (const offset of snapshot.malformed) fold.malformed.add(offset);\n',
    replace: '',
  },
  {
    name: "a rebuild forgets the log's clock",
    file: 'memory/ledger.ts',
    find: 'fold.frontier = copyOf(snapshot.frontier);',
    replace: 'fold.frontier = { ...copyOf(snapshot.frontier), clock: 0 };',
  },
  {
    name: 'a rebuild forgets the totals',
    file: 'memory/ledger.ts',
    find: 'counts: { ...counts }, taken: 0, holders: new Holders() });',
    replace: 'counts: { duplicated: 0, closed: 0, not_open: 0, sold_out: 0 }, taken: 0, holders: new Holders() });',
  },
  {
    name: "rebuild from the rows alone: forget the dead letter's slot",
    file: 'sqlite/snapshot.ts',
    find: 'AND a.coupon_id = ? AND a.partition = ? AND a.offset < ?',
    replace: 'AND a.coupon_id = ? AND a.partition = ? AND a.offset < ? AND 1 = 0',
  },
  {
    name: 'rebuild from all rows, beyond the checkpoint too',
    file: 'sqlite/snapshot.ts',
    find: 'WHERE u.coupon_id = ? AND c.partition = ? AND u.offset < ?`;',
    replace: 'WHERE u.coupon_id = ? AND c.partition = ? AND u.offset < ? + 1000000`;',
  },
];
