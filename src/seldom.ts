import type { Host } from './host.ts';
import { sayAgainMs } from './limits.ts';
import type { Log } from './metrics.ts';

/** For what may fail with every request: a flood of lines would fill the disk that it complains about. */
export function seldom(say: Log, host: Pick<Host, 'elapsed'>): Log {
  let saidAt = Number.NEGATIVE_INFINITY;
  let unsaid = 0;
  return (level, message, fields) => {
    if (host.elapsed() - saidAt < sayAgainMs) {
      unsaid++;
      return;
    }
    say(level, unsaid === 0 ? message : `${message} (and ${unsaid} times since it was said last)`, fields);
    saidAt = host.elapsed();
    unsaid = 0;
  };
}
