/** Requests that nobody should send, at a real server, while honest users press; and what it must not do meanwhile. */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, createClient } from '../src/client/index.ts';
import { userCouponIdOf } from '../src/coupon.ts';
import type { Known, OpenApi, Shot } from './requests.ts';
import { sampleOf, shots } from './shots.ts';
import { type Stalled, type Target, tokenOf } from './target.ts';

/** Shots made at once: fast-check's samples are lists. */
const sampleMax = 1_000;
const connectionsMax = 24;
/** A request must be answered, and an ended connection be ended, within this. */
const answerMsMax = 20_000;
const honestEveryMs = 50;
const honestMsMax = 30_000;
const drainMsMax = 60_000;
const realTasks = 200;
const usersMax = 200;
const newCouponsMax = 500;

/** Of the server: each request is to be looked at, not shut out for what others of its address were. */
export const fuzzFlags = { 'faults-per-address': '0' };

export interface FuzzPlan {
  target: Target;
  seed: number;
  count: number;
  /** For coupons of its own, where there are several on one server. */
  name: string;
  /** Called after every thousand. */
  said?(line: string): void;
}

export interface FuzzReport {
  shots: number;
  seconds: number;
  /** Answers by status. One shot may bring several. */
  statuses: Record<string, number>;
  /** Answers 503 by code. */
  unavailable: Record<string, number>;
  /** What must not be; with the request that brought it, where one did. At most a few are kept. */
  findings: string[];
  honest: { issued: number; maxMs: number };
  /** The worst of its batches of a thousand, and in the middle one of them. */
  stalled: Stalled & { medianMs: number; seed: number };
}

const findingsMax = 20;

export const adminToken = (): string => tokenOf('admin', { role: 'admin' });

/** @throws what the harness itself could not do; what the server did is in the report. */
export async function fuzz(plan: FuzzPlan): Promise<FuzzReport> {
  const { target, seed, count, name } = plan;
  const admin = createClient({ baseUrl: target.url, token: adminToken() });
  const known = await prepare(admin, name);
  const openApi = (await (await fetch(`${target.url}/openapi.json`)).json()) as OpenApi;
  const arbitrary = shots(openApi, known);
  const report: FuzzReport = {
    ...{ shots: 0, seconds: 0, statuses: {}, unavailable: {}, findings: [] },
    ...{ honest: { issued: 0, maxMs: 0 }, stalled: { maxMs: 0, p999Ms: 0, medianMs: 0, seed } },
  };
  await target.stalled();
  const begin = performance.now();
  const stalls: (Stalled & { seed: number })[] = [];
  const stopHonest = honestUsers(target, `${name}-honest`, report);
  for (let done = 0; done < count && report.findings.length < findingsMax && target.isAlive; done += sampleMax) {
    // The seed of a batch is printed with what it found: it alone makes the batch again.
    const batchSeed = seed + done / sampleMax;
    const batch = sampleOf(arbitrary, batchSeed, Math.min(sampleMax, count - done));
    await fire(target, batch, batchSeed, report);
    if (target.isAlive) stalls.push({ ...(await target.stalled()), seed: batchSeed });
    plan.said?.(`${report.shots} sent, ${report.findings.length} findings`);
  }
  await stopHonest();
  report.seconds = (performance.now() - begin) / 1_000;
  stalls.sort((a, b) => a.maxMs - b.maxMs);
  const [worst, middle] = [stalls.at(-1), stalls[stalls.length >> 1]];
  if (worst && middle) report.stalled = { ...worst, medianMs: middle.maxMs };
  await afterwards(target, admin, name, report);
  return report;
}

/** The same honest users for as long, and nobody else: what the event loop of this machine does by itself. */
export async function quiet(target: Target, name: string, ms: number): Promise<{ maxMs: number; stalledMs: number }> {
  const admin = createClient({ baseUrl: target.url, token: adminToken() });
  await admin.coupons.create({ couponId: `${name}-honest`, name: 'Honest', stock: 1_000_000 });
  const report = { honest: { issued: 0, maxMs: 0 }, findings: [] as string[] };
  await target.stalled();
  const stop = honestUsers(target, `${name}-honest`, report);
  await sleep(ms);
  await stop();
  if (report.findings.length > 0) throw new Error(report.findings[0]);
  return { maxMs: report.honest.maxMs, stalledMs: (await target.stalled()).maxMs };
}

