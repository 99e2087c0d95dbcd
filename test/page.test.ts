/** The page's own script, in a browser of a few lines. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { holds } from './support/until.ts';

const html = readFileSync(new URL('../src/http/page.html', import.meta.url), 'utf8');
const script = html.slice(html.indexOf('<script>') + '<script>'.length, html.indexOf('</script>'));

/** A body of undefined is no JSON. */
type Answers = Record<string, { status: number; body?: unknown }>;

const coupon = { couponId: 'c', name: 'C', stock: 3, remaining: 3, state: 'open' };
const accepted = { links: { task: '/tasks/t', events: '/tasks/t/events' } };

function elementOf() {
  const element = {
    ...{ textContent: '', value: '', className: '', disabled: false, style: {}, click: () => {} },
    append() {},
    setAttribute() {},
    addEventListener(event: string, act: () => void) {
      if (event === 'click') element.click = act;
    },
  };
  return element;
}

type Element = ReturnType<typeof elementOf>;

/** The page of a server with one coupon, which takes every press and refuses every stream. */
async function open(answers: Answers) {
  const all: Answers = {
    '/coupons': { status: 200, body: { items: [coupon] } },
    '/coupons/c/issue': { status: 202, body: accepted },
  };
  const asked: string[] = [];
  const made: Element[] = [];
  const element = () => {
    const one = elementOf();
    made.push(one);
    return one;
  };
  const user = element();
  runInNewContext(script, {
    crypto,
    document: { createElement: element, getElementById: (id: string) => (id === 'user' ? user : element()) },
    localStorage: { getItem: () => 'ann' },
    setInterval() {},
    setTimeout: (act: () => void, _ms: number, ...given: []) => setTimeout(act, 1, ...given).unref(),
    EventSource: class {
      static readonly CLOSED = 2;
      readonly readyState = 2;
      addEventListener(event: string, act: () => void) {
        if (event === 'error') setImmediate(act);
      }
    },
    async fetch(path: string) {
      asked.push(path);
      const { status, body } = { ...all, ...answers }[path] as Answers[string];
      return { status, ok: status < 400, json: async () => JSON.parse(JSON.stringify(body) ?? '<html>') };
    },
  });
  const named = (test: (one: Element) => boolean) => made.find(test) as Element;
  await holds(() => assert.ok(named(({ textContent }) => textContent === 'Claim')));
  return {
    asked,
    user,
    button: named(({ textContent }) => textContent === 'Claim'),
    said: named(({ className }) => className === 'said'),
  };
}

test('a user id that no server takes is told before anything is asked', async () => {
  const { asked, button, said, user } = await open({});
  for (const id of ['김민지', 'ann lee', '', 'a'.repeat(65)]) {
    user.value = id;
    button.click();
    assert.deepEqual([said.textContent, button.disabled], ['A user id is 1 to 64 of A-Z a-z 0-9 . _ : @ -', false], id);
  }
  assert.deepEqual(asked, ['/coupons']);
});

test('a request that the server does not know any more is told, and the button may be pressed again', async () => {
  const { button, said } = await open({ '/tasks/t': { status: 404, body: { code: 'UNKNOWN_TASK' } } });
  button.click();
  assert.equal(button.disabled, true);
  await holds(() => assert.match(said.textContent, /does not know this request any more/), 2_000);
  assert.equal(button.disabled, false);
});

test('a proxy that answers for the server is asked again', async () => {
  const answers: Answers = { '/tasks/t': { status: 502 } };
  const { asked, button, said } = await open(answers);
  button.click();
  await holds(() => assert.ok(asked.filter(path => path === '/tasks/t').length > 1), 2_000);
  answers['/tasks/t'] = { status: 200, body: { state: 'done', outcome: 'issued', slot: 1 } };
  await holds(() => assert.equal(said.textContent, 'Yours! Number 1.'), 2_000);
});
