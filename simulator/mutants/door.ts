import type { Mutant } from './mutant.ts';

/** Mistakes of what people are told: at the door, on the way, at the end, and the operator. */
export const doorMutants: readonly Mutant[] = [
  {
    name: 'whatever an append threw, it was not accepted',
    file: 'issue.ts',
    find: 'error instanceof NotAccepted ? notAccepted : outcomeUnknown',
    replace: 'notAccepted',
  },
  {
    name: 'a silent log is a refusal',
    file: 'issue.ts',
    find: 'for (const outgoing of batch) outgoing.failed(outcomeUnknown);',
    replace: 'for (const outgoing of batch) outgoing.failed(notAccepted);',
  },
  {
    name: 'all of a batch get the first place',
    file: 'issue.ts',
    find: '.appended(base + i);',
    replace: '.appended(base);',
  },
  {
    name: 'accepted before the log has acknowledged',
    file: 'issue.ts',
    find: '      const base = await log.append(\n',
    replace:
      '      const guess = await log.end(requestLog, this.partition);\n      batch.forEach((o, i) => o.appended(guess + i));\n      const base = await log.append(\n',
  },
  {
    name: 'one acknowledged entry in three is said to be unknown',
    file: 'issue.ts',
    find: '(batch[i] as Outgoing).appended(base + i);',
    replace:
      '\n        if ((base + i) % 3 === 1) (batch[i] as Outgoing).failed(outcomeUnknown);\n        else (batch[i] as Outgoing).appended(base + i);',
  },
  {
    name: 'several appends are out where the log does not keep their order',
    file: 'issue.ts',
    find: '(this.tools.log.appendsMax ?? 1)',
    replace: '(this.tools.log.appendsMax ?? 8)',
  },
  {
    name: 'who waits beyond a full append is forgotten',
    file: 'issue.ts',
    find: 'void this.append(this.queue.splice(0, this.batchMax));',
    replace: 'void this.append(this.queue.splice(0).slice(0, this.batchMax));',
  },
  {
    name: 'a duplicate is refused before its row is committed',
    file: 'issue.ts',
    find: '      if (!committed) return undefined;\n',
    replace: '',
  },
  {
    name: 'who looks a coupon up joins the read that is out',
    file: 'issue.ts',
    find: 'let wanted = this.lookups.get(couponId);',
    replace: 'let wanted = this.lookups.get(couponId) ?? this.lookedUp.get(couponId);',
  },
  {
    name: 'who looks a coupon up beyond a full batch is forgotten',
    file: 'issue.ts',
    find: 'for (const id of this.lookedUp.keys()) this.lookups.delete(id);',
    replace: 'this.lookups.clear();',
  },
  {
    name: 'a winner that is set aside is refused as a duplicate',
    file: 'issue.ts',
    find: ' && !board.setAside.has(holder.offset);',
    replace: ';',
  },
  {
    name: 'a duplicate is told another slot',
    file: 'issue.ts',
    find: "code: 'DUPLICATED_COUPON', slot: holder.slot }",
    replace: "code: 'DUPLICATED_COUPON', slot: holder.slot + 1 }",
  },
  {
    name: 'a retry with the key that won is a duplicate',
    file: 'issue.ts',
    find: 'if (holder.key !== key) return',
    replace: 'if (holder.slot > 0) return',
  },
  {
    name: 'the latch answers requests with a key too',
    file: 'issue.ts',
    find: '    if (key === undefined) {\n      const shut = this.latch.shut(coupon.couponId);\n      if (shut) return inactive[shut];\n',
    replace:
      '    const shut = this.latch.shut(coupon.couponId);\n    if (shut) return inactive[shut];\n    if (key === undefined) {\n',
  },
  {
    name: 'one press in three is turned away for nothing',
    file: 'issue.ts',
    find: 'const isElsewhere = this.lanes[coupon.partition] === undefined;',
    replace: 'const isElsewhere = (this.tools.host.randomBytes(1)[0] as number) < 85;',
  },
  {
    name: "the log's clock is taken to stand still",
    file: 'log-clock.ts',
    find: 'time - (most.clock + ageMs)',
    replace: 'time - most.clock',
  },
  {
    name: "the log's clock is that of the answer, not of the hand-over",
    file: 'issue.ts',
    find: 'this.clock.appended(this.partition, base, startedAt);',
    replace: 'this.clock.appended(this.partition, base, host.elapsed());',
  },
  {
    name: "the door and its latch are measured by the host's clock",
    file: 'issue.ts',
    find: '  constructor(tools: DoorTools, bounds = doorBounds) {\n',
    replace:
      '  constructor(given: DoorTools, bounds = doorBounds) {\n    const tools = { ...given, host: { ...given.host, elapsed: given.host.now } };\n',
  },
  {
    name: "the hub's turns are measured by the host's clock",
    file: 'hub.ts',
    find: '    this.host = tools.host;',
    replace: '    this.host = { ...tools.host, elapsed: tools.host.now };',
  },
  {
    name: "the door closes by the host's clock",
    file: 'issue.ts',
    find: 'clock >= closesAt',
    replace: 'this.tools.host.now() >= closesAt',
  },
  {
    name: 'who waits beyond a full batch of the filter is forgotten',
    file: 'issue.ts',
    find: 'const batch = this.unfiltered.splice(0, this.bounds.filterBatchMax);',
    replace: 'const batch = this.unfiltered.splice(0).slice(0, this.bounds.filterBatchMax);',
  },
  {
    name: 'the phase of the coupon as it was once is refused by',
    file: 'issue.ts',
    find: 'const phase = changes.at(-1)?.phase;',
    replace: "const phase = changes.find(change => change.phase === 'sold_out')?.phase;",
  },
  {
    name: 'a latch without a lease',
    file: 'latch.ts',
    find: '    if (lease.until <= now) return undefined;\n',
    replace: '',
  },
  {
    name: 'a lease counts from the answer, not from the question',
    file: 'latch.ts',
    find: 'until: sentAt + latchMsMax',
    replace: 'until: host.now() + 4 * latchMsMax',
  },
  {
    name: 'issued before the commit',
    file: 'outcome.ts',
    find: 'const committed = !view.inHand && holder.offset < view.committedNext;',
    replace: 'const committed = view.committedNext >= 0;',
  },
  {
    name: 'reserved with another slot',
    file: 'outcome.ts',
    find: "{ state: 'reserved', slot: holder.slot }",
    replace: "{ state: 'reserved', slot: holder.slot + 1 }",
  },
  {
    name: 'a retry with the key that won is told that it is a duplicate',
    file: 'outcome.ts',
    find: 'holder.offset === offset || holder.key === key',
    replace: 'holder.offset === offset',
  },
  {
    name: 'whoever holds it, it is mine',
    file: 'outcome.ts',
    find: 'holder.offset === offset || holder.key === key',
    replace: 'holder.slot > 0',
  },
  {
    name: 'set aside is told as issued',
    file: 'outcome.ts',
    find: 'if (committed && !view.holderSetAside) {',
    replace: 'if (committed) {',
  },
  {
    name: 'what is not committed is set aside',
    file: 'outcome.ts',
    find: "return committed ? { state: 'set_aside' } :",
    replace: "return !committed ? { state: 'set_aside' } :",
  },
  {
    name: 'what is not decided is told',
    file: 'outcome.ts',
    find: 'if (!view || offset >= view.next)',
    replace: 'if (!view)',
  },
  {
    name: 'a later win answers an earlier loss',
    file: 'outcome.ts',
    find: 'if (holder && holder.offset <= offset) {',
    replace: 'if (holder) {',
  },
  {
    name: 'the reason is that of now, not of its place',
    file: 'outcome.ts',
    find: 'const phase = phaseOf(view.changes, offset);',
    replace: 'const phase = view.changes.at(-1)?.phase;',
  },
  {
    name: 'a board that is away has everything committed',
    file: 'status.ts',
    find: 'const board = await tools.board.read(partition, holders);',
    replace:
      'const board = (await tools.board.read(partition, holders)) ?? { committedNext: 1e9, setAside: new Set<number>() };',
  },
  {
    name: 'who asks beyond a full batch of questions is forgotten',
    file: 'status.ts',
    find: 'const batch = queue.splice(0, this.batchMax);',
    replace: 'const batch = queue.splice(0).slice(0, this.batchMax);',
  },
  {
    name: 'a board that is missing has nothing committed',
    file: 'status.ts',
    find: 'const board = await tools.board.read(partition, holders);',
    replace:
      'const board = (await tools.board.read(partition, holders)) ?? { changeNext: 1e9, committedNext: 0, setAside: new Set<number>() };',
  },
  {
    name: 'a board is believed that is behind what the store has told',
    file: 'status.ts',
    find: 'if (changeNext >= (this.answeredAt.get(partition) ?? 0))',
    replace: 'if (changeNext >= 0)',
  },
  {
    name: 'hints are all that is heard: the frontiers are not read',
    file: 'hub.ts',
    find: '    if (now - this.frontierReadAt < frontierMs) return;\n',
    replace: '    if (now > 0) return;\n',
  },
  {
    name: 'the frontiers are read every half minute',
    file: 'hub.ts',
    find: 'now - this.frontierReadAt < frontierMs',
    replace: 'now - this.frontierReadAt < 30 * frontierMs',
  },
  {
    name: 'a stream goes back',
    file: 'hub.ts',
    find: 'if (watcher.gone || rank(status) < rank(watcher.status)) return;\n    const news = rank(status) > rank(watcher.status);',
    replace: 'if (watcher.gone) return;\n    const news = rank(status) !== rank(watcher.status);',
  },
  {
    name: 'the hub reads first, and subscribes when it has read',
    file: 'hub.ts',
    find: '    if (task.offset < line.decidedNext) line.uncommitted.add(watcher);\n    else insert(line.undecided, watcher);\n    this.watching++;\n    this.stopTicking ??= this.host.every(progressMsMin, () => this.tick());\n    void this.look(watcher);\n',
    replace:
      '    this.watching++;\n    this.stopTicking ??= this.host.every(progressMsMin, () => this.tick());\n    void this.look(watcher).then(() => {\n      const line = this.line(task.partition);\n      if (!watcher.gone && !line.uncommitted.has(watcher)) insert(line.undecided, watcher);\n    });\n',
  },
  {
    name: 'who waits for any partition stands in one line',
    file: 'hub.ts',
    find: '    let line = this.lines.get(partition);',
    replace: '    let line = this.lines.values().next().value;',
  },
  {
    name: 'ahead is what the last reading says',
    file: 'hub.ts',
    find: 'if (ahead !== undefined) watcher.ahead = Math.min(ahead, watcher.ahead ?? ahead);',
    replace:
      'if (ahead !== undefined && ahead !== watcher.ahead) {\n      watcher.ahead = ahead;\n      this.progress(watcher);\n    }',
  },
  {
    name: 'no hint is heard',
    file: 'hub.ts',
    find: 'hint: hint => this.hinted(hint),',
    replace: 'hint: () => {},',
  },
  {
    name: 'the outcome is told, and told again',
    file: 'hub.ts',
    find: '      this.leave(watcher);\n      watcher.tell(status, undefined);',
    replace: '      watcher.tell(status, undefined);',
  },
  {
    name: 'a reading that failed is caught by nobody',
    file: 'hub.ts',
    find: "      this.say('debug', `status not read",
    replace: "      throw error;\n      this.say('debug', `status not read",
  },
  {
    name: 'a restock is answered before every latch has ended',
    file: 'operator.ts',
    find: '    await host.delay(latchMsMax);\n',
    replace: '',
  },
  {
    name: 'a restock is answered before it is decided',
    file: 'operator.ts',
    find: 'if (sale && sale.next > offset) return sale;',
    replace: 'if (sale) return sale;',
  },
  {
    name: "the operator's key is not used",
    file: 'operator.ts',
    find: 'idempotencyKey === undefined ? randomKey(host)',
    replace: 'idempotencyKey !== null ? randomKey(host)',
  },
  {
    name: 'a coupon is created whatever the log says',
    file: 'operator.ts',
    find: "      if (typeof appended !== 'number') return notDone(appended);\n",
    replace: '',
  },
  {
    name: 'a close before the opening is done',
    file: 'operator.ts',
    find: 'if (!sale || isBeforeOpening(offset, sale)) return',
    replace: 'if (!sale) return',
  },
  {
    name: 'a redrive leaves one behind',
    file: 'operator.ts',
    find: 'all.filter(isRedrivable);',
    replace: 'all.filter(isRedrivable).slice(1);',
  },
  {
    name: 'a redrive puts all back in the partition of the first',
    file: 'operator.ts',
    find: 'Map.groupBy(letters, letter => letter.partition)',
    replace: 'Map.groupBy(letters, () => letters[0]?.partition ?? 0)',
  },
  {
    name: 'a task id forgets its partition',
    file: 'task.ts',
    find: 'return { couponId, userId, partition, offset, key };',
    replace: 'return { couponId, userId, partition: 0, offset, key };',
  },
  {
    name: 'an entry with a bad user is good',
    file: 'entry.ts',
    find: "return !isUserId(raw.userId) ? 'bad userId' : !isRequestKey(raw.key)",
    replace: 'return !isRequestKey(raw.key)',
  },
  {
    name: 'ahead leaves out the one in front',
    file: 'status.ts',
    find: 'Math.max(0, offset - next);',
    replace: 'Math.max(0, offset - next - 1);',
  },
];
