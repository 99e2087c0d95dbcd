/**
 * The program of a test's own process of dibs: `start` with the settings in DIBS_TEST_FLAGS (JSON). With
 * DIBS_TEST_KILL it kills itself at that point once its parent has said `arm`. It ends with its parent.
 */
import { flushCompileCache } from 'node:module';
import { type Options, start } from '../../src/app.ts';
import { loadConfig } from '../../src/config.ts';
import { messageOf } from '../../src/errors.ts';
import { type KillPoint, withKillPoint } from './kill-points.ts';

export type ToNode = 'arm' | 'stop';
export type FromNode = { kind: 'ready'; url: string } | { kind: 'armed' } | { kind: 'failed'; message: string };

const say = (message: FromNode) => process.send?.(message);
const point = process.env.DIBS_TEST_KILL as KillPoint | undefined;
let armed = false;

process.on('disconnect', () => process.exit(1));
try {
  const options: Options = point ? { wrap: ports => withKillPoint(ports, point, () => armed) } : {};
  const app = await start(loadConfig({ flags: JSON.parse(process.env.DIBS_TEST_FLAGS ?? '{}') }), options);
  process.on('message', (message: ToNode) => {
    if (message === 'arm') {
      armed = true;
      say({ kind: 'armed' });
    } else void app.stop().finally(() => process.exit(0));
  });
  say({ kind: 'ready', url: app.url });
  // The next process then starts with a quarter less work; one that is killed would not leave it.
  flushCompileCache();
} catch (error) {
  say({ kind: 'failed', message: messageOf(error) });
  process.exitCode = 1;
  process.disconnect();
}
