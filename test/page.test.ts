/** The page's own script, in a browser of a few lines. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { holds } from './support/until.ts';

const html = readFileSync(new URL('../src/http/page.html', import.meta.url), 'utf8');
const script = html.slice(html.indexOf('<script>') + '<script>'.length, html.indexOf('</script>'));

/** A body of undefined is no JSON; what has no status never comes. */
type Answers = Record<string, { status?: number; body?: unknown }>;

const coupon = { couponId: 'c', name: 'C', stock: 3, remaining: 3, state: 'open' };
const accepted = { links: { task: '/tasks/t', events: '/tasks/t/events' } };

function elementOf() {
  const attributes: Record<string, string> = {};
  const events: Record<string, () => void> = {};
  return {
    ...{ textContent: '', value: '', className: '', style: {} as { width?: string }, attributes, events },
    append() {},
    setAttribute(name: string, value: string) {
      attributes[name] = value;
    },
    addEventListener(event: string, act: () => void) {
      events[event] = act;
    },
    click: () => events.click?.(),
    get off() {
      return attributes['aria-disabled'] === 'true';
    },
  };
}

type Element = ReturnType<typeof elementOf>;

/** Of a browser, for one host. */
const connections = 6;

/** What a browser keeps from visit to visit; null: it keeps nothing. */
type Storage = Map<string, string> | null;

/** The page of a server with one coupon, which takes every press and refuses every stream, or never ends one. */
async function open(answers: Answers, storage: Storage = new Map([['dibs.user', 'ann']]), pushes = false) {
  const all: Answers = {
    '/coupons': { status: 200, body: { items: [coupon] } },
    '/coupons/c/issue': { status: 202, body: accepted },
  };
  const asked: string[] = [];
  const keys: (string | undefined)[] = [];
  let streams = 0;
  const made: Element[] = [];
  const element = () => {
    const one = elementOf();
    made.push(one);
    return one;
  };
  const user = element();
  let refresh = () => {};
  runInNewContext(script, {
    crypto,
    document: { createElement: element, getElementById: (id: string) => (id === 'user' ? user : element()) },
    ...(storage && {
      localStorage: {
        getItem: (name: string) => storage.get(name) ?? null,
        setItem: (name: string, value: string) => storage.set(name, value),
      },
    }),
    setInterval(act: () => void) {
      refresh = act;
    },
    // A second is a millisecond.
    setTimeout: (act: () => void, ms: number) => setTimeout(act, ms / 1000).unref(),
    clearTimeout,
    AbortSignal: { timeout: (ms: number) => AbortSignal.timeout(ms / 1000) },
    EventSource: class {
      static readonly CLOSED = 2;
      readonly readyState = pushes ? 1 : 2;
      constructor() {
        streams++;
      }
      addEventListener(event: string, act: () => void) {
        if (event === 'error' && !pushes) setImmediate(act);
      }
      close() {
        streams--;
      }
    },
    async fetch(path: string, { headers, signal }: { headers?: Record<string, string>; signal?: AbortSignal } = {}) {
      asked.push(path);
      if (headers) keys.push(headers['Idempotency-Key']);
      const { status, body } = { ...all, ...answers }[path] as Answers[string];
      if (status === undefined || streams >= connections) {
        return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
      }
      return { status, ok: status < 400, json: async () => JSON.parse(JSON.stringify(body) ?? '<html>') };
    },
  });
  const named = (test: (one: Element) => boolean) => made.find(test) as Element;
  await holds(() => assert.ok(named(({ attributes }) => attributes['aria-label'] === 'Claim C')));
  return {
    ...{ asked, keys, user },
    refresh: () => refresh(),
    streams: () => streams,
    /** Of all cards, in the order of the list. */
    buttons: made.filter(({ textContent }) => textContent === 'Claim'),
    allSaid: made.filter(({ className }) => className === 'said'),
    button: named(({ textContent }) => textContent === 'Claim'),
    said: named(({ className }) => className === 'said'),
    bar: named(({ style }) => style.width !== undefined),
  };
}

/** Types another name into the field. */
function rename(user: Element, name: string): void {
  user.value = name;
  user.events.input?.();
}

test('a user id that no server takes is told before anything is asked', async () => {
  const { asked, button, said, user } = await open({});
  for (const id of ['김민지', 'ann lee', '', 'a'.repeat(65)]) {
    user.value = id;
    button.click();
    assert.deepEqual([said.textContent, button.off], ['A user id is 1 to 64 of A-Z a-z 0-9 . _ : @ -', false], id);
  }
  assert.deepEqual(asked, ['/coupons']);
});

test('a request that the server does not know any more is told, and the button may be pressed again', async () => {
  const { button, said } = await open({ '/tasks/t': { status: 404, body: { code: 'UNKNOWN_TASK' } } });
  button.click();
  assert.equal(button.off, true);
  await holds(() => assert.match(said.textContent, /does not know this request any more/), 2_000);
  assert.equal(button.off, false);
});

test('a proxy that answers for the server is asked again', async () => {
  const answers: Answers = { '/tasks/t': { status: 502 } };
  const { asked, button, said } = await open(answers);
  button.click();
  await holds(() => assert.ok(asked.filter(path => path === '/tasks/t').length > 1), 2_000);
  answers['/tasks/t'] = { status: 200, body: { state: 'done', outcome: 'issued', slot: 1 } };
  await holds(() => assert.equal(said.textContent, 'Yours! Number 1.'), 2_000);
});

