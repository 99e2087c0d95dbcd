import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { taskIdLengthMax } from '../src/limits.ts';
import { createSealer, keyHash, type Task } from '../src/task.ts';
import { c, k, u } from './support/entries.ts';
import { fakeHost } from './support/fake-host.ts';

const sealer = createSealer('secret', 'log-1', randomBytes);
const task: Task = { couponId: c('welcome'), userId: u('mia@example.com'), partition: 3, offset: 123_456, key: k(99) };

suite('a task id', () => {
  test('opens to the task that was sealed', () => {
    assert.deepEqual(sealer.open(sealer.seal(task)), task);
  });
  test('opens for the longest ids and the greatest places, within the length that is taken', () => {
    const longest = {
      couponId: c('c'.repeat(64)),
      userId: u('u'.repeat(64)),
      partition: 9_999,
      offset: Number.MAX_SAFE_INTEGER,
      key: k(1),
    };
    const id = sealer.seal(longest);
    assert.ok(id.length <= taskIdLengthMax);
    assert.deepEqual(sealer.open(id), longest);
  });
  test('is another one each time, and says nothing', () => {
    const ids = [sealer.seal(task), sealer.seal(task)];
    assert.notEqual(ids[0], ids[1]);
    for (const id of ids) assert.doesNotMatch(Buffer.from(id, 'base64url').toString('latin1'), /mia|welcome|123456/);
  });
  test('is safe in a path', () => {
    assert.match(sealer.seal(task), /^[A-Za-z0-9_-]+$/);
  });
  test('opens in another process with the same secret and log', () => {
    const other = createSealer('secret', 'log-1', fakeHost().randomBytes);
    assert.deepEqual(other.open(sealer.seal(task)), task);
  });
});

suite('nothing else opens', () => {
  const id = sealer.seal(task);
  test('an id of another secret or another log', () => {
    assert.equal(createSealer('another', 'log-1', randomBytes).open(id), undefined);
    assert.equal(createSealer('secret', 'log-2', randomBytes).open(id), undefined);
  });
  test('an id with any one bit turned', () => {
    const bytes = Buffer.from(id, 'base64url');
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const forged = Buffer.from(bytes);
      forged[bit >> 3] = (forged[bit >> 3] as number) ^ (1 << (bit & 7));
      assert.equal(sealer.open(forged.toString('base64url')), undefined, `bit ${bit}`);
    }
  });
  test('an id cut short at any place, or made longer', () => {
    for (let length = 0; length < id.length; length++) assert.equal(sealer.open(id.slice(0, length)), undefined);
    assert.equal(sealer.open(`${id}A`), undefined);
    assert.equal(sealer.open(id + id), undefined);
  });
  test('a second spelling of the same bytes', () => {
    // 12 + 16 + body bytes leave spare bits in the last digit unless they are a multiple of three.
    const user = (n: number) => sealer.seal({ ...task, userId: u('u'.repeat(n)) });
    const spare = [1, 2, 3].map(user).find(text => Buffer.from(text, 'base64url').length % 3 === 1);
    assert.ok(spare);
    const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const last = digits.indexOf(spare.slice(-1));
    const second = spare.slice(0, -1) + digits[last ^ 1];
    assert.deepEqual(Buffer.from(second, 'base64url'), Buffer.from(spare, 'base64url'));
    assert.equal(sealer.open(second), undefined);
    assert.equal(sealer.open(`${spare}=`), undefined);
  });
  test('what is no id at all', () => {
    for (const text of [
      '',
      ' ',
      '..',
      '__proto__',
      'a'.repeat(39),
      'A'.repeat(taskIdLengthMax + 1),
      'é',
      '\0',
      `${id} `,
    ]) {
      assert.equal(sealer.open(text), undefined, text.slice(0, 20));
      assert.equal(sealer.knows(text), false, text.slice(0, 20));
    }
    fc.assert(
      fc.property(fc.base64String({ maxLength: 300 }), text => sealer.open(text) === undefined && !sealer.knows(text)),
    );
  });
});

suite('keys', () => {
  test('the same key in the same scope is the same hash, 16 hex digits', () => {
    assert.equal(keyHash('welcome mia', 'k1'), keyHash('welcome mia', 'k1'));
    assert.match(keyHash('welcome mia', 'k1'), /^[0-9a-f]{16}$/);
  });
  test('scopes and keys are kept apart, wherever one ends and the other begins', () => {
    const all = [keyHash('a', 'bc'), keyHash('ab', 'c'), keyHash('a', 'b'), keyHash('b', 'a')];
    assert.equal(new Set(all).size, all.length);
  });
});

test('the fingerprint tells secrets apart, is the same for every log, and is not the secret', () => {
  const print = (secret: string, log: string) => createSealer(secret, log, randomBytes).fingerprint;
  assert.equal(print('s', 'log-1'), print('s', 'log-2'));
  assert.notEqual(print('s', 'log-1'), print('t', 'log-1'));
  assert.match(print('s', 'log-1'), /^[0-9a-f]{16}$/);
});
