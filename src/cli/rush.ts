/** `dibs rush`: a crowd against a running server, what it was told, and whether that is as it must be. */
import { createHmac, randomBytes } from 'node:crypto';
import type { HistoryLine } from '../checker/history.ts';
import { type Coupon, createClient, ProblemError, type Verification } from '../client/index.ts';
import { type Distribution, distributionOf, histogram } from './chart.ts';
import { CommandError, connect, exitCodes, interruption, type ServerOptions, sentenceOf } from './connect.ts';
import { runCrowd, type Tally } from './crowd.ts';
import { LinesFile } from './lines-file.ts';
import { createNodeFetch } from './node-fetch.ts';
import { recorded } from './record.ts';
import { count, duration, number, paint, plain, print, printJson, StatusLine } from './terminal.ts';
import { problemsOf } from './verify.ts';

export interface RushOptions extends ServerOptions {
  users: number;
  rate?: number;
  connections: number;
  streams: number;
  /** Seconds. */
  timeout: number;
  prefix?: string;
  jwtSecret?: string;
  /** A file. */
  history?: string;
}

export interface Check {
  name: string;
  /** Null where the server does not offer what it takes: nothing is said against it. */
  ok: boolean | null;
  detail: string;
}

/** What `--json` prints. Times in ms. */
export interface RushReport {
  couponId: string;
  users: number;
  pressed: number;
  accepted: number;
  refusedAtDoor: Record<string, number>;
  issued: number;
  duplicated: number;
  inactive: Record<string, number>;
  refused: Record<string, number>;
  unanswered: number;
  retries: number;
  polled: number;
  streamsMax: number;
  elapsedMs: number;
  acceptedMs: Distribution | undefined;
  pushedMs: Distribution | undefined;
  checks: Check[];
  /** No check failed; null when the run was stopped and nothing can be said. */
  ok: boolean | null;
}

/** Of a whole log: it may be long. */
const verifyMsMax = 10 * 60_000;
/** A user who waits for one of the `--streams` gets this long until asking for the status instead. */
const streamTurnMsMax = 30_000;
const agreeName = 'the log and the rows agree';
/** Lines of progress where there is no terminal. */
const plainProgressMs = 2_000;

export async function rush(couponId: string, options: RushOptions): Promise<void> {
  const admin = connect(options);
  const before = await admin.coupons.get(couponId);
  const nodeFetch = createNodeFetch(options.url, { requestsMax: options.connections, streamsMax: options.streams });
  const history = options.history === undefined ? undefined : await LinesFile.open(options.history);
  const note = (line: HistoryLine) => history?.note(line);
  const basePath = new URL(options.url).pathname.replace(/\/+$/, '');
  const client = createClient({
    baseUrl: options.url,
    fetch: history ? recorded(nodeFetch.fetch, note, basePath) : nodeFetch.fetch,
    timing: { answerMsMax: streamTurnMsMax },
  });
  const prefix = options.prefix ?? `rush-${randomBytes(3).toString('hex')}-`;
  using interrupted = interruption();
  const line = new StatusLine();
  const progress = progressShown(line, options, () => nodeFetch.streams().now);
  const tally = await runCrowd(
    {
      users: options.users,
      rate: options.rate,
      connections: options.connections,
      silenceMsMax: options.timeout * 1_000,
    },
    user => client.claim(couponId, identityOf(`${prefix}${user}`, options)),
    interrupted.signal,
    progress,
  );
  const streamsMax = nodeFetch.streams().max;
  nodeFetch.close();

  const stopped = interrupted.signal.aborted;
  if (!stopped) line.show('the crowd is done; what it was told is being verified ...');
  const checks = stopped ? [] : await check(couponId, before, tally, options, interrupted.signal);
  line.clear();
  const ok = interrupted.signal.aborted ? null : checks.every(c => c.ok !== false);
  const report = reportOf(couponId, options.users, tally, streamsMax, checks, ok);
  if (options.json) printJson(report);
  else printReport(report, tally, options);
  process.exitCode = ok === null ? exitCodes.interrupted : ok ? exitCodes.ok : exitCodes.failed;
  // Last, so that what the crowd saw is told even when the disk was full.
  await history?.end();
}

function identityOf(userId: string, { jwtSecret }: RushOptions) {
  return jwtSecret === undefined ? { userId } : { token: signedToken(userId, jwtSecret) };
}

