/**
 * The program of a test's own process of dibs: `start` with the settings in DIBS_TEST_FLAGS (JSON). It kills itself at
 * the point that its parent arms. With DIBS_TEST_OWNER it takes all partitions of its stages, whatever their group
 * says. It ends with its parent.
 */
import './lazy-schemas.ts';
import { flushCompileCache } from 'node:module';
import { type Options, start } from '../../src/app.ts';
import { loadConfig } from '../../src/config.ts';
import { messageOf } from '../../src/errors.ts';
import { type KillPoint, withKillPoints } from './kill-points.ts';
import { withAllPartitions } from './owner.ts';

export type ToNode = { kind: 'arm'; point: KillPoint } | { kind: 'stop' };
export type FromNode = { kind: 'ready'; url: string } | { kind: 'armed' } | { kind: 'failed'; message: string };

const say = (message: FromNode) => process.send?.(message);
let armed: KillPoint | undefined;

process.on('disconnect', () => process.exit(1));
try {
  const isOwner = process.env.DIBS_TEST_OWNER !== undefined;
  const options: Options = {
    wrap: ports => withKillPoints(isOwner ? withAllPartitions(ports) : ports, () => armed),
  };
  const app = await start(loadConfig({ flags: JSON.parse(process.env.DIBS_TEST_FLAGS ?? '{}') }), options);
  process.on('message', (message: ToNode) => {
    if (message.kind === 'arm') {
      armed = message.point;
      say({ kind: 'armed' });
    } else void app.stop().finally(() => process.exit(0));
  });
  // As `dibs serve` does.
  void app.lost.then(() => app.stop()).finally(() => process.exit(1));
  say({ kind: 'ready', url: app.url });
  // The next process then starts with a quarter less work; one that is killed would not leave it.
  flushCompileCache();
} catch (error) {
  say({ kind: 'failed', message: messageOf(error) });
  process.exitCode = 1;
  process.disconnect();
}
