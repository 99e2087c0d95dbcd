/** Task ids that nobody was given: at the sealer, and asked for over HTTP. None may open. */
import { connect } from 'node:net';
import type { CouponId, RequestKey, UserId } from '../src/coupon.ts';
import { taskIdLengthMax } from '../src/limits.ts';
import { createSealer, type Sealer, type Task } from '../src/task.ts';

/** mulberry32: as fast as what is tried with it. */
export function chanceOf(seed: number): (below: number) => number {
  let state = seed | 0;
  return below => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
}

const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const foreign = ['=', '+', '/', '.', '%', ' ', '\u0000', 'é', '\ud800', '\n'];

export const forgeries = [
  'chance',
  'letters',
  'bit',
  'bits',
  'letter',
  'cut',
  'longer',
  'spliced',
  'secret',
  'log',
  'stray',
  'foreign',
  'huge',
] as const;
export type Forgery = (typeof forgeries)[number];

/** Makes them out of ids that were given to somebody. None that it answers was ever given to anybody. */
export class Forger {
  private readonly real: readonly string[];
  private readonly known: ReadonlySet<string>;
  private readonly chance: (below: number) => number;
  /** Another secret, and another log. */
  private readonly others: { secret: Sealer; log: Sealer };

  /** `real`: at least two. `secret` and `identity` are those that they were sealed with, as far as they are known. */
  constructor(real: readonly string[], seed: number, secret: string, identity: string) {
    this.real = real;
    this.known = new Set(real);
    this.chance = chanceOf(seed);
    const bytes = (n: number) => Buffer.from(Array.from({ length: n }, () => this.chance(256)));
    this.others = {
      secret: createSealer(`${secret}.`, identity, bytes),
      log: createSealer(secret, `${identity}.`, bytes),
    };
  }

  next(kind: Forgery): string {
    for (;;) {
      const id = this.made(kind);
      if (!this.known.has(id)) return id;
    }
  }

  private made(kind: Forgery): string {
    const { chance, real } = this;
    const id = real[chance(real.length)] as string;
    const at = chance(id.length);
    switch (kind) {
      case 'chance':
        return Buffer.from(Array.from({ length: 1 + chance(160) }, () => chance(256))).toString('base64url');
      case 'letters':
        return this.lettersOf(1 + chance(taskIdLengthMax));
      case 'bit':
        return this.turned(id, 1);
      case 'bits':
        return this.turned(id, 2 + chance(12));
      case 'letter':
        return id.slice(0, at) + letters[chance(64)] + id.slice(at + 1);
      case 'cut':
        return chance(2) === 0 ? id.slice(0, Math.max(1, at)) : id.slice(1 + (at % 100));
      case 'longer':
        return chance(2) === 0 ? id + this.lettersOf(1 + chance(40)) : this.lettersOf(1 + chance(40)) + id;
      case 'spliced': {
        // One's nonce, tag or text with another's.
        const other = real[chance(real.length)] as string;
        return id.slice(0, at) + other.slice(at);
      }
      case 'secret':
      case 'log':
        return this.others[kind].seal(this.task());
      case 'stray': {
        // The last letter with bits that are of no byte: a second name of the same bytes, where there are such bits.
        return id.slice(0, -1) + letters[chance(64)];
      }
      case 'foreign':
        return id.slice(0, at) + foreign[chance(foreign.length)] + id.slice(at);
      case 'huge':
        return this.lettersOf(taskIdLengthMax + 1 + chance(3_000));
    }
  }

  private turned(id: string, bits: number): string {
    const bytes = Buffer.from(id, 'base64url');
    for (let n = 0; n < bits; n++) {
      const bit = this.chance(bytes.length * 8);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
    }
    return bytes.toString('base64url');
  }

  private lettersOf(n: number): string {
    let out = '';
    while (out.length < n) out += letters[this.chance(64)];
    return out;
  }

  private task(): Task {
    const { chance } = this;
    return {
      couponId: `c${chance(1_000)}` as CouponId,
      userId: `u${chance(1_000_000)}` as UserId,
      partition: chance(4),
      offset: chance(1_000_000),
      key: chance(2 ** 32)
        .toString(16)
        .padStart(16, '0') as RequestKey,
    };
  }
}

export interface ForgedReport {
  tried: number;
  seconds: number;
  /** us of one call of `open`: on average, and of the slowest. */
  meanUs: number;
  maxUs: number;
  /** What one of a real one takes, on average. */
  realUs: number;
  findings: string[];
}

const findingsMax = 20;
const batchMax = 10_000;

