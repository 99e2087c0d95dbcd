/**
 * Runs before `npm start` and `npm test`, on whatever Node is there (20 or newer): installs what package-lock.json
 * says when node_modules does not hold it, with the Node 24 that everything else runs on.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');
const MODULES = join(ROOT, 'node_modules');
const LOCK = join(ROOT, '.cache', 'bootstrap.lock');
/** An install over a slow line; after that the lock is said to be stuck. */
const LOCK_MS_MAX = 600_000;
const POLL_MS = 200;

/** An installation without development packages is enough to start on a Node that is new enough. */
const WITHOUT_DEV = process.env.npm_lifecycle_event === 'prestart' && Number.parseInt(process.versions.node, 10) >= 24;

/** True when every package that the lockfile demands is installed in the version and with the hash it names. */
function isInstalled() {
  if (!WITHOUT_DEV && !existsSync(join(MODULES, '.bin', 'node'))) return false;
  let installed;
  try {
    installed = JSON.parse(readFileSync(join(MODULES, '.package-lock.json'), 'utf8')).packages;
  } catch {
    // npm writes this at the end of an install, so half an install has none.
    return false;
  }
  const demanded = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(demanded).every(([path, { version, integrity, optional, dev }]) => {
    const found = installed[path];
    if (path === '') return true;
    if (found) return found.version === version && found.integrity === integrity;
    return optional === true || (dev === true && WITHOUT_DEV);
  });
}

function install() {
  console.log('dibs: installing dependencies with npm ci');
  // npm passes its own path on; run by hand, this script takes the npm on PATH.
  const npm = process.env.npm_execpath;
  const [file, ...args] = npm ? [process.execPath, npm] : ['npm'];
  const result = spawnSync(file, [...args, 'ci', '--loglevel=error', '--no-audit', '--no-fund'], {
    cwd: ROOT,
    encoding: 'utf8',
    shell: !npm && process.platform === 'win32',
  });
  if (result.status === 0 && isInstalled()) return;
  const said = `${result.stderr ?? ''}${result.error?.message ?? ''}`.trim().split('\n').slice(0, 12).join('\n');
  if (said) console.error(said);
  const what = result.status === 0 ? 'left node_modules without Node 24' : 'failed';
  throw new Error(`npm ci ${what}: check the network and run "npm ci" by hand to see why.`);
}

/** Takes the lock, or returns false when another run holds it. */
function tryLock() {
  mkdirSync(join(ROOT, '.cache'), { recursive: true });
  try {
    writeFileSync(LOCK, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    if (isHolderGone()) rmSync(LOCK, { force: true });
    return false;
  }
}

function isHolderGone() {
  try {
    const pid = Number(readFileSync(LOCK, 'utf8'));
    // 0: created this moment and not yet written.
    if (pid > 0) process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === 'ESRCH';
  }
}

function pause(ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function main() {
  const deadline = Date.now() + LOCK_MS_MAX;
  while (!isInstalled()) {
    if (tryLock()) {
      try {
        // Another run may have installed between the look and the lock.
        if (!isInstalled()) install();
      } finally {
        rmSync(LOCK, { force: true });
      }
    } else if (Date.now() > deadline) {
      throw new Error(`${LOCK} is held for too long: end the process whose id it holds, or delete it.`);
    } else {
      pause(POLL_MS);
    }
  }
}

try {
  main();
} catch (error) {
  console.error(`dibs: ${error.message}`);
  process.exitCode = 1;
}
