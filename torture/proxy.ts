/** A TCP proxy that spoils what goes through it, in ways that can be changed while connections are open. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';

/**
 * - `delay`: every piece comes later. - `stall`: nothing passes, and all of it later. - `drip`: one byte at a time.
 * - `reset`: connections are cut, new ones too. - `lost_up`, `lost_down`: what goes to (or comes from) the server is
 *   lost; the connection is cut when that ends, as it would not go on with a hole.
 */
export const modes = ['delay', 'stall', 'drip', 'reset', 'lost_up', 'lost_down'] as const;
export type Mode = (typeof modes)[number] | 'pass';

const delayMs = 60;
/** Bytes that go one by one until others get their turn. */
const dripTurn = 16;

export class TcpProxy {
  private readonly server: Server;
  private readonly open = new Set<{ down: Socket; up: Socket; holed: boolean }>();
  /** That came through so far, both ways. */
  bytes = 0;
  private mode: Mode = 'pass';
  private changed = Promise.withResolvers<void>();

  private constructor(server: Server) {
    this.server = server;
  }

  /** `target`: a port of this machine. */
  static async start(target: number): Promise<TcpProxy> {
    const server = createServer({ noDelay: true });
    const proxy = new TcpProxy(server);
    server.on('connection', down => proxy.join(down, target));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  set(mode: Mode): void {
    this.mode = mode;
    for (const { down, up, holed } of this.open) {
      if (!holed && mode !== 'reset') continue;
      down.resetAndDestroy();
      up.resetAndDestroy();
    }
    this.changed.resolve();
    this.changed = Promise.withResolvers<void>();
  }

  async close(): Promise<void> {
    this.set('reset');
    this.server.close();
    await once(this.server, 'close');
  }

  private join(down: Socket, target: number): void {
    down.on('error', () => {});
    if (this.mode === 'reset') {
      down.resetAndDestroy();
      return;
    }
    const up = connect({ port: target, host: '127.0.0.1', noDelay: true });
    up.on('error', () => {});
    const both = { down, up, holed: false };
    this.open.add(both);
    const pass = (from: Socket, to: Socket, lost: Mode) => {
      from.on('data', chunk => {
        from.pause();
        this.bytes += chunk.length;
        const forwarded = this.mode === lost ? this.lose(both) : this.forward(chunk as Buffer, to);
        void forwarded.then(() => from.resume());
      });
      from.on('end', () => to.end());
      from.on('close', () => {
        to.destroy();
        this.open.delete(both);
      });
    };
    pass(down, up, 'lost_up');
    pass(up, down, 'lost_down');
  }

  private async lose(both: { holed: boolean }): Promise<void> {
    both.holed = true;
  }

  private async forward(chunk: Buffer, to: Socket): Promise<void> {
    while (this.mode === 'stall') await this.changed.promise;
    if (this.mode === 'delay') await wait(delayMs);
    let sent = 0;
    for (; this.mode === 'drip' && sent < chunk.length && to.writable; sent++) {
      to.write(chunk.subarray(sent, sent + 1));
      if (sent % dripTurn === 0) await wait(0);
    }
    if (sent === chunk.length || !to.writable) return;
    if (!to.write(chunk.subarray(sent))) await Promise.race([once(to, 'drain'), once(to, 'close')]).catch(() => {});
  }
}
