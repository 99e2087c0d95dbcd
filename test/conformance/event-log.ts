/** What every EventLog promises (src/ports.ts), asked of the real thing. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { changeDeadLetters, changeLog, type LogName, requestDeadLetters, requestLog } from '../../src/entry.ts';
import { Alarm, Unavailable } from '../../src/errors.ts';
import type { EventLog, ReadBatch } from '../../src/ports.ts';

export interface EventLogUnderTest {
  /** Empty, with at least two partitions. */
  log: EventLog;
  /** The same log again, the first one closed. */
  reopen?: () => Promise<EventLog>;
  close(): Promise<void>;
}

/** Parts that a log may not owe; the value is why, and stands beside the test that is left out. */
export type NotOwed = Partial<Record<'reads again' | 'several readers' | 'alarm when cut', string>>;

/** Upper bound of everything that is waited for; nothing waits this long when all is well. */
const patienceMs = 20_000;

export function eventLogConformance(name: string, make: () => Promise<EventLogUnderTest>, notOwed: NotOwed = {}): void {
  /** Options of a test of this part: node prints the reason. */
  const owes = (part: keyof NotOwed) => {
    const why = notOwed[part];
    return { skip: why === undefined ? false : `${name} does not owe "${part}": ${why}` };
  };
  describe(`${name} as EventLog`, () => {
    let made: EventLogUnderTest;
    let log: EventLog;

    before(async () => {
      made = await make();
      log = made.log;
    });
    after(async () => {
      await made?.close();
    });

    it('says how many partitions it has, and that it can be reached', () => {
      assert.ok(log.partitions >= 2);
      assert.equal(log.reachable(), true);
    });

    it('is empty at first: every log ends at 0 and a read gives nothing', async () => {
      for (const name of [requestLog, changeLog, requestDeadLetters, changeDeadLetters] as const) {
        for (let partition = 0; partition < log.partitions; partition++) {
          assert.equal(await log.end(name, partition), 0);
          assert.deepEqual(await log.read(name, partition, 0, 10, 0), { entries: [], next: 0, end: 0 });
        }
      }
    });

    it('gives the value i of an append the offset base + i, in order', async () => {
      const first = await append(log, ['a', 'b', 'c']);
      const second = await append(log, ['d'], ['key']);
      const third = await append(log, ['e', 'f'], ['k1', 'k2']);
      assert.deepEqual([first, second, third], [0, 3, 4]);
      assert.equal(await log.end(requestLog, 0), 6);
      const { entries, next, end } = await readAll(log, requestLog, 0, 0);
      assert.deepEqual(textsOf(entries), ['a', 'b', 'c', 'd', 'e', 'f']);
      assert.deepEqual(offsetsOf(entries), [0, 1, 2, 3, 4, 5]);
      assert.deepEqual([next, end], [6, 6]);
      assert.ok(entries.every(e => e.bytes === undefined));
    });

    it('stamps entries with its own clock', async () => {
      const earliest = Date.now() - 60_000;
      const base = await append(log, ['now']);
      const [entry] = (await log.read(requestLog, 0, base, 1, patienceMs)).entries;
      assert.ok(entry && entry.at > earliest && entry.at < Date.now() + 60_000, `at ${entry?.at}`);
    });

    it('reads from any place', owes('reads again'), async () => {
      const base = await append(log, ['0', '1', '2', '3', '4']);
      for (const skip of [0, 1, 4, 2, 3]) {
        const { entries, next } = await readAll(log, requestLog, 0, base + skip);
        assert.deepEqual(textsOf(entries), ['0', '1', '2', '3', '4'].slice(skip));
        assert.equal(next, base + 5);
      }
    });

    it('gives at most `max` entries and goes on where it stopped', async () => {
      const values = numbered(25);
      const base = await append(log, values);
      const seen: string[] = [];
      for (let from = base; seen.length < values.length; ) {
        const { entries, next, end } = await log.read(requestLog, 0, from, 7, patienceMs);
        assert.ok(entries.length >= 1 && entries.length <= 7);
        assert.equal(next, from + entries.length);
        assert.equal(end, base + 25);
        assert.deepEqual(
          offsetsOf(entries),
          entries.map((_, i) => from + i),
        );
        seen.push(...textsOf(entries));
        from = next;
      }
      assert.deepEqual(seen, values);
    });

    it('answers a read of the end with nothing, after waiting', async () => {
      const end = await log.end(requestLog, 0);
      const since = performance.now();
      assert.deepEqual(await log.read(requestLog, 0, end, 10, 300), { entries: [], next: end, end });
      const ms = performance.now() - since;
      assert.ok(ms >= 250 && ms < 5_000, `${ms} ms`);
    });

    it('does not wait when told not to', async () => {
      const end = await log.end(requestLog, 0);
      const since = performance.now();
      await log.read(requestLog, 0, end, 10, 0);
      assert.ok(performance.now() - since < 2_000);
    });

    it('wakes a waiting read when something is appended', async () => {
      const end = await log.end(changeLog, 0);
      const waiting = log.read(changeLog, 0, end, 10, patienceMs);
      await Promise.race([waiting, wait(100)]);
      const since = performance.now();
      await log.append(changeLog, 0, ['wake up']);
      assert.deepEqual(textsOf((await waiting).entries), ['wake up']);
      assert.ok(performance.now() - since < 1_000);
    });

    it('ends a waiting read when the signal fires, and loses nothing by it', async () => {
      const end = await log.end(changeLog, 0);
      const stop = new AbortController();
      const waiting = log.read(changeLog, 0, end, 10, patienceMs, stop.signal);
      await Promise.race([waiting, wait(100)]);
      const since = performance.now();
      stop.abort();
      assert.deepEqual(await waiting, { entries: [], next: end, end });
      assert.ok(performance.now() - since < 500);
      await log.append(changeLog, 0, ['after', 'the', 'abort']);
      const { entries } = await readAll(log, changeLog, 0, end);
      assert.deepEqual(textsOf(entries), ['after', 'the', 'abort']);
    });

    it('answers at once when the signal has fired before', async () => {
      const end = await log.end(changeLog, 0);
      const { entries } = await log.read(changeLog, 0, end, 10, patienceMs, AbortSignal.abort());
      assert.deepEqual(entries, []);
    });

    it('raises an alarm for a read beyond the end', owes('alarm when cut'), async () => {
      const end = await log.end(requestLog, 1);
      await assert.rejects(log.read(requestLog, 1, end + 1, 10, 1_000), Alarm);
      assert.deepEqual((await log.read(requestLog, 1, end, 10, 0)).entries, [], 'and goes on working');
    });

    it('keeps logs and partitions apart, and takes appends to all of them at once', async () => {
      const places = ([requestLog, changeLog] as const).flatMap(name => [0, 1].map(partition => ({ name, partition })));
      const ends = await Promise.all(places.map(p => log.end(p.name, p.partition)));
      await Promise.all(
        places.map(async ({ name, partition }, i) => {
          for (let n = 0; n < 20; n++) {
            const base = await log.append(name, partition, [
              `${name} ${partition} ${2 * n}`,
              `${name} ${partition} ${2 * n + 1}`,
            ]);
            assert.equal(base, Number(ends[i]) + 2 * n);
          }
        }),
      );
      for (const [i, { name, partition }] of places.entries()) {
        const { entries } = await readAll(log, name, partition, Number(ends[i]));
        assert.deepEqual(
          textsOf(entries),
          numbered(40).map(n => `${name} ${partition} ${n}`),
        );
      }
    });

    it('lets two readers stand at different places of a partition', owes('several readers'), async () => {
      const base = await append(log, numbered(300));
      const end = base + 300;
      const readers = [base, base + 150, base + 299].map(async (from, i) => {
        const seen: string[] = [];
        for (let at = from; at < end; ) {
          const { entries, next } = await log.read(requestLog, 0, at, 10 + i, patienceMs);
          seen.push(...textsOf(entries));
          at = next;
        }
        return seen;
      });
      const [a, b, c] = await Promise.all(readers);
      assert.deepEqual(a, numbered(300));
      assert.deepEqual(b, numbered(300).slice(150));
      assert.deepEqual(c, ['299']);
    });

    it('wakes every reader that waits at the end', owes('several readers'), async () => {
      const end = await log.end(requestLog, 0);
      const waiting = [1, 2, 3].map(() => log.read(requestLog, 0, end, 10, patienceMs));
      await wait(50);
      await append(log, ['to all']);
      for (const { entries } of await Promise.all(waiting)) assert.deepEqual(textsOf(entries), ['to all']);
    });

    it('keeps text as it is, whatever the script', async () => {
      const values = ['쿠폰 선착순', '🎟️', 'ß\u0000\n\t"\\', '', ' ', 'x'.repeat(10_000)];
      const base = await append(
        log,
        values,
        values.map(() => '열쇠'),
      );
      assert.deepEqual(textsOf((await readAll(log, requestLog, 0, base)).entries), values);
    });

    it('takes 1,000 entries in one append', async () => {
      const values = numbered(1_000).map(n => `${n} ${'x'.repeat(200)}`);
      const base = await append(log, values);
      const { entries, next } = await readAll(log, requestLog, 0, base);
      assert.deepEqual(textsOf(entries), values);
      assert.equal(next, base + 1_000);
    });

    it('refuses a partition that does not exist, and writes nothing', async () => {
      const ends = await endsOf(log);
      for (const partition of [-1, log.partitions, 1.5, Number.NaN]) {
        await assert.rejects(log.append(requestLog, partition, ['stray']));
        await assert.rejects(log.read(requestLog, partition, 0, 1, 0));
        await assert.rejects(log.end(requestLog, partition));
      }
      assert.deepEqual(await endsOf(log), ends);
    });

    it('assigns all partitions to the only member of a group, and takes them back when it leaves', async () => {
      const held = new Set<number>();
      const all = Promise.withResolvers<void>();
      const assignment = await log.assign('only', requestLog, {
        assigned(partition) {
          assert.ok(!held.has(partition), 'assigned twice');
          held.add(partition);
          if (held.size === log.partitions) all.resolve();
        },
        revoked(partition) {
          assert.ok(held.delete(partition), 'revoked without being assigned');
        },
      });
      await within(patienceMs, all.promise, 'all partitions');
      assert.deepEqual(
        [...held].sort((a, b) => a - b),
        Array.from({ length: log.partitions }, (_, i) => i),
      );
      await log.commit('only', requestLog, 0, 1);
      await assignment.close();
      await assignment.close();
      assert.equal(held.size, 0);
    });

    it('commits without ever throwing', async () => {
      await log.commit('nobody', requestLog, 0, 1);
      await log.commit('nobody', changeLog, 1, 1_000_000);
    });

    it('has an identity that no other log has', async () => {
      assert.ok(log.identity.length > 0);
      const other = await make();
      try {
        assert.notEqual(other.log.identity, log.identity);
      } finally {
        await other.close();
      }
    });

    it('holds the same entries, under the same identity, after it was opened again', owes('reads again'), async t => {
      if (!made.reopen) return t.skip('this log does not outlive its process');
      const { identity } = log;
      const [ends, { entries }] = await Promise.all([endsOf(log), readAll(log, requestLog, 0, 0)]);
      log = await made.reopen();
      assert.equal(log.identity, identity);
      assert.deepEqual(await endsOf(log), ends);
      assert.deepEqual((await readAll(log, requestLog, 0, 0)).entries, entries);
      assert.equal(await append(log, ['goes on']), ends[0]);
    });

    it('closes more than once, and ends the reads that wait', async () => {
      const end = await log.end(requestLog, 1);
      const waiting = log.read(requestLog, 1, end, 10, patienceMs).catch((error: unknown) => error);
      await Promise.race([waiting, wait(100)]);
      await log.close();
      const ended = await within(5_000, waiting, 'the waiting read');
      assert.ok(ended instanceof Unavailable || (ended as ReadBatch).entries.length === 0, String(ended));
      await log.close();
      assert.equal(log.reachable(), false);
      await assert.rejects(log.append(requestLog, 0, ['too late']));
    });
  });
}

