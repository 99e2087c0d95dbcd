import type { Mutant } from './mutant.ts';

/** Mistakes of the last wall: the tables, and how a batch is written to them. */
export const storeMutants: readonly Mutant[] = [
  {
    name: 'a winner may have two rows',
    file: 'sqlite/schema.ts',
    find: '  redeemed_at INTEGER,\n  PRIMARY KEY (coupon_id, slot),\n  UNIQUE (user_id, coupon_id)\n) STRICT, WITHOUT ROWID;',
    replace: '  redeemed_at INTEGER\n) STRICT;',
  },
  {
    name: 'a row has another time than its win',
    file: 'sqlite/winners.ts',
    find: 'w.offset, w.key, w.at).changes === 0',
    replace: 'w.offset, w.key, w.at + 1).changes === 0',
  },
  {
    name: 'winners are stored before the restock that they won by',
    file: 'sqlite/store.ts',
    find: '      for (const change of batch.sales) this.putSaleChange(partition, change);\n      for (const item of batch.setAside) this.winners.setAside(item);\n      const result = this.winners.insert(partition, batch.won);\n',
    replace:
      '      for (const item of batch.setAside) this.winners.setAside(item);\n      const result = this.winners.insert(partition, batch.won);\n      for (const change of batch.sales) this.putSaleChange(partition, change);\n',
  },
  {
    name: 'a commit by one who is behind is taken when it goes on',
    file: 'sqlite/store.ts',
    find: 'if (stored.changeNext !== batch.expectChangeNext) return',
    replace: 'if (stored.changeNext > batch.checkpoint.changeNext) return',
  },
  {
    name: 'a commit does not ask where the checkpoint is',
    file: 'sqlite/store.ts',
    find: 'const stored = this.checkpointNow(partition);',
    replace: 'const stored = { ...batch.checkpoint, changeNext: batch.expectChangeNext };',
  },
];
