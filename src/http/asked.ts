import type { Socket } from 'node:net';
import { isIdempotencyKey } from '../coupon.ts';
import { idempotencyKeyLengthMax } from '../limits.ts';
import { malformed, type Problem } from './problem.ts';

/** The few headers that the routes look at, as they came. Node's own object of all of them costs 2 us. */
export interface Asked {
  userId: string | undefined;
  key: string | undefined;
  authorization: string | undefined;
  contentType: string | undefined;
  contentLength: string | undefined;
  accept: string | undefined;
  lastEventId: string | undefined;
  chunked: boolean;
  /** A header that decides who asks for what came twice. */
  twice: string | undefined;
}

/** `raw` is IncomingMessage.rawHeaders: name and value in turn. */
export function askedOf(raw: readonly string[]): Asked {
  const asked: Asked = {
    userId: undefined,
    key: undefined,
    authorization: undefined,
    contentType: undefined,
    contentLength: undefined,
    accept: undefined,
    lastEventId: undefined,
    chunked: false,
    twice: undefined,
  };
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string;
    // The length tells most headers from ours.
    switch (name.length) {
      case 6:
        if (name.toLowerCase() === 'accept')
          asked.accept = asked.accept === undefined ? raw[i + 1] : `${asked.accept},${raw[i + 1]}`;
        break;
      case 9:
        if (name.toLowerCase() === 'x-user-id') take(asked, 'userId', name, raw[i + 1]);
        break;
      case 12:
        if (name.toLowerCase() === 'content-type') take(asked, 'contentType', name, raw[i + 1]);
        break;
      case 13:
        if (name.toLowerCase() === 'authorization') take(asked, 'authorization', name, raw[i + 1]);
        else if (name.toLowerCase() === 'last-event-id') asked.lastEventId = raw[i + 1];
        break;
      case 14:
        if (name.toLowerCase() === 'content-length') asked.contentLength = raw[i + 1];
        break;
      case 15:
        if (name.toLowerCase() === 'idempotency-key') take(asked, 'key', name, raw[i + 1]);
        break;
      case 17:
        if (name.toLowerCase() === 'transfer-encoding') asked.chunked = true;
        break;
    }
  }
  return asked;
}

function take(asked: Asked, field: 'userId' | 'contentType' | 'authorization' | 'key', name: string, value?: string) {
  if (asked[field] !== undefined) asked.twice = name.toLowerCase();
  asked[field] = value;
}

/** What is wrong with the headers of any route, if anything is. */
export function headFault({ twice, key }: Asked): Problem | undefined {
  if (twice !== undefined) return malformed(`the header ${twice} came twice`);
  if (key !== undefined && !isIdempotencyKey(key)) {
    return malformed(`the header Idempotency-Key must be 1 to ${idempotencyKeyLengthMax} visible ASCII characters`);
  }
  return undefined;
}

export const addressOf = ({ socket }: { socket: Socket }): string => socket.remoteAddress ?? '';
