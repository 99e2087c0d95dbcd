import assert from 'node:assert/strict';
import { createCipheriv, randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { GcmSealer, nonceBytes } from '../src/gcm.ts';

const textMax = 200;

/** The same by OpenSSL. */
function sealed(key: Uint8Array, nonce: Uint8Array, text: string): string {
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  const body = Buffer.concat([cipher.update(text, 'latin1'), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), body]).toString('base64url');
}

/** By a sealer that is given this nonce whenever it asks. */
const sealWith = (key: Uint8Array, nonce: Uint8Array, text: string): string =>
  new GcmSealer(key, textMax, n => Buffer.alloc(n, nonce)).seal(text);

const nonceOf = (text: string): Buffer => Buffer.from(text, 'base64url').subarray(0, nonceBytes);

suite('AES-256-GCM', () => {
  test('is what OpenSSL makes, for every length', () => {
    const [key, nonce] = [randomBytes(32), randomBytes(nonceBytes)];
    for (let length = 0; length <= textMax; length++) {
      const text = randomBytes(length).toString('latin1');
      assert.equal(sealWith(key, nonce, text), sealed(key, nonce, text), `${length} bytes`);
    }
  });
  test('is what OpenSSL makes, for any key, nonce and text, one after the other', () => {
    const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
    const text = fc.uint8Array({ maxLength: textMax }).map(t => Buffer.from(t).toString('latin1'));
    const calls = fc.array(fc.tuple(bytes(nonceBytes), text), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(bytes(32), calls, (key, each) => {
        for (const [nonce, t] of each) assert.equal(sealWith(key, nonce, t), sealed(key, nonce, t));
      }),
      { numRuns: 500 },
    );
  });
  test('is that of the algorithm’s own test vectors (14 and 15 of the submission to NIST)', () => {
    const one = Buffer.from(sealWith(Buffer.alloc(32), Buffer.alloc(nonceBytes), '\0'.repeat(16)), 'base64url');
    assert.equal(
      one.subarray(nonceBytes).toString('hex'),
      'd0d1c8a799996bf0265b98b5d48ab919cea7403d4d606b6e074ec5d3baf39d18',
    );
    const key = Buffer.from('feffe9928665731c6d6a8f9467308308'.repeat(2), 'hex');
    const text = Buffer.from(
      'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255',
      'hex',
    );
    const two = Buffer.from(
      sealWith(key, Buffer.from('cafebabefacedbaddecaf888', 'hex'), text.toString('latin1')),
      'base64url',
    );
    assert.equal(two.subarray(nonceBytes, nonceBytes + 16).toString('hex'), 'b094dac5d93471bdec1a502270e3cc6c');
  });
  test('keeps nothing of one call for the next: what was sealed stays, whatever is sealed after it, in two at once', () => {
    const keys = [randomBytes(32), randomBytes(32)];
    const sealers = keys.map(key => new GcmSealer(key, textMax, randomBytes));
    const made: { text: string; key: Buffer; found: string }[] = [];
    // Long and short by turns: what the long one left in the buffers stands behind the short one. More than are drawn
    // at once, too.
    for (let turn = 0; turn < 20; turn++) {
      for (const length of [textMax, 1, 0, 17, textMax, 16, 15, 33, 96, 97, 1]) {
        const text = randomBytes(length).toString('latin1');
        sealers.forEach((sealer, i) => {
          made.push({ text, key: keys[i] as Buffer, found: sealer.seal(text) });
        });
      }
    }
    for (const { text, key, found } of made) assert.equal(found, sealed(key, nonceOf(found), text));
    assert.equal(new Set(made.map(({ found }) => nonceOf(found).toString('hex'))).size, made.length);
  });
  test('one that threw seals the next text as if nothing had been', () => {
    const key = randomBytes(32);
    const gcm = new GcmSealer(key, textMax, randomBytes);
    assert.throws(() => gcm.seal('x'.repeat(textMax + 1)), RangeError);
    assert.throws(() => gcm.seal('caf\u0119'), RangeError);
    const found = gcm.seal('text');
    assert.equal(found, sealed(key, nonceOf(found), 'text'));
  });
  test('refuses what would be cut: a character above Latin-1 was sealed as another', () => {
    // 'ą' (0x105) became 0x05, and 'š' (0x161) the letter a: two users, one sealed text.
    const gcm = new GcmSealer(randomBytes(32), textMax, randomBytes);
    for (const text of ['\u0161', 'user \u0161', '\ud83d\ude00', 'a\ud800', '\u0100']) {
      assert.throws(() => gcm.seal(text), RangeError, text);
    }
    assert.equal(typeof gcm.seal('\u00ff\u0000'), 'string');
  });
  test('refuses nonces of another length: fewer bytes would leave those of before, more would stand in the counters', () => {
    for (const wrong of [-12, -1, 1, 4]) {
      const gcm = new GcmSealer(randomBytes(32), textMax, n => randomBytes(n + wrong));
      for (const text of ['text', 'x'.repeat(textMax)]) assert.throws(() => gcm.seal(text), RangeError, String(wrong));
    }
  });
  test('knows what it sealed, of every length, and nothing else: not with any bit turned, not cut, not longer', () => {
    const gcm = new GcmSealer(randomBytes(32), textMax, randomBytes);
    const other = new GcmSealer(randomBytes(32), textMax, randomBytes);
    for (let length = 1; length <= 70; length++) {
      const genuine = Buffer.from(gcm.seal('x'.repeat(length)), 'base64url');
      assert.ok(gcm.isGenuine(genuine), String(length));
      assert.ok(!other.isGenuine(genuine));
      for (let bit = 0; bit < genuine.length * 8; bit++) {
        const turned = Buffer.from(genuine);
        turned[bit >> 3] = (turned[bit >> 3] as number) ^ (1 << (bit & 7));
        assert.ok(!gcm.isGenuine(turned), `${length}, bit ${bit}`);
      }
      for (let end = 0; end < genuine.length; end++) assert.ok(!gcm.isGenuine(genuine.subarray(0, end)));
      for (const more of [1, 2, 16, textMax]) assert.ok(!gcm.isGenuine(Buffer.concat([genuine, Buffer.alloc(more)])));
    }
  });
  test('refuses a text that is longer than was said', () => {
    assert.throws(() => new GcmSealer(randomBytes(32), 16, randomBytes).seal('x'.repeat(17)), RangeError);
  });
});
