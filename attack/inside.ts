/** Loaded into the attacked server (`node --import`): how long its event loop stood still, which nobody outside can tell. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

/** ms between two looks; each delay has it in it. */
const resolution = 5;

if (isMainThread && process.send) {
  const delay = monitorEventLoopDelay({ resolution });
  delay.enable();
  const beyond = (ns: number): number => Math.max(0, ns / 1e6 - resolution);
  process.on('message', message => {
    if (message !== 'stalled') return;
    process.send?.({ maxMs: beyond(delay.max), p999Ms: beyond(delay.percentile(99.9)) });
    delay.reset();
  });
  // Listening must not keep the server from ending.
  process.channel?.unref();
}