test('a made-up name is kept, and a browser that keeps nothing shows the page all the same', async () => {
  const storage: Storage = new Map();
  const { user } = await open({}, storage);
  assert.match(user.value, /^guest-/);
  assert.equal((await open({}, storage)).user.value, user.value);
  assert.match((await open({}, null)).user.value, /^guest-/);
});

test('a button that was pressed keeps the focus, and a second press asks nothing', async () => {
  const { asked, button } = await open({ '/tasks/t': { status: 502 } });
  button.click();
  button.click();
  assert.ok(!('disabled' in button), 'a button that is disabled loses the focus');
  assert.equal(asked.filter(path => path === '/coupons/c/issue').length, 1);
});

test('what was said to one user is not left standing for another, or for more units', async () => {
  const answers: Answers = { '/coupons/c/issue': { status: 200, body: { outcome: 'issued', slot: 1 } } };
  const { button, refresh, said, user } = await open(answers);
  const press = async (text: string) => {
    button.click();
    await holds(() => assert.deepEqual([said.textContent, button.off], [text, false]));
  };
  await press('Yours! Number 1.');
  refresh();
  rename(user, 'bob');
  assert.deepEqual([said.textContent, said.className], ['', 'said']);
  answers['/coupons/c/issue'] = { status: 409, body: { code: 'INACTIVE_COUPON', reason: 'sold_out' } };
  await press('Sold out.');
  answers['/coupons'] = { status: 200, body: { items: [{ ...coupon, stock: 4 }] } };
  await holds(() => {
    refresh();
    assert.equal(said.textContent, '');
  });
});

test('an answer that comes when another name stands in the field says whose it is', async () => {
  const answers: Answers = { '/tasks/t': { status: 502 } };
  const { button, said, user } = await open(answers);
  button.click();
  rename(user, 'bob');
  answers['/tasks/t'] = { status: 200, body: { state: 'done', outcome: 'issued', slot: 1 } };
  await holds(() => assert.equal(said.textContent, 'ann: Yours! Number 1.'), 2_000);
});

test('streams that never end leave the connections that presses need', async () => {
  const names = Array.from({ length: 8 }, (_, i) => `c${i}`);
  const answers: Answers = {
    '/coupons': { status: 200, body: { items: [coupon, ...names.map(couponId => ({ ...coupon, couponId }))] } },
    '/tasks/t': { status: 200, body: { state: 'accepted', ahead: 7 } },
  };
  for (const name of names) answers[`/coupons/${name}/issue`] = { status: 202, body: accepted };
  const { allSaid, buttons, streams } = await open(answers, undefined, true);
  for (const button of buttons) {
    button.click();
    await new Promise(setImmediate);
  }
  await holds(() => assert.deepEqual([...new Set(allSaid.map(one => one.textContent))], ['7 ahead of you…']), 2_000);
  assert.ok(streams() > 0);
  answers['/tasks/t'] = { status: 200, body: { state: 'done', outcome: 'issued', slot: 1 } };
  await holds(() => assert.ok(allSaid.every(one => one.textContent === 'Yours! Number 1.')), 2_000);
  assert.equal(streams(), 0);
});

test('a stream is left for others once the place waits for an operator', async () => {
  const { button, said, streams } = await open(
    { '/tasks/t': { status: 200, body: { state: 'set_aside' } } },
    undefined,
    true,
  );
  button.click();
  await holds(() => assert.equal(streams(), 1));
  await holds(() => assert.equal(said.textContent, 'Yours, once an operator has looked at it.'), 2_000);
  assert.equal(streams(), 0);
});

test('a press whose connection died silently may be tried again, as the same request', async () => {
  const answers: Answers = { '/coupons/c/issue': {} };
  const { button, keys, said } = await open(answers);
  button.click();
  await holds(() => assert.match(said.textContent, /does not answer/), 2_000);
  answers['/coupons/c/issue'] = { status: 200, body: { outcome: 'issued', slot: 1 } };
  button.click();
  await holds(() => assert.equal(said.textContent, 'Yours! Number 1.'));
  assert.equal(keys.length, 2);
  assert.equal(keys[0], keys[1]);
});

test('a list that does not come is asked for once at a time', async () => {
  const answers: Answers = {};
  const { asked, refresh } = await open(answers);
  answers['/coupons'] = {};
  const before = asked.length;
  refresh();
  refresh();
  assert.equal(asked.length, before + 1);
  // Nor is it waited for without end.
  await holds(() => {
    refresh();
    assert.ok(asked.length > before + 1);
  }, 2_000);
});

test('more units do not take back what a winner was told', async () => {
  const answers: Answers = { '/coupons/c/issue': { status: 200, body: { outcome: 'issued', slot: 1 } } };
  const { bar, button, refresh, said } = await open(answers);
  button.click();
  await holds(() => assert.deepEqual([said.textContent, button.off], ['Yours! Number 1.', false]));
  answers['/coupons'] = { status: 200, body: { items: [{ ...coupon, stock: 4 }] } };
  await holds(() => {
    refresh();
    assert.equal(bar.style.width, '75%');
  });
  assert.equal(said.textContent, 'Yours! Number 1.');
});
