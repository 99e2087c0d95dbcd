import type { Mutant } from './mutant.ts';

/** Mistakes of the stages and of the loop that runs them. */
export const stageMutants: readonly Mutant[] = [
  {
    name: 'told before the append is acknowledged',
    file: 'reserve.ts',
    find: '  await appendInParts(log, changeLog, partition, ',
    replace:
      '  if (frontier) await ledger.told(partition, tenure.build, tenure.markFrom, next);\n  await appendInParts(log, changeLog, partition, ',
  },
  {
    name: 'one change is left out between two parts of an append',
    file: 'log.ts',
    find: '    from = to;\n',
    replace: '    from = to + 1;\n',
  },
  {
    name: "a stage's rests and notes are measured by the host's clock",
    file: 'stage.ts',
    find: '    this.tools = tools;',
    replace: '    this.tools = { ...tools, host: { ...tools.host, elapsed: tools.host.now } };',
  },
  {
    name: 'a new owner begins at next, not at told',
    file: 'reserve.ts',
    find: 'const from = Math.min(told, place.next);',
    replace: 'const from = place.next;',
  },
  {
    name: 'a new owner marks from next: a hole',
    file: 'reserve.ts',
    find: 'markFrom: told, touched',
    replace: 'markFrom: place.next, touched',
  },
  {
    name: 'a mark forgets what earlier batches touched',
    file: 'reserve.ts',
    find: 'alsoCount: [...touched],',
    replace: 'alsoCount: [],',
  },
  {
    name: 'only what the last ledger call of a batch changed is told',
    file: 'reserve.ts',
    find: 'for (const change of applied.changes) all.changes.push(change);',
    replace: 'all.changes = applied.changes;',
  },
  {
    name: 'a mark forgets what earlier ledger calls of the batch touched',
    file: 'reserve.ts',
    find: "    for (const entry of part) if (entry.type !== 'malformed') touched.add(entry.couponId);\n",
    replace:
      "    if (i === entries.length) for (const entry of part) if (entry.type !== 'malformed') touched.add(entry.couponId);\n",
  },
  {
    name: 'the bytes of a malformed entry are those of its text',
    file: 'reserve.ts',
    find: "Buffer.from(bytes ?? Buffer.from(text)).toString('base64')",
    replace: "Buffer.from(text).toString('base64')",
  },
  {
    name: 'the mark stands before its changes',
    file: 'reserve.ts',
    find: "    changes.push({ type: 'mark', from: tenure.markFrom",
    replace: "    changes.unshift({ type: 'mark', from: tenure.markFrom",
  },
  {
    name: 'the mark hashes the first entry, not the last',
    file: 'reserve.ts',
    find: 'hash: entryHash(last),',
    replace: 'hash: entryHash(raw[0] as LogEntry),',
  },
  {
    name: 'what is malformed is not told',
    file: 'reserve.ts',
    find: 'const refused = refusedOf(batch.entries, entries);',
    replace: 'const refused = refusedOf(batch.entries, []);',
  },
  {
    name: 'what is malformed is told at the end of its batch',
    file: 'reserve.ts',
    find: '    while (r < refused.length && (refused[r] as RefusedEntry).offset < change.offset) {',
    replace: '    while (r > refused.length && (refused[r] as RefusedEntry).offset < change.offset) {',
  },
  {
    name: 'told though an append failed',
    file: 'reserve.ts',
    find: 'changes.map(keyOf), changes);',
    replace: 'changes.map(keyOf), changes).catch(() => {});',
  },
  {
    name: 'no copy of a malformed entry',
    file: 'persist.ts',
    find: '    await copyToDeadLetters(partition, malformed, tools, requestDeadLetters);\n',
    replace: '',
  },
  {
    name: 'a copy that could not be appended is forgotten',
    file: 'persist.ts',
    find: 'malformed, tools, requestDeadLetters);\n',
    replace: 'malformed, tools, requestDeadLetters).catch(() => {});\n',
  },
  {
    name: 'a lost ledger is noticed only by the next request',
    file: 'reserve.ts',
    find: "      if (place.kind === 'missing') return mend(() => again(partition, undefined));\n      const moved",
    replace: "      if (place.kind === 'missing') return done;\n      const moved",
  },
  {
    name: 'a ledger that went back is noticed only by the next request',
    file: 'reserve.ts',
    find: 'return moved ? mend(() => anew(partition)) : done;',
    replace: 'return done;',
  },
  {
    name: 'the checkpoint moves by winners, not by marks',
    file: 'persist.ts',
    find: '      plan.won.push(change);\n',
    replace:
      '      plan.won.push(change);\n      plan.checkpoint.next = Math.max(plan.checkpoint.next, change.offset + 1);\n',
  },
  {
    name: 'an earlier mark takes the checkpoint back',
    file: 'persist.ts',
    find: '      if (change.next < plan.checkpoint.next) return;\n',
    replace: '',
  },
  {
    name: 'the board is written before the commit',
    file: 'persist.ts',
    find: '      const committed = await tools.store.commit(partition, plan);\n',
    replace:
      '      await show(partition, plan.checkpoint, [], []);\n      const committed = await tools.store.commit(partition, plan);\n',
  },
  {
    name: 'the checkpoint is read before the board that is written anew',
    file: 'persist.ts',
    find: '    const board = await tools.board.read(partition, []);\n    const { changeNext, next: committedNext } = await tools.store.checkpoint(partition);\n',
    replace:
      '    const { changeNext, next: committedNext } = await tools.store.checkpoint(partition);\n    const board = await tools.board.read(partition, []);\n',
  },
  {
    name: 'a board goes back with an update that was late',
    file: 'memory/board.ts',
    find: 'const isLate = board.changeNext !== update.base || update.changeNext < update.base;',
    replace: 'const isLate = false;',
  },
  {
    name: 'a board is restored whatever is there',
    file: 'memory/board.ts',
    find: '    if (there >= changeNext && there !== replaces) return;\n',
    replace: '',
  },
  {
    name: 'a board that is ahead of the store is not put back',
    file: 'persist.ts',
    find: 'setAside }, board?.changeNext);',
    replace: 'setAside }, undefined);',
  },
  {
    name: 'a board is restored without what is set aside',
    file: 'persist.ts',
    find: 'const setAside = await winnersSetAside(partition, tools.store);',
    replace: 'const setAside: number[] = [];',
  },
  {
    name: 'refused winners are not shown as set aside',
    file: 'persist.ts',
    find: '        committed.refused.map(r => r.offset),\n',
    replace: '        [],\n',
  },
  {
    name: 'redriven winners stay shown as set aside',
    file: 'persist.ts',
    find: '        committed.restored,\n',
    replace: '        [],\n',
  },
  {
    name: 'no copy of a refused winner',
    file: 'persist.ts',
    find: 'await copyToDeadLetters(partition, committed.refused, tools).catch(',
    replace: 'await copyToDeadLetters(partition, [], tools).catch(',
  },
  {
    name: 'an unreadable change is dropped',
    file: 'persist.ts',
    find: '      plan.setAside.push(unreadableChange(batch.partition, entry, change));\n',
    replace: '',
  },
  {
    name: 'no copy of an unreadable change',
    file: 'persist.ts',
    find: '    await copyToDeadLetters(partition, unreadable, tools);\n',
    replace: '',
  },
  {
    name: 'copies of dead letters have no bytes',
    file: 'persist.ts',
    find: 'JSON.stringify({ v: 1, ...letter })',
    replace: "JSON.stringify({ v: 1, ...letter, bytes: '' })",
  },
  {
    name: 'the checkpoint keeps an older change hash',
    file: 'persist.ts',
    find: '    plan.checkpoint.changeHash = entryHash(last);\n',
    replace: '',
  },
  {
    name: 'the checkpoint forgets the strays of a mark',
    file: 'persist.ts',
    find: 'Object.assign(plan.checkpoint, { next, clock, hash, strays });',
    replace: 'Object.assign(plan.checkpoint, { next, clock, hash });',
  },
  {
    name: 'sale changes are not stored',
    file: 'persist.ts',
    find: '      plan.sales.push(change);\n',
    replace: '',
  },
  {
    name: 'totals are not stored',
    file: 'persist.ts',
    find: '      Object.assign(plan.counts, counts);\n',
    replace: '',
  },
  {
    name: 'a store that went back is noticed only by the next change',
    file: 'persist.ts',
    find: '      const { changeNext } = await tools.store.checkpoint(partition);\n',
    replace: '      const changeNext = checkpoints.get(partition)?.changeNext;\n',
  },
  {
    name: 'go back is not obeyed',
    file: 'stage.ts',
    find: '        this.place = verdict.to;\n',
    replace: '        this.place = next;\n',
  },
  {
    name: "a stage's place is noted before its work",
    file: 'stage.ts',
    find: '      await handle(batch);\n      return unlessElsewhere(await store.savePlace(name, batch.partition, batch.from, batch.next), batch.next);',
    replace:
      '      const place = await store.savePlace(name, batch.partition, batch.from, batch.next);\n      await handle(batch);\n      return unlessElsewhere(place, batch.next);',
  },
  {
    name: 'a place that went back is not minded',
    file: 'stage.ts',
    find: '    place === next ? done',
    replace: '    place >= 0 ? done',
  },
  {
    name: 'statistics keep the last mark, not the greatest',
    file: 'stats.ts',
    find: 'update.counts = greatest(update.counts, counts);',
    replace: 'update.counts = counts;',
  },
  {
    name: 'statistics keep the last win, not the first',
    file: 'stats.ts',
    find: 'update.firstWonAt = Math.min(update.firstWonAt ?? change.at, change.at);',
    replace: 'update.firstWonAt = change.at;',
  },
];
