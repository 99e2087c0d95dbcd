/**
 * A lease: one holder at a time, for as long as it says so often enough. It is no fence: a process that stood still
 * may for a moment believe it still holds it, and what it does then must do no harm.
 */
import { randomUUID } from 'node:crypto';
import { Refused, Unavailable } from '../errors.ts';
import { createHost, type Host } from '../host.ts';
import { connect, type RedisSettings } from './connection.ts';
import { leaseMs, leaseRenewMs, leaseTryMs, leaseWaitMsMax } from './limits.ts';

export interface LeaseSettings extends RedisSettings {
  name: string;
  /** What to do when another process holds it. */
  remedy: string;
  /** Another has taken it over. */
  lost(why: string): void;
}

/** Resolves when it is ours. @throws Refused when another process holds it for longer than one that died could. */
export async function takeLease(settings: LeaseSettings): Promise<{ close(): Promise<void> }> {
  const { name, prefix = 'dibs', remedy, lost } = settings;
  const host: Host = settings.host ?? createHost();
  const connection = connect(settings, { commands: 0 });
  const asker = randomUUID();
  const ask = async (lastsMs: number) =>
    (await connection.script<number>('lease', `${prefix}:lease:${name}`, [asker, `${lastsMs}`])) === 1;
  const until = host.elapsed() + leaseWaitMsMax;
  try {
    while (!(await ask(leaseMs))) {
      if (host.elapsed() > until) throw new Refused(`another process runs ${name} here: ${remedy}`);
      await host.delay(leaseTryMs);
    }
  } catch (error) {
    await connection.close();
    throw error;
  }
  const renew = async () => {
    try {
      if (!(await ask(leaseMs))) lost(`another process has taken over ${name}`);
    } catch (error) {
      // While Redis is away nobody else can take it either.
      if (!(error instanceof Unavailable)) throw error;
    }
  };
  const timer = setInterval(() => void renew(), leaseRenewMs).unref();
  return {
    async close() {
      clearInterval(timer);
      // If it cannot be given back it ends by itself.
      await ask(0).catch(() => false);
      await connection.close();
    },
  };
}
