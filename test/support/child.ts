/** dibs as a process of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Child {
  pid: number;
  /** What it wrote so far. */
  readonly out: string;
  readonly err: string;
  /** Resolves when it says where it listens. @throws when it ends before. */
  url(): Promise<string>;
  /** How it ends by itself. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** From here on nobody reads this one. */
  leave(stream: 'stdout' | 'stderr'): void;
  /** Ends it as Ctrl-C does; may be called twice. */
  stop(): Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

/** `args` begin with the file to run. Nothing of our own environment reaches it but the PATH. */
export function spawnDibs(args: readonly string[], environment: Record<string, string>): Child {
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { PATH: process.env.PATH ?? '', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  const listening = Promise.withResolvers<string>();
  listening.promise.catch(() => {});
  child.stdout.setEncoding('utf8').on('data', text => {
    out += text;
    const url = /listens on (http:\S+?),?\s/.exec(out)?.[1];
    if (url) listening.resolve(url);
  });
  child.stderr.setEncoding('utf8').on('data', text => {
    err += text;
  });
  const ended = once(child, 'close').then(([code, signal]) => {
    listening.reject(new Error(`${args.join(' ')} ended (${code ?? signal}): ${err}${out}`));
    return { code, signal } as { code: number | null; signal: NodeJS.Signals | null };
  });
  return {
    pid: child.pid as number,
    get out() {
      return out;
    },
    get err() {
      return err;
    },
    url: () => listening.promise,
    ended,
    leave: stream => void child[stream].destroy(),
    stop() {
      child.kill('SIGTERM');
      return ended;
    },
  };
}
