/** Keys of a test's own, in a Redis that others use too, and what the test does to them past the adapters. */
import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';

export interface RedisKeys {
  /** Begins all of them. */
  prefix: string;
  admin: Redis;
  names(): Promise<string[]>;
  loseAll(): Promise<void>;
  forgetScripts(): Promise<void>;
  /** Loses them all and hangs up. */
  close(): Promise<void>;
}

export function redisKeys(url: string): RedisKeys {
  const prefix = `dibs-test-${randomBytes(6).toString('hex')}`;
  const admin = new Redis(url);
  const names = () => admin.keys(`${prefix}:*`);
  const loseAll = async () => {
    for (const name of await names()) await admin.unlink(name);
  };
  return {
    prefix,
    admin,
    names,
    loseAll,
    forgetScripts: async () => void (await admin.script('FLUSH')),
    async close() {
      await loseAll();
      admin.disconnect();
    },
  };
}
