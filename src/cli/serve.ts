/** `dibs serve` and `dibs config`: the settings by flag, environment, default; then the app until Ctrl-C. */
import { createClient } from '../client/index.ts';
import { exitCodes } from './connect.ts';
import { pairs, print, printJson } from './terminal.ts';

export type Flags = Record<string, string | boolean>;

export async function serve(flags: Flags, { sample }: { sample: boolean }): Promise<void> {
  const { loadConfig } = await import('../config.ts');
  const config = loadConfig({ flags, env: process.env });
  const { start } = await import('../app.ts');
  const app = await start(config);
  const stopped = Promise.withResolvers<void>();
  const onSignal = () => {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    // A second Ctrl-C meets Node's own handler and ends the process at once.
    stopped.resolve(app.stop());
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  print(`dibs listens on ${app.url}`);
  if (sample) await openSample(app.url);
  await stopped.promise;
  process.exitCode = exitCodes.ok;
}

/** On an empty store, a coupon to try; then what to try. */
async function openSample(url: string): Promise<void> {
  const client = createClient({ baseUrl: url });
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
  const { describeConfig, loadConfig } = await import('../config.ts');
  const described = describeConfig(loadConfig({ flags, env: process.env }));
  if (json) printJson(described);
  else print(pairs(Object.entries(described).map(([name, value]) => [name, String(value)] as const)));
}
