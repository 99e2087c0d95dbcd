/** Uses so much of a processor at the lowest priority, and does nothing. Argument: cores, 1 at most. */
import { constants, setPriority } from 'node:os';

const tickMs = 5;

export interface Used {
  cpuS: number;
  atMs: number;
}

export const used = (): Used => {
  const { user, system } = process.cpuUsage();
  return { cpuS: (user + system) / 1e6, atMs: performance.now() };
};

function main([cores]: string[]): void {
  setPriority(constants.priority.PRIORITY_LOW);
  const from = used();
  setInterval(() => {
    // By its own CPU time: at this priority it does not always get what it is due.
    while (used().cpuS - from.cpuS < Number(cores) * ((performance.now() - from.atMs) / 1_000)) {
      // It only uses the processor.
    }
  }, tickMs);
  process.on('message', () => process.send?.(used()));
  process.on('disconnect', () => process.exit(0));
  process.send?.('ready');
}

if (import.meta.main) main(process.argv.slice(2));