async function prepare(admin: Client, name: string): Promise<Known> {
  const users = Array.from({ length: usersMax }, (_, i) => tokenOf(`${name}-user-${i}`));
  const couponIds = Array.from({ length: 40 }, (_, i) => `${name}-${i}`);
  const [taskIds, userCouponIds]: [string[], string[]] = [[], []];
  await admin.coupons.create({ couponId: `${name}-honest`, name: 'Honest', stock: 1_000_000 });
  await Promise.all(
    couponIds.map(async (couponId, i) => {
      const opensAt = i % 10 === 9 ? { opensAt: new Date(Date.now() + 86_400_000).toISOString() } : {};
      await admin.coupons.create({
        couponId,
        name: 'Fuzzed',
        stock: [0, 1, 5, 10_000_000][i % 4] as number,
        ...opensAt,
      });
      if (i % 4 !== 2 || i % 10 === 9) return;
      const claim = admin.claim(couponId, { token: users[i % users.length] as string });
      const { slot, taskId } = (await claim.outcome) as { slot?: number; taskId?: string };
      if (taskId) taskIds.push(taskId);
      if (slot) userCouponIds.push(userCouponIdOf(couponId, slot));
    }),
  );
  if (taskIds.length < 5) throw new Error(`only ${taskIds.length} of the tasks were made`);
  const nobody = [tokenOf('late', { exp: 1 }), tokenOf('x', {}, 'another secret'), tokenOf('a b\u0000')];
  const bearer = (token: string) => `Bearer ${token}`;
  return {
    newCouponIds: Array.from({ length: newCouponsMax }, (_, i) => `${name}-new-${i}`),
    ...{ couponIds, taskIds: taskIds.sort(), userCouponIds: userCouponIds.sort() },
    ...{ users: users.map(bearer), nobody: nobody.map(bearer), admin: bearer(adminToken()) },
  };
}

/** Ids of tasks that somebody was given. */
export async function tasksOf(url: string): Promise<string[]> {
  const admin = createClient({ baseUrl: url, token: adminToken() });
  await admin.coupons.create({ couponId: 'real', name: 'Real', stock: 100 });
  const claims = Array.from({ length: realTasks }, (_, i) => admin.claim('real', { token: tokenOf(`u${i}`) }).outcome);
  return (await Promise.all(claims)).flatMap(end => (end.taskId === undefined ? [] : [end.taskId]));
}

type Honest = Pick<FuzzReport, 'honest' | 'findings'>;

/** One after the other presses and must win. Resolves when the last has its answer. */
function honestUsers(target: Target, couponId: string, report: Honest): () => Promise<void> {
  let goOn = true;
  const client = createClient({ baseUrl: target.url });
  const run = async () => {
    for (let n = 0; goOn && report.findings.length < findingsMax; n++) {
      const begin = performance.now();
      const signal = AbortSignal.timeout(honestMsMax);
      try {
        const end = await client.claim(couponId, { token: tokenOf(`honest-${n}`), signal }).outcome;
        if (end.outcome === 'issued') report.honest.issued++;
        else report.findings.push(`an honest user was told ${JSON.stringify(end)}`);
      } catch (error) {
        report.findings.push(`an honest user had no answer: ${(error as Error).message}`);
      }
      report.honest.maxMs = Math.max(report.honest.maxMs, performance.now() - begin);
      await sleep(honestEveryMs);
    }
  };
  const running = run();
  return () => {
    goOn = false;
    return running;
  };
}

async function fire(target: Target, batch: readonly Shot[], seed: number, report: FuzzReport): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < batch.length && report.findings.length < findingsMax) {
      const index = next++;
      const shot = batch[index] as Shot;
      const text = await send(target.port, shot, index);
      report.shots++;
      const wrong = judge(shot, text, report);
      if (wrong) report.findings.push(`seed ${seed}, shot ${index}: ${wrong}; sent ${shown(shot)}`);
    }
  };
  await Promise.all(Array.from({ length: connectionsMax }, worker));
}

