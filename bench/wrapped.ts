/** Programs that are `dibs serve` with something around its ports: how they read their flags and start. */
import { type Options, start } from '../src/app.ts';
import { loadConfig, settings } from '../src/config.ts';

/** Methods of `whole`, but for those that `own` has. */
export const around = <T extends object>(whole: T, own: Partial<T>): T =>
  new Proxy(whole, {
    get(target, property) {
      if (property in own) return own[property as keyof T];
      const value = Reflect.get(target, property, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });

/** Until SIGTERM. */
export async function run(args: readonly string[], wrap: NonNullable<Options['wrap']>): Promise<void> {
  const names = new Map(Object.entries(settings).map(([name, { flag }]) => [`--${flag}`, name]));
  const flags: Record<string, string> = {};
  for (let i = 0; i < args.length; i += 2) flags[names.get(args[i] as string) ?? ''] = args[i + 1] as string;
  const app = await start(loadConfig({ flags }), { wrap });
  const stop = () => void app.stop().finally(() => process.exit());
  process.on('SIGTERM', stop).on('SIGINT', stop);
}