/** At the sealer itself. Ids are made first, so that only opening is timed. */
export function forgeAtSealer(
  seed: number,
  count: number,
  /** Another in its place, to see whether one that opens is noticed. */
  replaced: (sealer: Sealer) => Sealer = sealer => sealer,
): ForgedReport {
  const [secret, identity] = ['a secret that the forger does not have', 'log-1'];
  const chance = chanceOf(~seed);
  const bytes = (n: number) => Buffer.from(Array.from({ length: n }, () => chance(256)));
  const sealer = replaced(createSealer(secret, identity, bytes));
  const real = Array.from({ length: 500 }, (_, i) => sealer.seal(realTask(i)));
  const forger = new Forger(real, seed, secret, identity);
  const findings: string[] = [];
  let [tried, us, maxUs] = [0, 0, 0];
  const begin = performance.now();
  while (tried < count) {
    const size = Math.min(batchMax, count - tried);
    const batch = Array.from({ length: size }, (_, i) => forger.next(kindOf(tried + i)));
    for (let i = 0; i < size; i++) {
      const from = performance.now();
      const task = sealer.open(batch[i] as string);
      const took = (performance.now() - from) * 1_000;
      us += took;
      maxUs = Math.max(maxUs, took);
      if (task !== undefined && findings.length < findingsMax) {
        findings.push(
          `seed ${seed}: ${kindOf(tried + i)} ${JSON.stringify(batch[i])} opened to ${JSON.stringify(task)}`,
        );
      }
    }
    tried += size;
  }
  const seconds = (performance.now() - begin) / 1_000;
  const from = performance.now();
  for (const id of real) if (sealer.open(id) === undefined) findings.push(`a real one does not open: ${id}`);
  const realUs = ((performance.now() - from) * 1_000) / real.length;
  return { tried, seconds, meanUs: us / tried, maxUs, realUs, findings };
}

const kindOf = (n: number): Forgery => forgeries[n % forgeries.length] as Forgery;

const realTask = (i: number): Task => ({
  couponId: `sale-${i % 7}` as CouponId,
  userId: `user.${'x'.repeat(i % 40)}${i}` as UserId,
  partition: i % 4,
  offset: i * 1_009,
  key: i.toString(16).padStart(16, '0') as RequestKey,
});

const linesMax = 8;
/** Requests on one connection ahead of their answers; the server takes 32. */
const aheadMax = 24;
const linesMsMax = 300_000;

export interface ForgedHttpReport {
  asked: number;
  seconds: number;
  findings: string[];
}

/** Over HTTP, as task and as stream: each must be 404, or 400 where a path cannot hold it. */
export async function forgeOverHttp(
  port: number,
  real: readonly string[],
  seed: number,
  count: number,
): Promise<ForgedHttpReport> {
  // The server's secret and log are known to nobody; others are as good as any.
  const forger = new Forger(real, seed, 'the secret of somebody else', 'another log');
  const report: ForgedHttpReport = { asked: 0, seconds: 0, findings: [] };
  const begin = performance.now();
  const share = Math.ceil(count / linesMax);
  await Promise.all(Array.from({ length: linesMax }, () => ask(port, forger, share, report)));
  report.seconds = (performance.now() - begin) / 1_000;
  if (report.asked < count) report.findings.push(`only ${report.asked} of ${count} were answered`);
  return report;
}

function ask(port: number, forger: Forger, count: number, report: ForgedHttpReport): Promise<void> {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1');
  const waiting: string[] = [];
  let [sent, text] = [0, ''];
  const fill = () => {
    let out = '';
    while (waiting.length < aheadMax && sent < count) {
      const id = forger.next(kindOf(sent));
      const tail = sent % 3 === 0 ? '/events' : '';
      waiting.push(id);
      out += `GET /tasks/${encodeURIComponent(id.toWellFormed())}${tail} HTTP/1.1\r\nhost: x\r\n\r\n`;
      sent++;
    }
    if (out !== '') socket.write(out);
    if (waiting.length === 0) socket.end();
  };
  const judge = (answer: string) => {
    const id = waiting.shift();
    report.asked++;
    const refused = /^HTTP\/1\.1 (404 [\s\S]*"code":"UNKNOWN_TASK"|400 [\s\S]*"code":"MALFORMED_REQUEST")/.test(answer);
    if (!refused && report.findings.length < findingsMax) {
      report.findings.push(`${JSON.stringify(id)} was answered ${answer.slice(0, 400)}`);
    }
  };
  return new Promise(resolve => {
    const late = setTimeout(() => socket.destroy(), linesMsMax);
    socket.on('connect', fill);
    // 'close' follows, and what was not answered is missing in the count.
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(late);
      resolve();
    });
    socket.on('data', chunk => {
      text += String(chunk);
      for (;;) {
        const head = text.indexOf('\r\n\r\n');
        if (head < 0) return;
        const length = Number(/\r\ncontent-length: (\d+)/i.exec(text.slice(0, head))?.[1] ?? Number.NaN);
        if (Number.isNaN(length)) {
          report.findings.push(`an answer without a length: ${text.slice(0, 400)}`);
          socket.destroy();
          return;
        }
        if (text.length < head + 4 + length) return;
        judge(text.slice(0, head + 4 + length));
        text = text.slice(head + 4 + length);
        if (waiting.length === 0) fill();
      }
    });
  });
}
