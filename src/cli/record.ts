/** Writes the history of what goes through a fetch: every call with its answer, every event of a stream. */
import { type AskTask, type Call, type HistoryLine, toldOf } from '../checker/history.ts';
import type { ChunkReader, FetchAnswer, FetchInit, FetchLike } from '../client/http.ts';
import { SseParser } from '../client/sse.ts';

/** ms of a clock that never steps, the same for all that goes into one history. */
const now = (): number => performance.now();

/** `basePath`: where the server is below its origin, as `/dibs` behind a proxy. */
export function recorded(fetch: FetchLike, note: (line: HistoryLine) => void, basePath = ''): FetchLike {
  let streams = 0;
  return async (url, init) => {
    const path = new URL(url).pathname.slice(basePath.length + 1);
    const [root, name, action, ...more] = path.split('/').map(decodeURIComponent);
    const asked = more.length > 0 ? undefined : askedOf([init.method, root, action].join(' '), name ?? '', init);
    if (!asked) return fetch(url, init);
    const call = { ...asked, from: now() } as Call;
    try {
      const answer = await fetch(url, init);
      // Of a stream that was opened its events are the history.
      if (isStream(call) && answer.status === 200) return followed(answer, call.task, ++streams, note);
      return { ...answer, status: answer.status, headers: answer.headers, text: () => heard(answer, call, note) };
    } catch (error) {
      note(call);
      throw error;
    }
  };
}

/** What is asked, without its times; undefined when a history is not interested. */
function askedOf(what: string, name: string, { headers, body }: FetchInit): object | undefined {
  const idempotencyKey = headers['idempotency-key'];
  const key = idempotencyKey === undefined ? {} : { key: idempotencyKey };
  switch (what.trimEnd()) {
    case 'POST coupons issue':
      return { op: 'issue', coupon: name, user: userOf(headers), ...key };
    case 'GET tasks events':
      return { op: 'task', task: name, stream: true };
    case 'GET tasks':
      return { op: 'task', task: name };
    case 'POST coupons close':
      return { op: 'close', coupon: name };
    case 'POST coupons stock':
      return { op: 'stock', coupon: name, add: JSON.parse(body ?? '{}').add, ...key };
    case 'POST coupons': {
      const { couponId, stock, opensAt, closesAt } = JSON.parse(body ?? '{}') as Record<string, string>;
      // One whose id the server makes up is not followed.
      if (couponId === undefined) return undefined;
      return { op: 'create', coupon: couponId, stock, opensAt: millis(opensAt), closesAt: millis(closesAt) };
    }
    default:
      return undefined;
  }
}

const isStream = (call: Call): call is AskTask => call.op === 'task' && call.stream === true;

const millis = (time: string | undefined): number | null => (time === undefined ? null : Date.parse(time));

/** As the server knows the caller. */
function userOf({ authorization, ...headers }: Record<string, string>): string {
  if (authorization === undefined) return headers['x-user-id'] ?? '';
  const claims = Buffer.from(authorization.split('.')[1] ?? '', 'base64url').toString();
  return String((JSON.parse(claims || '{}') as { sub?: unknown }).sub ?? '');
}

async function heard(answer: FetchAnswer, call: Call, note: (line: HistoryLine) => void) {
  let text: string;
  try {
    text = await answer.text();
  } catch (error) {
    note(call);
    throw error;
  }
  const body = toldOf(jsonOf(text));
  note({ ...call, to: now(), status: answer.status, ...(Object.keys(body).length > 0 ? { body } : {}) });
  return text;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // A proxy's page: the status has to do.
    return undefined;
  }
}

function followed(answer: FetchAnswer, task: string, stream: number, note: (line: HistoryLine) => void): FetchAnswer {
  const parser = new SseParser();
  const decoder = new TextDecoder();
  const { status, headers, body } = answer;
  const listening = (reader: ChunkReader): ChunkReader => ({
    async read() {
      const chunk = await reader.read();
      const at = now();
      const events = chunk.value ? parser.push(decoder.decode(chunk.value, { stream: true })) : [];
      for (const { event, data } of events) {
        note({ op: 'frame', at, stream, task, event, body: toldOf(jsonOf(data)) });
      }
      return chunk;
    },
    cancel: () => reader.cancel(),
  });
  return { status, headers, text: () => answer.text(), body: body && { getReader: () => listening(body.getReader()) } };
}
