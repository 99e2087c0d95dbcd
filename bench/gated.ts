/**
 * dibs whose store waits with each commit from the message `hold` until the message `go`, so that a backlog can be laid
 * before processes that have joined their group already. Flags as those of `dibs serve`.
 */
import type { Ports } from '../src/app.ts';
import { around, run } from './wrapped.ts';

let gate: PromiseWithResolvers<void> | undefined;

const gated = ({ store, ...others }: Ports): Ports => ({
  ...others,
  store: around(store, {
    async commit(partition, batch) {
      await gate?.promise;
      return store.commit(partition, batch);
    },
  }),
});

process.on('message', message => {
  if (message === 'hold') gate = Promise.withResolvers<void>();
  if (message === 'go') gate?.resolve();
  if (message === 'hold' || message === 'go') process.send?.(message);
});

await run(import.meta.filename, gated);
