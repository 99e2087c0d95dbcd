/** A small server that speaks API.md from memory, for the client's and the command line's tests. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Seen {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  body: string;
}

interface Task {
  taskId: string;
  couponId: string;
  state: 'accepted' | 'done';
  outcome?: 'issued' | 'duplicated' | 'inactive';
  reason?: string;
  slot?: number;
  userCouponId?: string;
}

export interface Fake {
  url: string;
  seen: Seen[];
  coupons: Map<string, { couponId: string; stock: number; issued: number; [member: string]: unknown }>;
  /** Answers a request itself and says true; else the server does. */
  intercept: (request: Seen, response: ServerResponse) => boolean | undefined;
  /** Tasks stay `accepted` until `release`. */
  held: boolean;
  release(): void;
  /** What GET /admin/... answers. */
  admin: Record<string, unknown>;
  /** Resolves once `test` holds; looked at after every request and every stream's end. */
  until(test: () => boolean): Promise<void>;
  streamsOpen: number;
  /** Ends all connections at once. */
  cut(): void;
  close(): Promise<void>;
}

export function problem(response: ServerResponse, status: number, code: string, more: object = {}, headers = {}): true {
  response.writeHead(status, { 'content-type': 'application/problem+json', ...headers });
  response.end(
    JSON.stringify({ type: `urn:dibs:${code}`, title: code, status, detail: `it is ${code}`, code, ...more }),
  );
  return true;
}

export function json(response: ServerResponse, status: number, body: unknown): true {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
  return true;
}

export async function startFake(stock = 3): Promise<Fake> {
  const tasks = new Map<string, Task>();
  const byKey = new Map<string, Task>();
  const holders = new Map<string, Task>();
  const undecided: (() => void)[] = [];
  const watchers = new Set<() => void>();
  const waiting = new Set<{ test: () => boolean; done: () => void }>();
  const look = () => {
    for (const one of waiting) if (one.test()) one.done();
  };

  const coupon = (couponId: string, units: number) => ({
    couponId,
    name: couponId,
    stock: units,
    issued: 0,
    createdAt: '2026-01-01T00:00:00.000Z',
  });
  const shown = (c: ReturnType<typeof coupon>) => ({
    ...c,
    reserved: 0,
    remaining: c.stock - c.issued,
    state: c.issued < c.stock ? 'open' : 'sold_out',
  });

  const decide = (task: Task, user: string) => {
    const of = fake.coupons.get(task.couponId);
    const held = holders.get(`${task.couponId} ${user}`);
    task.state = 'done';
    if (held) Object.assign(task, { outcome: 'duplicated', slot: held.slot, userCouponId: held.userCouponId });
    else if (of && of.issued < of.stock) {
      of.issued++;
      Object.assign(task, { outcome: 'issued', slot: of.issued, userCouponId: `${of.couponId}.${of.issued}` });
      holders.set(`${task.couponId} ${user}`, task);
    } else Object.assign(task, { outcome: 'inactive', reason: 'sold_out' });
    for (const watcher of [...watchers]) watcher();
  };

  const issue = (request: Seen, response: ServerResponse, couponId: string) => {
    const user = String(request.headers['x-user-id'] ?? '');
    if (user === '') return problem(response, 401, 'UNAUTHENTICATED');
    if (!fake.coupons.has(couponId)) return problem(response, 404, 'UNKNOWN_COUPON');
    const key = `${couponId} ${user} ${request.headers['idempotency-key']}`;
    let task = byKey.get(key);
    if (!task) {
      task = { taskId: `task-${tasks.size + 1}`, couponId, state: 'accepted' };
      tasks.set(task.taskId, task);
      byKey.set(key, task);
      const made = task;
      if (fake.held) undecided.push(() => decide(made, user));
      else decide(task, user);
    }
    const links = { task: `/tasks/${task.taskId}`, events: `/tasks/${task.taskId}/events` };
    return json(response, 202, { taskId: task.taskId, couponId, state: 'accepted', ahead: undecided.length, links });
  };

  const stream = (response: ServerResponse, task: Task) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write(`retry: 5\nid: 1\nevent: progress\ndata: {"state":"accepted","ahead":${undecided.length}}\n\n`);
    fake.streamsOpen++;
    const tell = () => {
      if (task.state !== 'done') return;
      watchers.delete(tell);
      response.end(`id: 2\nevent: outcome\ndata: ${JSON.stringify(task)}\n\n`);
    };
    watchers.add(tell);
    response.on('close', () => {
      watchers.delete(tell);
      fake.streamsOpen--;
      look();
    });
    tell();
    return true;
  };

  const route = (request: Seen, response: ServerResponse): boolean => {
    const [path = '', search = ''] = request.path.split('?');
    const [, first, id = '', last = ''] = path.split('/').map(decodeURIComponent);
    const of = fake.coupons.get(id);
    if (first === 'coupons') {
      if (last === 'issue') return issue(request, response, id);
      if (id === '' && request.method === 'GET')
        return json(response, 200, { items: [...fake.coupons.values()].map(c => shown(c as never)) });
      if (id === '') {
        const made = { ...coupon('', 0), ...JSON.parse(request.body) };
        fake.coupons.set(made.couponId, made);
        return json(response, 201, shown(made));
      }
      if (!of) return problem(response, 404, 'UNKNOWN_COUPON', { detail: `there is no coupon "${id}"` });
      if (last === 'stock') of.stock += JSON.parse(request.body).add;
      return json(response, 200, shown(of as never));
    }
    if (first === 'tasks') {
      const task = tasks.get(id);
      if (!task) return problem(response, 404, 'UNKNOWN_TASK');
      return last === 'events' ? stream(response, task) : json(response, 200, task);
    }
    const answer = fake.admin[path.slice(1) + (search ? `?${search}` : '')] ?? fake.admin[path.slice(1)];
    return answer === undefined ? problem(response, 404, 'NOT_FOUND') : json(response, 200, answer);
  };

  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', chunk => {
      body += chunk;
    });
    request.on('end', () => {
      const seen = { method: request.method ?? '', path: request.url ?? '', headers: request.headers, body };
      fake.seen.push(seen);
      if (!fake.intercept(seen, response)) route(seen, response);
      look();
    });
  });
  server.listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));

  const fake: Fake = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen: [],
    coupons: new Map([['c', coupon('c', stock)]]),
    intercept: () => undefined,
    held: false,
    admin: { 'admin/verify': { ok: true, coupons: [], checkedEntries: 0, unanswered: 0 } },
    streamsOpen: 0,
    release() {
      for (const one of undecided.splice(0)) one();
    },
    until: test =>
      new Promise(resolve => {
        const one = {
          test,
          done: () => {
            waiting.delete(one);
            resolve();
          },
        };
        waiting.add(one);
        look();
      }),
    cut: () => server.closeAllConnections(),
    async close() {
      const closed = new Promise(resolve => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
  return fake;
}
