/** The command line as a process: which signals reach it. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { spawnDibs } from './support/child.ts';
import { embeddedGround } from './support/profiles.ts';

suite('a process', { timeout: 60_000 }, () => {
  const ground = embeddedGround();
  after(() => ground.close());

  test('on an older Node is sent no second Ctrl-C, whichever of its streams is the terminal', async t => {
    for (const inTerminal of [true, false]) {
      const pretended = `import { ChildProcess } from 'node:child_process';
        import { syncBuiltinESMExports } from 'node:module';
        import tty from 'node:tty';
        Object.defineProperty(process.versions, 'node', { value: '22.0.0' });
        tty.isatty = fd => ${inTerminal} && fd === 2;
        syncBuiltinESMExports();
        const { kill } = ChildProcess.prototype;
        ChildProcess.prototype.kill = function (signal) {
          console.error('passed on:', signal);
          return kill.call(this, signal);
        };`;
      const preload = `data:text/javascript,${encodeURIComponent(pretended)}`;
      const child = spawnDibs(['--import', preload, 'bin/dibs', 'serve'], ground.environment);
      t.after(() => child.stop());
      await child.url();
      const sent = inTerminal ? (['SIGINT', 'SIGTERM'] as const) : (['SIGINT'] as const);
      for (const signal of sent) process.kill(child.pid, signal);
      const { code } = await child.ended;
      assert.deepEqual([code, child.err], [0, `passed on: ${sent.at(-1)}\n`], `in a terminal: ${inTerminal}`);
    }
  });
});
