/**
 * Loaded into a measured server (`node --import`) when something has to be asked that no server outside can tell:
 * Redis counts the commands of scripts and those of clients under the same names, and memory has to be settled first.
 */
import { tracingChannel } from 'node:diagnostics_channel';

const commands = new Map<string, number>();

tracingChannel('ioredis:command').subscribe({
  start(message) {
    const { command } = message as { command: string };
    const name = command.toLowerCase();
    commands.set(name, (commands.get(name) ?? 0) + 1);
  },
  end() {},
  asyncStart() {},
  asyncEnd() {},
  error() {},
});

process.on('message', message => {
  if (message === 'commands') process.send?.(Object.fromEntries(commands));
  if (message === 'settle') {
    globalThis.gc?.();
    globalThis.gc?.();
    process.send?.({ ...process.memoryUsage() });
  }
});
// Listening must not keep the server from ending.
process.channel?.unref();
