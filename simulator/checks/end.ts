/** Checks of the end: the faults are over, everything has come to rest. */
import { isDeepStrictEqual } from 'node:util';
import type { CouponId } from '../../src/coupon.ts';
import { changeDeadLetters, changeLog, requestDeadLetters, requestLog } from '../../src/entry.ts';
import type { SetAside } from '../../src/ports.ts';
import { verify } from '../../src/verify.ts';
import { type Crowd, idsOf } from '../clients.ts';
import type { World } from '../world.ts';
import { changesOf, lineOf } from './roads.ts';

/** Undefined when nothing is under way any more, else what is. */
export async function unrest({
  plan,
  instances,
  wire,
  log,
  ledger,
  store,
  board,
  busy,
  serves,
  scheduler,
  facts,
}: World): Promise<string | undefined> {
  if (instances.some(each => each?.up !== true && each?.plan.roles.includes('api') !== false)) return 'not all are up';
  if (plan.faults.some(({ at }) => at >= scheduler.now)) return 'a fault is still to come';
  if (busy > 0) return `${busy} clients and operators wait`;
  // Nobody may be waiting for it any more, and still it may be appended.
  if ([...serves].some(({ life }) => life.alive)) return 'a process has not answered';
  for (const call of wire.underWay)
    if (/append|commit|apply|told|create/.test(`${call}`)) return `${call} is under way`;
  for (let partition = 0; partition < plan.partitions; partition++) {
    const [requests, changes] = [log.of(requestLog, partition).length, log.of(changeLog, partition).length];
    const state = ledger.stateOf(partition);
    if (state?.fold.frontier.next !== requests) return `the ledger is at ${state?.fold.frontier.next} of ${requests}`;
    if (state.told !== requests) return `told is at ${state.told} of ${requests}`;
    const { next, changeNext } = store.checkpointOf(partition);
    if (next !== requests || changeNext !== changes)
      return `the store is at ${next} of ${requests}, ${changeNext} of ${changes}`;
    const shown = board.stateOf(partition);
    if (shown?.changeNext !== changeNext || shown.committedNext !== next)
      return `the board is at ${shown?.changeNext} of ${changeNext}`;
    const counted = await store.place('stats', partition);
    if (counted !== changes) return `stats are at ${counted} of ${changes}`;
  }
  const waiting = store.letters().filter(letter => letter.slot !== null);
  if (waiting.length > 0) return `${waiting.length} winners are set aside`;
  for (const [id, { alive }] of facts.uncopied) if (alive) return `${id} was refused, and has no copy`;
  return undefined;
}

/** Seeds of which one is held against the log by verify as well. */
const verifyEvery = 4;

export async function checkEnd(world: World, crowd: Crowd): Promise<void> {
  const { facts, plan, checks, store, log } = world;
  for (let partition = 0; partition < plan.partitions; partition++) {
    checks.stored(partition);
    checks.ledgerIsTrue(partition, 'ledger_true');
    checks.told(partition, facts.truth[partition]?.entries.length);
    await lettersAreKept(world, partition);
    boardIsTrue(world, partition);
  }
  notAcceptedIsTrue(world, crowd);
  await statsAreTrue(world);
  // It reads all of it again, which takes a tenth of a run's time.
  if (plan.seed % verifyEvery !== 0) return;
  const report = await verify({ log, store, now: world.epoch + facts.now });
  const problems = [...report.problems, ...report.coupons.flatMap(coupon => coupon.problems)];
  facts.expect(report.ok && report.behind === 0 && report.unanswered === 0, 'verify_clean', () =>
    JSON.stringify(problems),
  );
}

async function lettersAreKept({ facts, store, log }: World, partition: number): Promise<void> {
  const expect = (holds: boolean, detail: () => string) => facts.expect(holds, 'letters_kept', detail);
  const kept = await store.setAside({ partition, limit: Number.MAX_SAFE_INTEGER });
  const unreadable = kept.filter(letter => letter.log === changeLog).map(letter => letter.offset);
  const ought = facts.unreadable[partition] ?? [];
  expect(
    isDeepStrictEqual(
      unreadable.sort((a, b) => a - b),
      ought,
    ),
    () => `of the changes ${ought} only ${unreadable} are set aside`,
  );
  const copiesOf = (name: typeof requestDeadLetters | typeof changeDeadLetters) =>
    log.of(name, partition).map(({ text }) => JSON.parse(text) as SetAside);
  const [requests, changes] = [copiesOf(requestDeadLetters), copiesOf(changeDeadLetters)];
  for (const letter of [...kept, ...requests, ...changes]) {
    expect(isWhole(letter), () => `the bytes of ${letter.offset} in ${letter.log} are ${letter.bytes}`);
  }
  for (const { offset, verdict } of facts.truth[partition]?.entries ?? []) {
    const isKept = verdict.kind !== 'malformed' || requests.some(letter => letter.offset === offset);
    expect(isKept, () => `the malformed entry ${offset} has no copy in the dead letters`);
  }
  for (const offset of ought) {
    const isKept = changes.some(letter => letter.log === changeLog && letter.offset === offset);
    expect(isKept, () => `the unreadable change ${offset} has no copy`);
  }

  function isWhole({ log: name, offset, slot, bytes }: SetAside): boolean {
    if (slot !== null) return changesOf(facts.truth[partition]?.entries[offset]).includes(lineOf(JSON.parse(bytes)));
    const entry = log.of(name, partition)[offset];
    return entry !== undefined && Buffer.from(entry.bytes ?? entry.text).toString('base64') === bytes;
  }
}

function boardIsTrue({ facts, board, store }: World, partition: number): void {
  const aside = store
    .letters(partition)
    .filter(letter => letter.slot !== null)
    .map(letter => letter.offset);
  const shown = [...(board.stateOf(partition)?.setAside ?? [])].sort((a, b) => a - b);
  facts.expect(
    isDeepStrictEqual(
      shown,
      aside.sort((a, b) => a - b),
    ),
    'board_true',
    () => `it shows ${shown} set aside, the store has ${aside}`,
  );
}

function notAcceptedIsTrue({ facts }: World, { mayBeIn, open }: Crowd): void {
  // What was not answered may be anywhere.
  const unanswered = new Set([...open].flatMap(idsOf));
  for (const { entries } of facts.truth) {
    for (const known of entries) {
      for (const id of idsOf(known)) {
        const isAllowed = mayBeIn.get(id) !== false || unanswered.has(id);
        facts.expect(isAllowed, 'not_accepted_true', () => `${id} is in the log at ${known.offset}, and was refused`);
      }
    }
  }
}

async function statsAreTrue({ facts, store }: World): Promise<void> {
  // What a store loses between the two calls is counted by nobody: see the known limits.
  if (facts.countsTorn) return;
  for (const truth of facts.truth) {
    for (const [couponId, { winners }] of truth.sales) {
      const ats = winners.map(winner => winner.at);
      const [firstWonAt, lastWonAt] = ats.length > 0 ? [Math.min(...ats), Math.max(...ats)] : [null, null];
      const ought = {
        firstWonAt,
        lastWonAt,
        issued: winners.length,
        counts: truth.countsAt(couponId, truth.entries.length),
      };
      const { series: _, ...has } = await store.stats(couponId as CouponId, 60, facts.epoch + facts.now);
      facts.expect(
        isDeepStrictEqual(has, ought),
        'stats_true',
        () => `${couponId} has ${JSON.stringify(has)}, ought ${JSON.stringify(ought)}`,
      );
    }
  }
}
