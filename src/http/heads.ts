/**
 * Heads that are read without node:http: those of presses, and of questions for tasks that nobody was given. Undefined,
 * or left where it is, is whatever is not exactly such a head, or says more of how HTTP goes on.
 */
import { type Asked, askedOf } from './asked.ts';
import { bareHeadBytesMax } from './limits.ts';
import type { Origin } from './origin.ts';

/** What is asked, and for which coupon. */
export interface Press {
  couponId: string;
  asked: Asked;
  from: Origin;
}

const lines = /(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n)+\r\n/.source;
const beforeCoupon = 'POST /coupons/';
const press = new RegExp(`^${beforeCoupon}[a-z0-9-]{1,64}/issue HTTP/1\\.1\\r\\n${lines}$`);
const beforeTask = 'GET /tasks/';
const question = new RegExp(`${beforeTask}([\\w.~!$&'()*+,;=:@%-]+)(?:/events)? HTTP/1\\.1\\r\\n${lines}`, 'y');

/** Of the head of one press, and nothing else. */
export function pressOf(bytes: Buffer): Press | undefined {
  if (bytes.length > bareHeadBytesMax) return undefined;
  const text = bytes.toString('latin1');
  if (!press.test(text)) return undefined;
  const from = nowhere('POST');
  const headers = headersOf(bytes, text, 0, text.length, from);
  if (!headers) return undefined;
  const couponId = text.slice(beforeCoupon.length, text.indexOf('/', beforeCoupon.length));
  return { couponId, asked: askedOf(headers), from };
}

export interface Strangers {
  /** Questions at the beginning of the bytes. */
  count: number;
  /** Where they end. */
  end: number;
  /** With `more` than `max` of them perhaps, with what may be the beginning of one, or with anything else or nothing. */
  goesOn: 'more' | 'begun' | 'otherwise';
}

/** `isStrange` is asked for each task id, as it stands in the path. */
export function strangersIn(bytes: Buffer, isStrange: (segment: string) => boolean, max: number): Strangers {
  const text = bytes.toString('latin1');
  let [count, end] = [0, 0];
  while (text.startsWith(beforeTask, end)) {
    if (count >= max) return { count, end, goesOn: 'more' };
    question.lastIndex = end;
    const found = question.exec(text);
    const next = question.lastIndex;
    if (!found || next - end > bareHeadBytesMax) break;
    if (!headersOf(bytes, text, end, next, nowhere('GET')) || !isStrange(found[1] as string)) break;
    count++;
    end = next;
  }
  return { count, end, goesOn: isBeginning(text, end) ? 'begun' : 'otherwise' };
}

function isBeginning(text: string, at: number): boolean {
  const length = text.length - at;
  if (length === 0 || length >= bareHeadBytesMax || text.includes('\r\n\r\n', at)) return false;
  return beforeTask.startsWith(text.slice(at, at + beforeTask.length));
}

const nowhere = (method: string): Origin => ({ method, host: undefined, origin: undefined, site: undefined });

/** Name and value in turn, of a head that has the form of one; `from` is filled in. */
function headersOf(bytes: Buffer, text: string, begin: number, end: number, from: Origin): string[] | undefined {
  const headers: string[] = [];
  let [hosts, lengths] = [0, 0];
  for (let at = text.indexOf('\r\n', begin) + 2; at < end - 2; ) {
    const colon = text.indexOf(':', at);
    const lineEnd = text.indexOf('\r\n', colon);
    const name = text.slice(at, colon);
    // From the bytes: a piece of the text would keep all of it in memory, wherever a user's id is remembered.
    const value = bytes.toString('latin1', colon + (text[colon + 1] === ' ' ? 2 : 1), lineEnd).trim();
    switch (name.length) {
      case 4:
        if (name.toLowerCase() !== 'host') break;
        from.host = value;
        hosts++;
        break;
      case 6:
      case 7:
      case 10:
      case 16:
      case 17:
        if (decides(name.toLowerCase(), value)) return undefined;
        if (name.toLowerCase() !== 'origin') break;
        if (from.origin !== undefined) return undefined;
        from.origin = value;
        break;
      case 14:
        if (name.toLowerCase() === 'sec-fetch-site') {
          if (from.site !== undefined) return undefined;
          from.site = value;
        }
        if (name.toLowerCase() !== 'content-length') break;
        if (value !== '0' || ++lengths > 1) return undefined;
    }
    headers.push(name, value);
    at = lineEnd + 2;
  }
  return hosts === 1 ? headers : undefined;
}

/** Whether the header says more of the connection than that it stays. */
function decides(name: string, value: string): boolean {
  switch (name) {
    case 'connection':
      return value.toLowerCase() !== 'keep-alive';
    case 'expect':
    case 'upgrade':
    case 'proxy-connection':
    case 'transfer-encoding':
      return true;
    default:
      return false;
  }
}
