/**
 * A lease: one holder at a time, for as long as it says so often enough. A process that stood still for longer than it
 * lasts finds it out before it does harm. What goes to this Redis asks there, in the same script, who took the lease
 * last (queue_push.lua, queue_pop.lua). What does not is asked by the holder's own clock (`holds`, `underLease`): that
 * is no fence, and a process that is stopped between the answer and the call, or in it, is not caught.
 */
import { randomUUID } from 'node:crypto';
import { Refused, Unavailable } from '../errors.ts';
import { createHost, type Host } from '../host.ts';
import type { CouponStore, StockLedger } from '../ports.ts';
import { connect, type RedisSettings } from './connection.ts';
import { leaseMs, leaseRenewMs, leaseTryMs, leaseWaitMsMax } from './limits.ts';

export interface LeaseSettings extends RedisSettings {
  name: string;
  /** What to do when another process holds it. */
  remedy: string;
  /** Another has taken it over. */
  lost(why: string): void;
}

export interface Lease {
  readonly key: string;
  /** Who holds it, for the scripts that ask. */
  readonly holder: string;
  /** Whether nobody else can have it yet: it lasts from when a renewal that was granted was sent, if not longer. */
  holds(): boolean;
  close(): Promise<void>;
}

/** Resolves when it is ours. @throws Refused when another process holds it for longer than one that died could. */
export async function takeLease(settings: LeaseSettings): Promise<Lease> {
  const { name, prefix = 'dibs', remedy, lost } = settings;
  const host: Host = settings.host ?? createHost();
  const connection = connect(settings, { commands: 0 });
  const [key, holder] = [`${prefix}:lease:${name}`, randomUUID()];
  let heldUntil = Number.NEGATIVE_INFINITY;
  const ask = async (lastsMs: number, isRenewal: boolean) => {
    const sentAt = host.elapsed();
    const isOurs = (await connection.script<number>('lease', key, [holder, `${lastsMs}`, isRenewal ? '1' : ''])) === 1;
    if (isOurs) heldUntil = sentAt + lastsMs;
    return isOurs;
  };
  const until = host.elapsed() + leaseWaitMsMax;
  try {
    while (!(await ask(leaseMs, false))) {
      if (host.elapsed() > until) throw new Refused(`another process runs ${name} here: ${remedy}`);
      await host.delay(leaseTryMs);
    }
  } catch (error) {
    await connection.close();
    throw error;
  }
  const renew = async () => {
    try {
      if (await ask(leaseMs, true)) return;
      clearInterval(timer);
      lost(`another process has taken over ${name}`);
    } catch (error) {
      // Redis is away or we are: when it answers again it knows whether another has taken the lease meanwhile.
      if (!(error instanceof Unavailable)) throw error;
    }
  };
  const timer = setInterval(() => void renew(), leaseRenewMs).unref();
  // A Redis that comes back may have lost it, and gives it to whoever asks first.
  connection.redis.on('ready', () => void renew());
  return {
    key,
    holder,
    holds: () => host.elapsed() < heldUntil,
    async close() {
      clearInterval(timer);
      // If it cannot be given back it ends by itself.
      await ask(0, true).catch(() => false);
      heldUntil = Number.NEGATIVE_INFINITY;
      await connection.close();
    },
  };
}

type Ports = { ledger: StockLedger; store: CouponStore };

/** What decides and what stores, only while the lease is held. @throws Unavailable otherwise. */
export function underLease<T extends Ports>(ports: T, { holds }: Pick<Lease, 'holds'>): T {
  const ledger = guarded(ports.ledger, ['apply', 'rebuild'], holds);
  return { ...ports, ledger, store: guarded(ports.store, ['commit'], holds) };
}

function guarded<T extends object>(port: T, methods: readonly (keyof T)[], holds: () => boolean): T {
  return new Proxy(port, {
    get(target, name) {
      const value = Reflect.get(target, name, target) as unknown;
      if (typeof value !== 'function') return value;
      if (!methods.includes(name as keyof T)) return value.bind(target);
      return async (...args: unknown[]) => {
        if (!holds()) throw new Unavailable('the lease has lapsed: another process may have taken over');
        return value.apply(target, args) as unknown;
      };
    },
  });
}