/** HS256, good for an hour; issuer and audience as the server's own settings name them. */
function signedToken(sub: string, secret: string): string {
  const { DIBS_JWT_AUDIENCE: aud, DIBS_JWT_ISSUER: iss } = process.env;
  const claims = { sub, iss: iss || undefined, aud: aud || undefined, exp: Math.floor(Date.now() / 1_000) + 3_600 };
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

function progressShown(line: StatusLine, { json, users }: RushOptions, streamsNow: () => number) {
  let shownAt = 0;
  return (tally: Tally) => {
    if (json && !line.live) return;
    if (!line.live && tally.elapsedMs - shownAt < plainProgressMs) return;
    shownAt = tally.elapsedMs;
    const parts = [
      `${duration(tally.elapsedMs)}`,
      `pressed ${number(tally.pressed)}/${number(users)}`,
      `accepted ${number(tally.accepted)}`,
      `issued ${number(tally.issued)}`,
      `answered ${number(tally.answered)}`,
      `${count(streamsNow(), 'stream')} open`,
    ];
    line.show(parts.join('  '));
  };
}

const sum = (counts: Record<string, number>) => Object.values(counts).reduce((a, b) => a + b, 0);

async function check(
  couponId: string,
  before: Coupon,
  tally: Tally,
  options: RushOptions,
  signal: AbortSignal,
): Promise<Check[]> {
  const checks: Check[] = [
    {
      name: 'everybody was answered',
      ok: tally.unanswered === 0 && !tally.partial,
      detail: tally.unanswered === 0 && !tally.partial ? '' : unansweredText(tally, options.users),
    },
  ];
  try {
    const client = connect(options);
    const after = await client.coupons.get(couponId, { signal });
    checks.push(pressedCheck(before, after, tally), ...winnersChecks(before, after, tally));
    checks.push(verifyCheck(await client.verify(couponId, { answerMsMax: verifyMsMax, signal })));
  } catch (error) {
    const why = sentenceOf(error, options.url);
    if (why === undefined) throw error;
    const ok = error instanceof ProblemError && error.code === 'NOT_OFFERED' ? null : false;
    checks.push({ name: agreeName, ok, detail: `could not be checked: ${why}` });
  }
  return checks;
}

function unansweredText(tally: Tally, users: number): string {
  const silent = `${number(tally.unanswered)} without an answer`;
  const unpressed = tally.partial ? `, ${number(users - tally.pressed)} did not get to press` : '';
  return `${silent}${unpressed}: ${[...new Set(tally.unansweredWhy)].join('; ')}`;
}

/** Refusals that say no more than "later": while units are to be had they kept somebody from one, else from none. */
const isLater = new Set(['TOO_MANY_REQUESTS', 'NOT_ACCEPTED']);

export function pressedCheck(before: Coupon, { remaining, state }: Coupon, { refused }: Tally): Check {
  const toBeHad = remaining > 0 && before.state !== 'closed' && state !== 'scheduled';
  const codes = Object.keys(refused).filter(code => toBeHad || !isLater.has(code));
  const left = codes.some(code => isLater.has(code)) ? `, with ${number(remaining)} remaining` : '';
  const remedy = codes.includes('UNAUTHENTICATED') ? ': --jwt-secret signs a token for each user' : '';
  return {
    name: 'everybody could press',
    ok: codes.length === 0,
    detail: codes.map(code => `${number(refused[code] ?? 0)} ${code}`).join(', ') + left + remedy,
  };
}

/** What must hold between the coupon before, the coupon after, and what the crowd was told. */
export function winnersChecks(before: Coupon, after: Coupon, tally: Tally): Check[] {
  const available = before.remaining + (after.stock - before.stock);
  const soldOut = tally.inactive.sold_out ?? 0;
  const outsideWindow = sum(tally.inactive) - soldOut;
  const distinct = new Set(tally.slots);
  // What was stored before is of others, and what the crowd was told of is taken: so no more are told than were given.
  const [first, last] = [before.issued + 1, Math.min(after.stock, after.issued + after.reserved)];
  const badSlot = tally.slots.find(slot => slot < first || slot > last);
  const checks: Check[] = [
    {
      name: 'never more issued than stock',
      ok: after.issued <= after.stock && after.remaining >= 0 && tally.issued <= available,
      detail: `${number(after.issued)} of ${number(after.stock)} issued; ${number(tally.issued)} to this crowd, ${number(available)} were there`,
    },
    {
      name: 'every slot went to one user',
      ok: distinct.size === tally.slots.length && badSlot === undefined,
      detail:
        badSlot === undefined
          ? `${count(distinct.size, 'slot')} for ${count(tally.slots.length, 'winner')}`
          : `slot ${number(badSlot)} is outside ${number(first)} to ${number(last)}`,
    },
    {
      name: 'sold out only when it was',
      ok: soldOut === 0 || after.remaining === 0 || after.stock !== before.stock,
      detail: `${number(soldOut)} told so, ${number(after.remaining)} remaining`,
    },
  ];
  // Only with the coupon to itself, in one window and with one stock, is the crowd's share known beforehand.
  const alone = before.remaining - after.remaining === tally.issued && after.stock === before.stock;
  if (alone && outsideWindow === 0 && tally.unanswered === 0) {
    const due = Math.min(before.remaining, tally.issued + soldOut);
    checks.push({
      name: 'as many winners as there must be',
      ok: tally.issued === due,
      detail: `${number(tally.issued)} issued, ${number(due)} due`,
    });
  }
  return checks;
}

function verifyCheck(found: Verification): Check {
  const problems = problemsOf(found);
  const first = problems[0]?.problem;
  const detail = first
    ? `${count(problems.length, 'problem')}, first ${first.kind}: ${first.detail}`
    : `${count(found.checkedEntries, 'entry', 'entries')} folded again, ${number(found.unanswered)} unanswered`;
  return { name: agreeName, ok: found.ok, detail };
}

function reportOf(
  couponId: string,
  users: number,
  tally: Tally,
  streamsMax: number,
  checks: Check[],
  ok: boolean | null,
): RushReport {
  const { accepted, atDoor, duplicated, elapsedMs, inactive, issued, polled, pressed, refused, retries, unanswered } =
    tally;
  return {
    couponId,
    users,
    pressed,
    accepted,
    refusedAtDoor: atDoor,
    issued,
    duplicated,
    inactive,
    refused,
    unanswered,
    retries,
    polled,
    streamsMax,
    elapsedMs: Math.round(elapsedMs),
    acceptedMs: distributionOf(tally.acceptedMs),
    pushedMs: distributionOf(tally.pushedMs),
    checks,
    ok,
  };
}

function printReport(report: RushReport, tally: Tally, options: RushOptions): void {
  const {
    accepted,
    duplicated,
    elapsedMs,
    inactive,
    issued,
    polled,
    pressed,
    refused,
    refusedAtDoor,
    retries,
    unanswered,
  } = report;
  const perSecond = number(Math.round((pressed * 1_000) / Math.max(1, elapsedMs)));
  const row = (name: string, n: number, more = '') =>
    print(`  ${name.padEnd(26)}${number(n).padStart(11)}${more && `   ${more}`}`);
  if (report.ok === null) print(paint('yellow', `stopped: ${number(pressed)} of ${number(report.users)} had pressed`));
  print(
    `${count(pressed, 'user')} in ${duration(elapsedMs)}, ${perSecond}/s, over ${count(options.connections, 'connection')}`,
  );
  row('accepted (202)', accepted);
  row('refused at the door', sum(refusedAtDoor));
  for (const [code, n] of Object.entries(refusedAtDoor)) row(`  ${plain(code)}`, n);
  print('told in the end');
  row('issued', issued);
  if (duplicated > 0) row('duplicated', duplicated);
  for (const [reason, n] of Object.entries(inactive)) row(`inactive, ${plain(reason).replace('_', ' ')}`, n);
  for (const [code, n] of Object.entries(refused)) row(`refused, ${plain(code)}`, n);
  row('unanswered', unanswered, unanswered > 0 ? [...new Set(tally.unansweredWhy)].map(plain).join('; ') : '');
  if (retries > 0) row('sent again', retries);
  if (polled > 0) row('told by asking, not pushed', polled);
  print();
  for (const line of histogram('press to 202', tally.acceptedMs)) print(line);
  print();
  for (const line of histogram('press to the pushed outcome', tally.pushedMs)) print(line);
  print();
  for (const { detail, name, ok } of report.checks) {
    const mark = ok === null ? paint('yellow', '–') : ok ? paint('green', '✓') : paint('red', '✗');
    print(`${mark} ${name}${detail && paint('dim', `   ${plain(detail)}`)}`);
  }
}

/** A user id is at most 64 long; the crowd's numbers need up to 8 of them. */
export function parsePrefix(text: string): string {
  if (/^[A-Za-z0-9._:@-]{1,56}$/.test(text)) return text;
  throw new CommandError(`--prefix "${text}" is not 1 to 56 of A-Z a-z 0-9 . _ : @ -`, exitCodes.usage);
}
