/** A command in the foreground, as a shell would run it. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { isatty } from 'node:tty';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface CommandOptions {
  env?: Record<string, string>;
  /** SIGTERM after this long. */
  msMax?: number;
}

/**
 * Resolves to the command's exit code, 128 and the signal's number when a signal ended it. This process waits for it
 * whatever signal comes: Ctrl-C in a terminal reaches the command by itself, other signals are passed on to it.
 */
export async function runToEnd(file: string, args: readonly string[], options: CommandOptions = {}): Promise<number> {
  const child = spawn(file, args, { stdio: 'inherit', env: { ...process.env, ...options.env } });
  const inTerminal = [0, 1, 2].some(fd => isatty(fd));
  const pass = (signal: NodeJS.Signals): void => {
    if (signal !== 'SIGINT' || !inTerminal) child.kill(signal);
  };
  const timer = options.msMax && setTimeout(() => child.kill('SIGTERM'), options.msMax);
  for (const signal of SIGNALS) process.on(signal, pass);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGTERM']));
    });
  } finally {
    if (timer) clearTimeout(timer);
    for (const signal of SIGNALS) process.off(signal, pass);
  }
}
