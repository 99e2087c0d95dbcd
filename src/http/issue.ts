/**
 * The button. This route is served in front of fastify, which costs 13 to 20 us a request, and mostly of node:http,
 * which costs 12 (bare.ts); errors, who asks, rates and metrics are the same mechanism as everywhere. What is cheap
 * to refuse is refused first.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type CouponId, isCouponId, type UserId, userCouponIdOf } from '../coupon.ts';
import { messageOf } from '../errors.ts';
import type { Host } from '../host.ts';
import type { Answer, FrontDoor, Refusal } from '../issue.ts';
import { issueBodyBytesMax } from '../limits.ts';
import type { Log, Metrics } from '../metrics.ts';
import { keyHash, type Sealer, type Task } from '../task.ts';
import { type Asked, addressOf, askedOf, headFault } from './asked.ts';
import type { Auth } from './auth.ts';
import { BareConnection } from './bare.ts';
import { willEnd } from './connection.ts';
import { drainBytesMax } from './limits.ts';
import {
  malformed,
  notAccepted,
  outcomeUnknown,
  type Problem,
  problem,
  problemOf,
  type Reply,
  replyOf,
} from './problem.ts';
import { unescaped } from './query.ts';
import type { Rates } from './rate.ts';
import type { Asker, Replies } from './replies.ts';
import { taskJson } from './tasks.ts';

export const issuePath = '/coupons/:couponId/issue';

export interface IssueTools {
  door: FrontDoor;
  sealer: Sealer;
  auth: Auth;
  rates: Rates;
  host: Host;
  metrics: Metrics;
  say: Log;
  replies: Replies;
}

const malformedId: Problem = malformed('couponId in the path must be 1 to 64 of a-z 0-9 -');
const internal: Problem = problem('INTERNAL', 'the operator finds the reason in the log');

export class IssueRoute {
  private readonly tools: IssueTools;
  private accepted = 0;
  private readonly refused = new Map<string, number>();

  constructor(tools: IssueTools) {
    this.tools = tools;
    tools.replies.after(() => this.count());
  }

  /** `couponText` is what stands in the path. */
  serve(req: IncomingMessage, res: ServerResponse, couponText: string): void {
    this.press(res, couponText, askedOf(req.rawHeaders));
  }

  press(asker: Asker, couponText: string, asked: Asked) {
    const couponId = couponIdOf(couponText);
    if (couponId === undefined) return this.refuse(asker, ready.malformedId, asked);
    if (asked.key === undefined) {
      const shut = this.tools.door.latch.shut(couponId);
      if (shut) return this.refuse(asker, ready[shut], asked);
    }
    const fault = headFault(asked);
    if (fault) return this.refuse(asker, replyOf(fault), asked);
    const who = this.tools.auth.user(asked);
    if (who instanceof Promise) {
      who.then(
        found => this.known(asker, couponId, asked, found),
        error => this.failed(asker, asked, error),
      );
    } else this.known(asker, couponId, asked, who);
  }

  private known(asker: Asker, couponId: CouponId, asked: Asked, who: UserId | Problem) {
    if (typeof who !== 'string') return this.refuse(asker, replyOf(who), asked);
    const limited = this.tools.rates.refuse(who, () => addressOf(requestOf(asker)));
    if (limited) return this.refuse(asker, replyOf(limited), asked);
    if (asker instanceof BareConnection || !hasBody(asked)) return this.issue(asker, couponId, who, asked);
    const unfit = bodyFault(asked);
    if (unfit) return this.refuse(asker, replyOf(unfit), asked);
    readBody(asker.req, body => {
      const wrong = typeof body === 'string' ? contentFault(body) : body;
      if (wrong) this.refuse(asker, replyOf(wrong), asked);
      else this.issue(asker, couponId, who, asked);
    });
  }

  private issue(asker: Asker, couponId: CouponId, userId: UserId, asked: Asked): void {
    const { key } = asked;
    const request = key === undefined ? undefined : keyHash(`${couponId} ${userId}`, key);
    this.tools.door.issue(couponId, userId, request).then(
      answer => this.answer(asker, couponId, answer),
      error => this.failed(asker, asked, error),
    );
  }

  private answer(asker: Asker, couponId: CouponId, answer: Answer) {
    switch (answer.kind) {
      case 'accepted':
        this.accepted++;
        return this.tools.replies.send(asker, this.acceptedReply(answer.task, answer.ahead));
      case 'won_before':
        return this.tools.replies.send(asker, this.wonReply(answer));
      case 'refused':
        return this.send(asker, this.refusalReply(couponId, answer));
    }
  }

  /** Ids hold nothing that JSON would have to escape. */
  private acceptedReply(task: Task, ahead: number | undefined): Reply {
    const taskId = this.tools.sealer.seal(task);
    const path = `/tasks/${taskId}`;
    const place = ahead === undefined ? '' : `,"ahead":${ahead}`;
    const body = `{"taskId":"${taskId}","couponId":"${task.couponId}","state":"accepted"${place},"links":{"task":"${path}","events":"${path}/events"}}`;
    return { status: 202, headers: this.headersOf(body, path), body };
  }

  private wonReply({ task, holder }: Extract<Answer, { kind: 'won_before' }>): Reply {
    const taskId = this.tools.sealer.seal(task);
    const { slot, at } = holder;
    const status = { state: 'done', outcome: 'issued', slot, at } as const;
    const body = JSON.stringify(taskJson(taskId, task.couponId, status, undefined));
    return { status: 200, headers: this.headersOf(body, `/tasks/${taskId}`), body };
  }

  private headersOf(body: string, location: string): string[] {
    const { length } = body;
    return [
      ...['content-type', 'application/json; charset=utf-8', 'content-length', String(length), 'location', location],
    ];
  }

  private refusalReply(couponId: CouponId, refusal: Refusal): Reply {
    switch (refusal.code) {
      case 'UNKNOWN_COUPON':
        return ready.unknownCoupon;
      case 'NOT_ACCEPTED':
        return ready.notAccepted;
      case 'OUTCOME_UNKNOWN':
        return ready.outcomeUnknown;
      case 'DUPLICATED_COUPON': {
        const { slot } = refusal;
        const more = { slot, userCouponId: userCouponIdOf(couponId, slot) };
        return replyOf(problem('DUPLICATED_COUPON', 'this user holds the coupon already', { more }));
      }
      case 'INACTIVE_COUPON': {
        if (refusal.reason !== 'not_open') return ready[refusal.reason];
        const more = { reason: refusal.reason, opensAt: new Date(refusal.opensAt).toISOString() };
        const inS = Math.max(1, Math.ceil(refusal.waitMs / 1000));
        return replyOf(problem('INACTIVE_COUPON', 'the coupon is not open yet', { more, retryAfterS: inS }));
      }
    }
  }

  private failed(asker: Asker, asked: Asked, error: unknown): void {
    const known = problemOf(error);
    if (!known) this.tools.say('error', `POST /coupons/{couponId}/issue failed: ${messageOf(error)}`);
    this.refuse(asker, replyOf(known ?? internal), asked);
  }

  /** While there may be a body that nobody reads. */
  private refuse(asker: Asker, reply: Reply, asked: Asked): void {
    if (asker instanceof BareConnection || asker.req.complete || isBodySmall(asked)) this.send(asker, reply);
    else {
      this.note(reply);
      refuseUnread(asker, reply);
    }
  }

  private send(asker: Asker, reply: Reply): void {
    this.note(reply);
    this.tools.replies.send(asker, reply);
  }

  private note({ code = 'INTERNAL' }: Reply): void {
    this.refused.set(code, (this.refused.get(code) ?? 0) + 1);
  }

  private count(): void {
    const { metrics } = this.tools;
    if (this.accepted > 0) metrics.count('accepted', this.accepted);
    this.accepted = 0;
    if (this.refused.size === 0) return;
    for (const [code, n] of this.refused) metrics.count('refused', n, code);
    this.refused.clear();
  }
}

