/**
 * The board in Redis: what is committed in one hash a partition, and pub/sub as the wake-up. Hints may be lost;
 * listeners are told whenever that may have happened.
 */
import type { Redis } from 'ioredis';
import type { BoardContent, BoardUpdate, BoardView, Hint, OutcomeBoard } from '../ports.ts';
import { type Connection, connect, type RedisCounts, type RedisLog, type RedisSettings } from './connection.ts';
import { pingMs } from './limits.ts';

/** Connects in the background; calls made before wait for the first attempt. */
export function createRedisBoard(settings: RedisSettings): RedisBoard {
  return new RedisBoard(settings);
}

export interface HintListener {
  hint(hint: Hint): void;
  /** Called when the subscription breaks, and once more when it stands again: hints in between are lost. */
  broken(): void;
}

export class RedisBoard implements OutcomeBoard {
  readonly counts: RedisCounts = { commands: 0 };
  private readonly settings: RedisSettings;
  private readonly connection: Connection;
  private readonly prefix: string;
  private readonly channel: string;
  private subscriber: Subscriber | undefined;
  private closed = false;

  constructor(settings: RedisSettings) {
    this.settings = settings;
    this.prefix = settings.prefix ?? 'dibs';
    this.channel = `${this.prefix}:hints`;
    this.connection = connect(settings, this.counts);
  }

  commit(partition: number, update: BoardUpdate): Promise<'ok' | 'behind'> {
    const { base, changeNext, committedNext, added, removed } = update;
    const message = JSON.stringify({ partition, committedNext } satisfies Hint);
    const places = [base, changeNext, committedNext].map(String);
    const offsets = [added.length, ...added, ...removed].map(String);
    const args = [...places, this.channel, message, ...offsets];
    return this.connection.script<'ok' | 'behind'>('board_commit', this.boardKey(partition), args);
  }

  async restore(partition: number, all: BoardContent, replaces?: number): Promise<void> {
    const { changeNext, committedNext, setAside } = all;
    const message = JSON.stringify({ partition, committedNext } satisfies Hint);
    const args = [
      `${changeNext}`,
      `${committedNext}`,
      this.channel,
      message,
      `${replaces ?? ''}`,
      ...setAside.map(String),
    ];
    await this.connection.script<number>('board_restore', this.boardKey(partition), args);
  }

  /** One HMGET is one consistent read; no script needed. */
  async read(partition: number, offsets: readonly number[]): Promise<BoardView | undefined> {
    const fields = ['changeNext', 'committedNext', ...offsets.map(offset => `a:${offset}`)];
    const [changeNext, committedNext, ...flags] = await this.connection.run(redis =>
      redis.hmget(this.boardKey(partition), ...fields),
    );
    if (typeof committedNext !== 'string') return undefined;
    return {
      changeNext: Number(changeNext),
      committedNext: Number(committedNext),
      setAside: new Set(offsets.filter((_, i) => flags[i] !== null)),
    };
  }

  async announce(partition: number, decidedNext: number): Promise<void> {
    const message = JSON.stringify({ partition, decidedNext } satisfies Hint);
    await this.connection.run(redis => redis.publish(this.channel, message));
  }

  /**
   * Resolves when hints come in, or after the bound of a command when Redis is away: then `broken` was called, and
   * is called again when they do.
   */
  async subscribe(on: HintListener): Promise<{ close(): Promise<void> }> {
    if (this.closed) throw new Error('the board is closed');
    this.subscriber ??= new Subscriber(this.settings, this.channel);
    return this.subscriber.add(on);
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([this.connection.close(), this.subscriber?.close()]);
  }

  private boardKey(partition: number): string {
    return `${this.prefix}:{${partition}}:board`;
  }
}

/** A connection of its own that subscribes anew whenever it is connected. */
class Subscriber {
  private readonly connection: Connection;
  private readonly channel: string;
  private readonly log: RedisLog;
  /** The value says whether its subscribe() was answered, so that it needs to hear of breaks. */
  private readonly listeners = new Map<HintListener, boolean>();
  private readonly ping: NodeJS.Timeout;
  private live = Promise.withResolvers<void>();
  private isLive = false;

  constructor(settings: RedisSettings, channel: string) {
    this.channel = channel;
    this.log = settings.log ?? (() => {});
    this.connection = connect(settings, { commands: 0 });
    const { redis } = this.connection;
    redis.on('ready', () => void this.subscribe(redis));
    redis.on('close', () => this.lost());
    redis.on('message', (_channel: string, message: string) => this.deliver(message));
    // Nobody else asks this connection for anything: without this a dead peer would go unnoticed.
    this.ping = setInterval(() => void this.probe(redis), pingMs).unref();
  }

  async add(on: HintListener): Promise<{ close(): Promise<void> }> {
    this.listeners.set(on, false);
    const timer = Promise.withResolvers<void>();
    const timeout = setTimeout(timer.resolve, this.connection.commandMs);
    await Promise.race([this.live.promise, timer.promise]);
    clearTimeout(timeout);
    if (this.listeners.has(on)) {
      this.listeners.set(on, true);
      if (!this.isLive) on.broken();
    }
    return {
      close: async () => {
        this.listeners.delete(on);
      },
    };
  }

  async close(): Promise<void> {
    clearInterval(this.ping);
    this.listeners.clear();
    this.live.resolve();
    await this.connection.close();
  }

  private async subscribe(redis: Redis): Promise<void> {
    try {
      await redis.subscribe(this.channel);
    } catch (error) {
      this.log('warn', `Subscribing to ${this.channel} failed: ${(error as Error).message}`);
      if (redis.status === 'ready') redis.disconnect(true);
      return;
    }
    if (redis.status !== 'ready') return;
    this.isLive = true;
    this.live.resolve();
    this.tellBroken();
  }

  private lost(): void {
    if (!this.isLive) return;
    this.isLive = false;
    this.live = Promise.withResolvers();
    this.tellBroken();
  }

  private async probe(redis: Redis): Promise<void> {
    if (redis.status !== 'ready') return;
    try {
      await redis.ping();
    } catch (error) {
      this.log('warn', `The subscriber's connection does not answer: ${(error as Error).message}`);
      if (redis.status === 'ready') redis.disconnect(true);
    }
  }

  private tellBroken(): void {
    for (const [listener, answered] of this.listeners) if (answered) this.later(listener, () => listener.broken());
  }

  private deliver(message: string): void {
    const hint = parseHint(message);
    if (!hint) {
      this.log('warn', `What came over ${this.channel} is no hint: ${message.slice(0, 100)}`);
      return;
    }
    for (const listener of this.listeners.keys()) this.later(listener, () => listener.hint(hint));
  }

  /** In a step of its own, so that what a listener throws does not end in the connection's parser. */
  private later(listener: HintListener, call: () => void): void {
    queueMicrotask(() => {
      if (this.listeners.has(listener)) call();
    });
  }
}

function parseHint(message: string): Hint | undefined {
  let hint: unknown;
  try {
    hint = JSON.parse(message);
  } catch {
    // Somebody else's word on the channel: hubs read the frontiers every second anyway.
    return undefined;
  }
  const isHint = typeof hint === 'object' && hint !== null && Number.isSafeInteger((hint as Hint).partition);
  return isHint ? (hint as Hint) : undefined;
}
