import type { Reply } from './problem.ts';

/** Seconds that a browser may remember the answer to its question. */
const preflightS = 600;

export interface Cors {
  /** Of every answer: name and value in turn. */
  headers: readonly string[];
  /** The answer to a browser that asks first; undefined where no other origin may call. */
  preflight: Reply | undefined;
}

export function createCors(origin: string | undefined): Cors {
  if (origin === undefined || origin === '') return { headers: [], preflight: undefined };
  const vary = origin === '*' ? [] : ['vary', 'origin'];
  const headers = [
    ...['access-control-allow-origin', origin],
    ...['access-control-expose-headers', 'location, retry-after'],
    ...vary,
  ];
  const allowed = 'authorization, content-type, idempotency-key, last-event-id, x-user-id';
  const asked = [
    ...['access-control-allow-methods', 'GET, HEAD, POST'],
    ...['access-control-allow-headers', allowed],
    ...['access-control-max-age', String(preflightS)],
  ];
  return { headers, preflight: { status: 204, headers: [...headers, ...asked], body: '' } };
}