const inactive = (reason: string, detail: string) => problem('INACTIVE_COUPON', detail, { more: { reason } });

/** The answers that are always the same, whole. */
const ready = {
  malformedId: replyOf(malformedId),
  notAccepted: replyOf(notAccepted),
  outcomeUnknown: replyOf(outcomeUnknown),
  unknownCoupon: replyOf(problem('UNKNOWN_COUPON', 'there is no coupon with this id')),
  sold_out: replyOf(inactive('sold_out', 'all of them are taken')),
  closed: replyOf(inactive('closed', 'the sale is closed')),
};

function couponIdOf(text: string): CouponId | undefined {
  if (isCouponId(text)) return text;
  const id = unescaped(text);
  return isCouponId(id) ? id : undefined;
}

const requestOf = (asker: Asker) => (asker instanceof BareConnection ? asker : asker.req);

const hasBody = ({ contentLength, chunked }: Asked): boolean =>
  chunked || (contentLength !== undefined && contentLength !== '0');

function bodyFault({ contentLength, contentType }: Asked): Problem | undefined {
  if (contentLength !== undefined && Number(contentLength) > issueBodyBytesMax) return tooLarge;
  if (contentType !== undefined && /^application\/json\s*(;|$)/i.test(contentType)) return undefined;
  return problem('UNSUPPORTED_MEDIA_TYPE', 'no body is needed; if there is one, it is application/json');
}

const tooLarge: Problem = problem('BODY_TOO_LARGE', 'no body is needed; if there is one, it has at most 1 KiB');

/** Nothing may stand in the body yet: an unknown field is refused, so that a later one means something. */
function contentFault(text: string): Problem | undefined {
  if (text === '') return undefined;
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return malformed('the body is not JSON');
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return malformed('body must be object');
  const [field] = Object.keys(body);
  return field === undefined
    ? undefined
    : malformed(`body has the unknown field ${JSON.stringify(field.slice(0, 64))}`);
}

/** Calls back once, with the text or what is wrong; not at all when the client goes away. */
function readBody(req: IncomingMessage, done: (body: string | Problem) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const take = (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= issueBodyBytesMax) {
      chunks.push(chunk);
      return;
    }
    req.off('data', take);
    req.off('end', end);
    done(tooLarge);
  };
  const end = () => done(Buffer.concat(chunks).toString());
  req.on('data', take);
  req.on('end', end);
  // The response's own 'close' ends what is left of a client that went away.
  req.on('error', () => {});
}

/** A small body that nobody reads is thrown away by node when the answer is written, and the connection stays. */
const isBodySmall = ({ contentLength, chunked }: Asked): boolean =>
  !chunked && (contentLength === undefined || Number(contentLength) <= issueBodyBytesMax);

/** Answers, then reads on for a while, so that the answer is not lost to a reset; then the connection ends. */
function refuseUnread(res: ServerResponse, { status, headers, body }: Reply): void {
  const { req } = res;
  willEnd(req.socket);
  let left = drainBytesMax;
  res.writeHead(status, [...headers, 'connection', 'close']);
  res.write(body);
  req.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) res.destroy();
  });
  req.on('end', () => res.end());
  req.on('error', () => res.destroy());
}