const shown = ({ kind, bytes, after }: Shot): string => {
  const text = JSON.stringify(bytes);
  return `${kind}, then ${after}: ${text.length > 1_500 ? `${text.slice(0, 1_500)}... (${bytes.length} bytes)` : text}`;
};

/** What came back, Latin-1; undefined when the connection was still open after `answerMsMax`. */
function send(port: number, { bytes, after }: Shot, n: number): Promise<string | undefined> {
  return new Promise(resolve => {
    const chunks: Buffer[] = [];
    const socket = connect({ port, host: '127.0.0.1', localAddress: `127.0.0.${2 + (n % 16)}` });
    const late = setTimeout(() => {
      resolve(undefined);
      socket.destroy();
    }, answerMsMax);
    socket.on('data', chunk => chunks.push(chunk as Buffer));
    // What the server does to us is what is looked at: 'close' follows.
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(late);
      resolve(Buffer.concat(chunks).toString('latin1'));
    });
    const buffer = Buffer.from(bytes, 'latin1');
    if (after === 'answer') socket.write(buffer);
    else if (after === 'end') socket.end(buffer);
    else socket.write(buffer, () => socket.resetAndDestroy());
  });
}

/** What is wrong with it, in a sentence. */
export function judge(
  { bytes, after }: Shot,
  text: string | undefined,
  report: Pick<FuzzReport, 'statuses' | 'unavailable'>,
): string | undefined {
  if (text === undefined) return `the connection was still open after ${answerMsMax} ms`;
  const heads = [...text.matchAll(/HTTP\/1\.[01] (\d{3}) [A-Z][\w' -]*\r\n((?:[^\r\n]+\r\n)*)\r\n/gi)];
  if (after === 'answer' && heads.length === 0) return `no answer (${JSON.stringify(text.slice(0, 100))})`;
  for (const [, status = '', headers = ''] of heads) {
    report.statuses[status] = (report.statuses[status] ?? 0) + 1;
    if (status === '503') {
      const code = /"code":"(\w+)"/.exec(text)?.[1] ?? 'none';
      report.unavailable[code] = (report.unavailable[code] ?? 0) + 1;
    } else if (Number(status) >= 500) return `answered ${status}: ${text.slice(0, 600)}`;
    const isProblem = /^content-type: application\/problem\+json\r$/im.test(headers);
    const isHead = /^HEAD /m.test(bytes);
    if (Number(status) >= 400 && !isProblem && !isHead) return `a refusal in another form: ${text.slice(0, 600)}`;
  }
  return undefined;
}

/** It runs, serves, has said nothing of an error, and has stored what it must have. */
async function afterwards(target: Target, admin: Client, name: string, report: FuzzReport): Promise<void> {
  const { findings, honest } = report;
  findings.push(...target.errors.slice(0, findingsMax).map(line => `it said: ${line.slice(0, 1_000)}`));
  if (!target.isAlive) {
    findings.push('the server has ended');
    return;
  }
  const last = await admin.claim(`${name}-honest`, { token: tokenOf('the-last') }).outcome;
  if (last.outcome === 'issued') honest.issued++;
  else findings.push(`the last honest user was told ${JSON.stringify(last)}`);
  const coupon = await admin.coupons.get(`${name}-honest`);
  if (coupon.issued !== honest.issued) findings.push(`${honest.issued} honest users won, ${coupon.issued} are issued`);
  const end = performance.now() + drainMsMax;
  let verification = await admin.verify(undefined, { answerMsMax: drainMsMax });
  while ((verification.behind ?? 0) > 0 && performance.now() < end) {
    await sleep(200);
    verification = await admin.verify(undefined, { answerMsMax: drainMsMax });
  }
  if (!verification.ok || (verification.behind ?? 0) > 0) {
    findings.push(`verify found ${JSON.stringify(verification).slice(0, 1_500)}`);
  }
}