const append = (log: EventLog, values: string[], keys?: string[]): Promise<number> =>
  log.append(requestLog, 0, values, keys);

const textsOf = (entries: ReadBatch['entries']): string[] => entries.map(e => e.text);
const offsetsOf = (entries: ReadBatch['entries']): number[] => entries.map(e => e.offset);
const numbered = (n: number): string[] => Array.from({ length: n }, (_, i) => String(i));

/** Everything from `from` to the end as of now. */
async function readAll(log: EventLog, name: LogName, partition: number, from: number): Promise<ReadBatch> {
  const end = await log.end(name, partition);
  const all: ReadBatch = { entries: [], next: from, end };
  while (all.next < end) {
    const { entries, next } = await log.read(name, partition, all.next, 10_000, patienceMs);
    assert.ok(next > all.next, 'a read before the end makes progress');
    all.entries.push(...entries);
    all.next = next;
  }
  return all;
}

async function endsOf(log: EventLog): Promise<number[]> {
  return Promise.all(Array.from({ length: log.partitions }, (_, partition) => log.end(requestLog, partition)));
}

/** Rejects, naming what was waited for, when it takes longer. */
export async function within<T>(ms: number, work: Promise<T>, what: string): Promise<T> {
  const stop = new AbortController();
  const late = wait(ms, undefined, { signal: stop.signal }).then(() => {
    throw new Error(`${what}: not within ${ms} ms`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    stop.abort();
    late.catch(() => {});
  }
}
