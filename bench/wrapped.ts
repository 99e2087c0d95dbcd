/** Programs that are `dibs serve` with something around its ports: how they read their flags and start. */
import { optionsOf, refuse } from '../scripts/usage.ts';
import { type App, type Options, start } from '../src/app.ts';
import { loadConfig, settings } from '../src/config.ts';
import { Refused } from '../src/errors.ts';

/** Methods of `whole`, but for those that `own` has. */
export const around = <T extends object>(whole: T, own: Partial<T>): T =>
  new Proxy(whole, {
    get(target, property) {
      if (property in own) return own[property as keyof T];
      const value = Reflect.get(target, property, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });

const options = Object.fromEntries(Object.values(settings).map(({ flag }) => [flag, { type: 'string' } as const]));

async function startWrapped(flags: Record<string, string>, wrap: NonNullable<Options['wrap']>): Promise<App> {
  try {
    return await start(loadConfig({ flags }), { wrap });
  } catch (error) {
    if (error instanceof Refused) refuse(error.message);
    throw error;
  }
}

/** Until SIGTERM. */
export async function run(file: string, wrap: NonNullable<Options['wrap']>): Promise<void> {
  const { values } = optionsOf(file, options);
  const flags = Object.fromEntries(Object.entries(settings).map(([name, { flag }]) => [name, values[flag] as string]));
  const app = await startWrapped(flags, wrap);
  const stop = () => void app.stop().finally(() => process.exit());
  process.on('SIGTERM', stop).on('SIGINT', stop);
}
