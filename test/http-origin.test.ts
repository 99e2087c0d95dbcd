/** Without tokens everybody on this machine is an operator: no page of another site may be one. */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { test } from 'node:test';
import { foreignFault, originOf } from '../src/http/origin.ts';
import { call, raw, until } from './support/calls.ts';
import { startMemoryApp } from './support/memory-app.ts';

const host = '127.0.0.1:8080';
const rules = { host: '127.0.0.1' };
const faultOf = (headers: Record<string, string>, method = 'POST', more: Partial<typeof rules> = {}) =>
  foreignFault(originOf({ method, headers: { host, ...headers } } as unknown as IncomingMessage), { ...rules, ...more })
    ?.code;

test('a program, the own page, and whoever types the address may', () => {
  assert.equal(faultOf({}), undefined);
  assert.equal(faultOf({ host: 'localhost:8080' }), undefined);
  assert.equal(faultOf({ origin: `http://${host}`, 'sec-fetch-site': 'same-origin' }), undefined);
  assert.equal(faultOf({ 'sec-fetch-site': 'none' }), undefined);
});

test('a page of another origin may not, whether it says so by one header or the other', () => {
  assert.equal(faultOf({ 'sec-fetch-site': 'cross-site' }), 'FORBIDDEN');
  assert.equal(faultOf({ 'sec-fetch-site': 'same-site' }), 'FORBIDDEN');
  assert.equal(faultOf({ origin: 'https://evil.example' }), 'FORBIDDEN');
  assert.equal(faultOf({ origin: 'null' }), 'FORBIDDEN');
  assert.equal(faultOf({ origin: 'http://127.0.0.1:9999' }), 'FORBIDDEN');
});

test('a name that was bent to loopback may not', () => {
  assert.equal(faultOf({ host: 'evil.example:8080', origin: 'http://evil.example:8080' }), 'FORBIDDEN');
  assert.equal(faultOf({ host: 'evil.example' }, 'POST', { host: '0.0.0.0' }), undefined, 'bound to all: any name');
});

test('looking is free', () => {
  assert.equal(faultOf({ origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }, 'GET'), undefined);
});

// The button is served in front of the hook that asks this of all other routes.
test('the button is pressed by no such page either, whoever reads the request', async () => {
  const app = await startMemoryApp();
  await call(app.url, 'POST /coupons', { body: { couponId: 'c', name: 'C', stock: 5 } });
  const own = `127.0.0.1:${app.port}`;
  const pages: [name: string, headers: string, status: number][] = [
    ['a load tool', 'host: x', 202],
    ['the page of a bent name', 'host: evil.example:8080\r\norigin: http://evil.example:8080', 403],
    ['a foreign page', `host: ${own}\r\norigin: http://evil.example`, 403],
    ['a foreign page, by the other header', `host: ${own}\r\nsec-fetch-site: cross-site`, 403],
    // Node:http joins those that come twice: the bare reader took the last.
    ['two origins, foreign and own', `host: ${own}\r\norigin: http://evil.example\r\norigin: http://${own}`, 403],
    ['two origins, own first', `host: ${own}\r\norigin: http://${own}\r\norigin: http://evil.example`, 403],
    ['two sites, foreign and own', `host: ${own}\r\nsec-fetch-site: cross-site\r\nsec-fetch-site: none`, 403],
    ['two sites, own first', `host: ${own}\r\nsec-fetch-site: none\r\nsec-fetch-site: cross-site`, 403],
    ['the own page', `host: ${own}\r\norigin: http://${own}\r\nsec-fetch-site: same-origin`, 202],
  ];
  // Bare, and with what is left to node:http.
  for (const [reader, line] of Object.entries({ bare: 'POST /', node: 'POST http://127.0.0.1/' })) {
    for (const [name, headers, status] of pages) {
      const press = `${line}coupons/c/issue HTTP/1.1\r\n${headers}\r\nx-user-id: ${reader}-${status}-${name.length}\r\n\r\n`;
      const text = await raw(app.port, press, answer => /\r\n\r\n.*\}$/s.test(answer));
      assert.match(text, new RegExp(`^HTTP/1.1 ${status} `), `${reader}: ${name}`);
    }
  }
  await until(
    async () => (await call(app.url, 'GET /coupons/c')).body.issued,
    issued => issued === 4,
  );
  await app.stop();
});
