/** The command line as a process: who reads what it says, and which signals reach it. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, cpSync, existsSync, mkdtempSync, openSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { freePort } from '../scripts/services/port.ts';
import { createClient } from '../src/client/index.ts';
import { spawnDibs } from './support/child.ts';
import { startFake } from './support/fake-server.ts';
import { embeddedGround } from './support/profiles.ts';
import { until } from './support/until.ts';

/** A process that is started on a busy machine. */
const startMsMax = 60_000;

const cwd = join(import.meta.dirname, '..');
const main = 'src/cli/main.ts';
const noFull = !existsSync('/dev/full') && 'there is no /dev/full here';

suite('a process', { timeout: 60_000 }, () => {
  const ground = embeddedGround();
  after(() => ground.close());

  test('a crowd goes on when nobody reads its stderr', async () => {
    const fake = await startFake();
    const child = spawnDibs([main, 'rush', 'c', '--users', '50', '--json'], { DIBS_URL: fake.url });
    child.leave('stderr');
    const { code } = await child.ended;
    await fake.close();
    assert.equal(JSON.parse(child.out || '{}').ok, true);
    assert.equal(code, 0);
  });

  test('a server goes on when nobody reads its stdout', async t => {
    const child = spawnDibs([main, 'serve', '--sample'], ground.environment);
    t.after(() => child.stop());
    const client = createClient({ baseUrl: await child.url() });
    child.leave('stdout');
    await until(async () => (await client.coupons.list()).length === 1);
    // It prints more while this is on its way.
    assert.equal((await client.claim('welcome', { userId: 'ann' }).outcome).outcome, 'issued');
    assert.equal((await child.stop()).code, 0);
  });

  test('a server goes on when the disk under its stdout is full', { skip: noFull }, async t => {
    const port = await freePort();
    const full = openSync('/dev/full', 'w');
    const env = { PATH: process.env.PATH ?? '', ...ground.environment, DIBS_PORT: `${port}`, DIBS_LOG_LEVEL: 'debug' };
    const child = spawn(process.execPath, [main, 'serve'], { cwd, env, stdio: ['ignore', full, 'ignore'] });
    const ended = once(child, 'exit');
    t.after(() => child.kill('SIGKILL'));
    closeSync(full);
    const client = createClient({ baseUrl: `http://127.0.0.1:${port}` });
    await until(
      () => client.coupons.create({ couponId: 'full', name: 'full', stock: 1 }).catch(() => false),
      startMsMax,
    );
    assert.equal((await client.claim('full', { userId: 'ann' }).outcome).outcome, 'issued');
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
  });

  test('a disk that is full is one sentence', { skip: noFull }, () => {
    const full = openSync('/dev/full', 'w');
    const args = [main, 'config'];
    const { status, stderr } = spawnSync(process.execPath, args, {
      cwd,
      stdio: ['ignore', full, 'pipe'],
      encoding: 'utf8',
    });
    closeSync(full);
    assert.deepEqual([status, stderr], [1, 'dibs: stdout cannot be written (ENOSPC): send it elsewhere\n']);
  });

  test('starts from a folder whose name means something in a URL', async t => {
    const folder = mkdtempSync(join(tmpdir(), 'dibs #1? 100%25 '));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    for (const part of ['bin', 'src', 'package.json']) cpSync(join(cwd, part), join(folder, part), { recursive: true });
    symlinkSync(join(cwd, 'node_modules'), join(folder, 'node_modules'));
    const child = spawnDibs([join(folder, 'bin', 'dibs'), 'serve'], ground.environment);
    t.after(() => child.stop());
    assert.ok((await fetch(`${await child.url()}/readyz`)).ok);
  });

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
