/** One process of the embedded profile, on a file of its own that outlives it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../scripts/services/port.ts';
import type { Dump } from '../src/checker/dump.ts';
import { type Flags, TestNode } from '../test/support/cluster.ts';
import type { EmbeddedPoint } from '../test/support/kill-at-commit.ts';
import { alarmOf, drained, dumpOf, type Ring } from './arena.ts';

const preload = join(import.meta.dirname, '../test/support/kill-at-commit.ts');

export class EmbeddedArena implements Ring {
  node!: TestNode;
  private readonly data: string;
  /** Those too that have ended. */
  private readonly nodes: TestNode[] = [];
  private readonly flags: Flags;

  private constructor(data: string, port: number) {
    this.data = data;
    const secret = 'a secret that the processes of this file share';
    // All that can be said is searched for it.
    this.flags = { profile: 'embedded', data, port: String(port), secret, logLevel: 'debug' };
  }

  static async open(): Promise<EmbeddedArena> {
    const data = await mkdtemp(join(tmpdir(), 'dibs-torture-'));
    const arena = new EmbeddedArena(data, await freePort());
    await arena.start();
    return arena;
  }

  get urls(): string[] {
    return [`http://127.0.0.1:${this.flags.port}`];
  }

  /** The process dies when its writing thread next passes there. */
  async arm(point: EmbeddedPoint): Promise<void> {
    await writeFile(this.killFile, point);
  }

  /** On the same file and port. */
  async start(): Promise<void> {
    await rm(this.killFile, { force: true });
    this.node = await TestNode.start(this.flags, { preload, env: { DIBS_TEST_KILL_FILE: this.killFile } });
    this.nodes.push(this.node);
  }

  async heal(): Promise<void> {
    await rm(this.killFile, { force: true });
    if (!this.node.isAlive) await this.start();
  }

  drained(): Promise<void> {
    return drained(this.node.client);
  }

  dump(): Promise<Dump> {
    return dumpOf(this.flags);
  }

  alarms(): Promise<string[]> {
    return alarmOf('embedded', this.node.url);
  }

  get leaks(): readonly string[] {
    return this.nodes.flatMap(node => node.leaks);
  }

  async close(): Promise<void> {
    await this.node.kill();
    await rm(this.data, { recursive: true, force: true });
  }

  private get killFile(): string {
    return join(this.data, 'kill');
  }
}
