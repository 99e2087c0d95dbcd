/**
 * AES-256-GCM for short texts, sealing only: bit for bit what `createCipheriv('aes-256-gcm')` makes, without an object
 * of node:crypto for each (4 to 6 us with its garbage, against 1.5). OpenSSL's AES does the blocks, those of many texts
 * in one call, before the texts are known: their counters hold nothing of them. Counter mode and GHASH are put together
 * here as NIST SP 800-38D says (sections 6.4, 6.5 and 7.1; GHASH by a table of the multiples of its key, as in Shoup's
 * method). Opening stays OpenSSL's, which checks each tag made here; but it refuses by an exception, so what nobody
 * sealed is not given to it.
 */
import { createCipheriv, timingSafeEqual } from 'node:crypto';

export const nonceBytes = 12;
export const tagBytes = 16;
const blockBytes = 16;
/** A call to OpenSSL takes 1.3 us for one text, and 5 us for so many of this length (with the tag's, a block more). */
const textsAhead = 64;
const blocksAhead = 6;
const streamBytes = (blocksAhead + 1) * blockBytes;
const aboveLatin1 = /[\u0100-\uffff]/;

/** The remainder of the eight bits that a shift by a byte pushes out, times 2^16: the polynomial is 0xe1 << 120. */
const remainders = Int32Array.from({ length: 256 }, (_, byte) => {
  let remainder = 0;
  for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) remainder ^= 0xe1 << (17 + bit);
  return remainder;
});

export class GcmSealer {
  /** AES alone, of whole blocks: it keeps nothing from one call to the next. */
  private readonly aes: ReturnType<typeof createCipheriv>;
  /** Byte times GHASH's key, four words each. */
  private readonly multiples: Int32Array;
  /** Counter blocks of the text at hand; the first is the tag's. */
  private readonly counters: Buffer;
  /** Nonce, tag, text. */
  private readonly sealed: Buffer;
  private readonly textBytesMax: number;
  private readonly randomBytes: (n: number) => Uint8Array;
  /** Counter blocks of the next texts, their nonces, and what AES made of them. */
  private readonly countersAhead = new Int32Array(countersOf(blocksAhead, textsAhead).buffer);
  private readonly nonces = Buffer.alloc(textsAhead * nonceBytes);
  private streams = Buffer.alloc(0);
  private used = textsAhead;

  /** `key`: 32 bytes. `randomBytes` never gives the same nonce twice. */
  constructor(key: Uint8Array, textBytesMax: number, randomBytes: (n: number) => Uint8Array) {
    this.aes = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
    this.multiples = multiplesOf(this.aes.update(Buffer.alloc(blockBytes)));
    const blocks = Math.ceil(textBytesMax / blockBytes);
    this.counters = countersOf(blocks);
    // The last block that is authenticated is filled up with zeroes.
    this.sealed = Buffer.alloc(nonceBytes + tagBytes + blocks * blockBytes);
    this.textBytesMax = textBytesMax;
    this.randomBytes = randomBytes;
  }

  /** Nonce, tag and sealed text, base64url. `text` is Latin-1. */
  seal(text: string): string {
    const { length } = text;
    if (length > this.textBytesMax) throw new RangeError(`a text to be sealed has at most ${this.textBytesMax} bytes`);
    // Of a character above 0xff half would be lost, and two texts be one.
    if (aboveLatin1.test(text)) throw new RangeError('a text to be sealed is Latin-1');
    if (length > blocksAhead * blockBytes) return this.sealLong(text);
    if (this.used === textsAhead) this.lookAhead();
    const i = this.used++;
    const nonce = this.nonces.subarray(i * nonceBytes, (i + 1) * nonceBytes);
    return this.finish(nonce, this.streams.subarray(i * streamBytes, (i + 1) * streamBytes), text);
  }

  private lookAhead(): void {
    this.nonces.set(this.draw(this.nonces.length));
    const words = new Int32Array(this.nonces.buffer);
    const { countersAhead } = this;
    for (let at = 0; at < countersAhead.length; at += 4) {
      const nonce = Math.floor(at / (4 * (blocksAhead + 1))) * 3;
      for (let word = 0; word < 3; word++) countersAhead[at + word] = words[nonce + word] as number;
    }
    this.streams = this.aes.update(new Uint8Array(countersAhead.buffer));
    this.used = 0;
  }

  /** Fewer would leave nonces of before, more would stand in the counters. */
  private draw(bytes: number): Uint8Array {
    const drawn = this.randomBytes(bytes);
    if (drawn.length !== bytes) throw new RangeError(`${bytes} random bytes were asked for, not ${drawn.length}`);
    return drawn;
  }

  private sealLong(text: string): string {
    const { counters } = this;
    const nonce = this.draw(nonceBytes);
    const end = (Math.ceil(text.length / blockBytes) + 1) * blockBytes;
    for (let at = 0; at < end; at += blockBytes) counters.set(nonce, at);
    return this.finish(nonce, this.aes.update(counters.subarray(0, end)), text);
  }

