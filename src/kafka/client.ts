import type { LogName } from '../entry.ts';
import type { Host } from '../host.ts';
import { connectMsMax, metadataAgeMsMax } from './limits.ts';

export type Level = 'debug' | 'info' | 'warn' | 'error';

/** Requests sent, for metrics and benches. */
export interface Counts {
  produce: number;
  fetch: number;
}

/** What every part of the adapter is given. */
export interface Kafka {
  brokers: string[];
  clientId: string;
  prefix: string;
  host: Host;
  log: (level: Level, message: string) => void;
  counts: Counts;
  /** A member of which nothing was heard for so long is out of its group. */
  sessionMs: number;
}

export interface Topic {
  log: LogName;
  /** The topic's name: prefix + log. */
  name: string;
  /** A topic made anew has another. */
  id: string;
}
export type Topics = Record<LogName, Topic>;

/** Options that all clients share. Each client needs its own copy: their constructors write into it. */
export const clientOptions = (kafka: Kafka) => ({
  clientId: kafka.clientId,
  bootstrapBrokers: [...kafka.brokers],
  connectTimeout: connectMsMax,
  metadataMaxAge: metadataAgeMsMax,
  autocreateTopics: false,
});

/** Clients emit `error` for what happens in the background; without a listener that ends the process. */
export function guard<T extends { on(event: 'error', listener: (error: Error) => void): unknown }>(
  client: T,
  listener: (error: Error) => void = () => {},
): T {
  client.on('error', listener);
  return client;
}

/** Waits for `work`, however it ends, but no longer than `ms`. */
export async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>(resolve => {
    timer = setTimeout(resolve, ms);
  });
  // Something is being closed: what failed then, the broker ends by itself.
  await Promise.race([work.catch(() => {}), late]);
  clearTimeout(timer);
}
