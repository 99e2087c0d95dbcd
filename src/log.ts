/** What the stages do with a log beyond one append or one read. */
import { type Change, type changeLog, entryHash, type LogName, type requestLog } from './entry.ts';
import { Alarm, Unavailable } from './errors.ts';
import { appendCharactersMax, pollMsMax } from './limits.ts';
import type { EventLog } from './ports.ts';

/**
 * Throws Alarm unless the entry before `next` is the one that was read when `hash` was taken: a log that was cut or
 * made anew is not gone on with. Throws Unavailable while the log does not give that entry.
 */
export async function checkLastEntry(
  log: EventLog,
  name: typeof requestLog | typeof changeLog,
  partition: number,
  next: number,
  hash: string,
): Promise<void> {
  // What was read from a queue is gone: there is nothing to compare.
  if (next === 0 || log.unhandled) return;
  const { entries } = await log.read(name, partition, next - 1, 1, pollMsMax);
  const last = entries[0];
  // Behind a leader that has just changed a broker may for a while show less than was read before.
  if (!last) throw new Unavailable(`${name} partition ${partition} does not give entry ${next - 1} now`);
  if (last.offset === next - 1 && entryHash(last) === hash) return;
  throw new Alarm(
    `${name} partition ${partition} is not the log that was read before: entry ${next - 1} differs or is gone`,
  );
}

/**
 * Appends in order, in as many appends as the size asks for (a malformed entry may be as large as the log allows), and
 * stops at the first that fails. @throws as EventLog.append; the first parts may stand in the log then.
 */
export async function appendInParts(
  log: EventLog,
  name: LogName,
  partition: number,
  values: readonly string[],
  keys?: readonly string[],
  changes?: readonly Change[],
): Promise<void> {
  const charactersMax = log.appendCharactersMax ?? appendCharactersMax;
  for (let from = 0; from < values.length; ) {
    let [to, characters] = [from, 0];
    do characters += (values[to++] as string).length;
    while (to < values.length && characters + (values[to] as string).length <= charactersMax);
    await log.append(name, partition, values.slice(from, to), keys?.slice(from, to), changes?.slice(from, to));
    from = to;
  }
}
