/** Without tokens everybody on this machine is an operator: no page of another site may be one. */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { test } from 'node:test';
import { foreignFault } from '../src/http/origin.ts';

const host = '127.0.0.1:8080';
const rules = { host: '127.0.0.1', corsOrigin: undefined as string | undefined };
const faultOf = (headers: Record<string, string>, method = 'POST', more: Partial<typeof rules> = {}) =>
  foreignFault({ method, headers: { host, ...headers } } as unknown as IncomingMessage, { ...rules, ...more })?.code;

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

test('looking is free, and the configured origin may', () => {
  assert.equal(faultOf({ origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }, 'GET'), undefined);
  const shop = { origin: 'https://shop.example', 'sec-fetch-site': 'cross-site' };
  assert.equal(faultOf(shop, 'POST', { corsOrigin: 'https://shop.example' }), undefined);
  assert.equal(faultOf(shop, 'POST', { corsOrigin: 'https://other.example' }), 'FORBIDDEN');
});
