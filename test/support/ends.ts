/** Loaded ahead of each test file: one that still runs when its tests are over would keep the whole run waiting. */
import { after } from 'node:test';
import { isMainThread } from 'node:worker_threads';

const lingerMsMax = Number(process.env.DIBS_TEST_LINGER_MS ?? 60_000);

// The runner and the workers of a test load it too, and have no tests.
if (process.env.NODE_TEST_CONTEXT !== undefined && isMainThread) {
  after(() => {
    const end = () => {
      console.error(`its tests are over for ${lingerMsMax} ms, and it is kept by ${process.getActiveResourcesInfo()}`);
      process.exit(1);
    };
    setTimeout(end, lingerMsMax).unref();
  });
}
