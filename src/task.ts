/**
 * A task is a place in the log. Its id seals coupon, partition, offset, user and key with AES-256-GCM, so that
 * nothing is kept per waiting task, nobody can make one up, and it tells its holder nothing.
 */
import { createDecipheriv, createHash, createSecretKey, hkdfSync } from 'node:crypto';
import { type CouponId, isCouponId, isRequestKey, isUserId, type RequestKey, type UserId } from './coupon.ts';
import { GcmSealer, nonceBytes, tagBytes } from './gcm.ts';
import { taskIdLengthMax } from './limits.ts';

export type TaskId = string & { readonly brand: 'TaskId' };

export interface Task {
  couponId: CouponId;
  userId: UserId;
  partition: number;
  offset: number;
  key: RequestKey;
}

export interface Sealer {
  seal(task: Task): TaskId;
  /** Undefined for anything that was not sealed here, forged, altered, or of another log or secret. */
  open(text: string): Task | undefined;
  /** False for all that `open` does not open, at a third of its price. */
  knows(text: string): boolean;
  /** Tells two secrets apart without giving one away; kept with the store. */
  fingerprint: string;
}

/** `secret` is DIBS_SECRET, `identity` the log's: tasks of one log are strangers to another. */
export function createSealer(secret: string, identity: string, randomBytes: (n: number) => Uint8Array): Sealer {
  const key = Buffer.from(hkdfSync('sha256', secret, identity, 'dibs task id', 32));
  const gcm = new GcmSealer(key, taskIdLengthMax, randomBytes);
  // Given as bytes, it would be made a key again for every id that is opened: most of the time that takes.
  const keyObject = createSecretKey(key);
  const fingerprint = Buffer.from(hkdfSync('sha256', secret, 'dibs', 'dibs secret fingerprint', 8)).toString('hex');
  const bytesOf = (text: string): Buffer | undefined => {
    if (text.length > taskIdLengthMax || !/^[A-Za-z0-9_-]+$/.test(text)) return undefined;
    const bytes = Buffer.from(text, 'base64url');
    // A text with stray bits in its last digit would be a second name of the same task.
    return bytes.toString('base64url') === text && gcm.isGenuine(bytes) ? bytes : undefined;
  };
  return {
    fingerprint,
    seal({ couponId, userId, partition, offset, key: k }) {
      return gcm.seal(`${partition} ${offset} ${k} ${couponId} ${userId}`) as TaskId;
    },
    knows: text => bytesOf(text) !== undefined,
    open(text) {
      const bytes = bytesOf(text);
      if (!bytes) return undefined;
      try {
        const decipher = createDecipheriv('aes-256-gcm', keyObject, bytes.subarray(0, nonceBytes), {
          authTagLength: tagBytes,
        });
        decipher.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
        const body = Buffer.concat([decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()]);
        return parse(body.toString('latin1'));
      } catch {
        // Not sealed with this key, or changed since.
        return undefined;
      }
    },
  };
}

function parse(body: string): Task | undefined {
  const words = body.split(' ');
  if (words.length !== 5) return undefined;
  const [p, o, key, couponId, userId] = words;
  const [partition, offset] = [Number(p), Number(o)];
  if (!Number.isSafeInteger(partition) || !Number.isSafeInteger(offset)) return undefined;
  if (!isRequestKey(key) || !isCouponId(couponId) || !isUserId(userId)) return undefined;
  return { couponId, userId, partition, offset, key };
}

/** A client's Idempotency-Key in the scope of one coupon and user (or one coupon, for an operator's call). */
export const keyHash = (scope: string, idempotencyKey: string): RequestKey =>
  createHash('sha256').update(`${scope}\n${idempotencyKey}`).digest('hex').slice(0, 16) as RequestKey;
