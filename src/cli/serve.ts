/** `dibs serve` and `dibs config`: the settings by flag, environment, default; then the app until Ctrl-C. */
import { flushCompileCache } from 'node:module';
import type { App } from '../app.ts';
import { createClient } from '../client/index.ts';
import { describeConfig, loadConfig } from '../config.ts';
import { exitCodes, sentenceOf } from './connect.ts';
import { print, printJson, table } from './terminal.ts';

/** By the names of `settings`. */
export type Flags = Record<string, string>;

export async function serve(flags: Flags, { sample }: { sample: boolean }): Promise<void> {
  const config = loadConfig({ flags, env: process.env });
  const stopped = Promise.withResolvers<void>();
  let app: App | undefined;
  const onSignal = (_: NodeJS.Signals, number: number) => {
    // Until it has started nothing is under way; the first process of a container is ended by no signal alone.
    if (!app) process.exit(128 + number);
    // A second Ctrl-C meets Node's own handler and ends the process at once.
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    stopped.resolve(app.stop());
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  const { start } = await import('../app.ts');
  app = await start(config);
  // A process that is killed would not leave it.
  flushCompileCache();
  if (config.roles.includes('api')) {
    print(`dibs listens on ${app.url}`);
    if (sample && config.auth.kind === 'none')
      await openSample(app.url).catch(error =>
        print(`--sample opened nothing: ${sentenceOf(error, app.url) ?? error}`),
      );
    else if (sample)
      print('--sample opens nothing with --auth jwt: an admin has to (`dibs coupon create --token ...`)');
  } else print(`dibs runs ${config.roles.join(', ')}`);
  const why = await Promise.race([stopped.promise, app.lost]);
  if (why !== undefined) await app.stop();
  process.exitCode = why === undefined ? exitCodes.ok : exitCodes.failed;
}

/** On an empty store, a coupon to try; then what to try. */
async function openSample(url: string): Promise<void> {
  const client = createClient({ baseUrl: url });
  // Looked at and made in two steps: of two processes that start at once, the second gets the same coupon.
  if ((await client.coupons.list()).length === 0) {
    await client.coupons.create({ couponId: 'welcome', name: 'Welcome', stock: 1_000 });
    print('coupon welcome is open with 1,000 units');
  }
  print(`
try, in another terminal:
  npx dibs claim welcome --user ann
  npx dibs rush welcome --users 10000
  npx dibs coupon show welcome
  npx dibs verify
the API's page: ${url}/docs`);
}

export async function config(flags: Flags, { json }: { json?: boolean }): Promise<void> {
  const described = describeConfig({ flags, env: process.env });
  if (json) {
    printJson(Object.fromEntries(described.map(({ flag, value }) => [flag, value])));
    return;
  }
  print(
    table(described, [
      { head: 'setting', of: d => `--${d.flag}` },
      { head: 'value', of: d => d.value || '(none)' },
      { head: 'from', of: d => d.from },
    ]),
  );
}