  /** `stream`: its first block is the tag's. */
  private finish(nonce: Uint8Array, stream: Buffer, text: string): string {
    const { sealed } = this;
    const { length } = text;
    const blocks = Math.ceil(length / blockBytes);
    const from = nonceBytes + tagBytes;
    const end = from + length;
    sealed.set(nonce);
    sealed.write(text, from, length, 'latin1');
    for (let i = 0; i < length; i++)
      sealed[from + i] = (sealed[from + i] as number) ^ (stream[blockBytes + i] as number);
    sealed.fill(0, end, from + blocks * blockBytes);
    this.writeTag(stream, blocks, length);
    return sealed.toString('base64url', 0, end);
  }

  /** Whether this was sealed here: nonce, tag and sealed text, with at least one byte of it. */
  isGenuine(bytes: Uint8Array): boolean {
    const { counters, sealed } = this;
    const from = nonceBytes + tagBytes;
    const length = bytes.length - from;
    if (length < 1 || length > this.textBytesMax) return false;
    const blocks = Math.ceil(length / blockBytes);
    sealed.set(bytes);
    sealed.fill(0, bytes.length, from + blocks * blockBytes);
    counters.set(bytes.subarray(0, nonceBytes));
    this.writeTag(this.aes.update(counters.subarray(0, blockBytes)), blocks, length);
    return timingSafeEqual(sealed.subarray(nonceBytes, from), bytes.subarray(nonceBytes, from));
  }

  /** GHASH of the sealed text and its length, under the first block of the stream. */
  private writeTag(stream: Buffer, blocks: number, length: number): void {
    const { sealed, multiples } = this;
    let [z0, z1, z2, z3] = [0, 0, 0, 0];
    for (let block = 0; block <= blocks; block++) {
      // What follows the text's blocks is the length of what is not sealed, none, and of what is, in bits.
      if (block === blocks) z3 ^= length * 8;
      else {
        const at = nonceBytes + tagBytes + block * blockBytes;
        z0 ^= sealed.readInt32BE(at);
        z1 ^= sealed.readInt32BE(at + 4);
        z2 ^= sealed.readInt32BE(at + 8);
        z3 ^= sealed.readInt32BE(at + 12);
      }
      const [y0, y1, y2, y3] = [z0, z1, z2, z3];
      z0 = z1 = z2 = z3 = 0;
      for (let word = 3; word >= 0; word--) {
        const y = word === 3 ? y3 : word === 2 ? y2 : word === 1 ? y1 : y0;
        for (let shift = 0; shift < 32; shift += 8) {
          const remainder = remainders[z3 & 0xff] as number;
          const m = ((y >>> shift) & 0xff) * 4;
          z3 = ((z3 >>> 8) | (z2 << 24)) ^ (multiples[m + 3] as number);
          z2 = ((z2 >>> 8) | (z1 << 24)) ^ (multiples[m + 2] as number);
          z1 = ((z1 >>> 8) | (z0 << 24)) ^ (multiples[m + 1] as number);
          z0 = (z0 >>> 8) ^ remainder ^ (multiples[m] as number);
        }
      }
    }
    sealed.writeInt32BE(z0 ^ stream.readInt32BE(0), nonceBytes);
    sealed.writeInt32BE(z1 ^ stream.readInt32BE(4), nonceBytes + 4);
    sealed.writeInt32BE(z2 ^ stream.readInt32BE(8), nonceBytes + 8);
    sealed.writeInt32BE(z3 ^ stream.readInt32BE(12), nonceBytes + 12);
  }
}

/** All of the counter blocks of so many texts, but for their nonces. */
function countersOf(blocks: number, texts = 1): Buffer {
  const each = blocks + 1;
  const counters = Buffer.alloc(texts * each * blockBytes);
  for (let i = 0; i < texts * each; i++) counters.writeUInt32BE((i % each) + 1, i * blockBytes + nonceBytes);
  return counters;
}

/** Bit 0x80 of a byte is 1, the next one x, and so on: times x is a shift to the right. */
function multiplesOf(hashKey: Buffer): Int32Array {
  const multiples = new Int32Array(256 * 4);
  let [h0, h1, h2, h3] = [0, 4, 8, 12].map(at => hashKey.readInt32BE(at)) as [number, number, number, number];
  for (let bit = 0x80; bit > 0; bit >>= 1) {
    for (let byte = 0; byte < 256; byte++) {
      if (!(byte & bit)) continue;
      multiples[byte * 4] = (multiples[byte * 4] as number) ^ h0;
      multiples[byte * 4 + 1] = (multiples[byte * 4 + 1] as number) ^ h1;
      multiples[byte * 4 + 2] = (multiples[byte * 4 + 2] as number) ^ h2;
      multiples[byte * 4 + 3] = (multiples[byte * 4 + 3] as number) ^ h3;
    }
    const out = h3 & 1;
    h3 = (h3 >>> 1) | (h2 << 31);
    h2 = (h2 >>> 1) | (h1 << 31);
    h1 = (h1 >>> 1) | (h0 << 31);
    h0 = (h0 >>> 1) ^ (out ? 0xe1 << 24 : 0);
  }
  return multiples;
}
