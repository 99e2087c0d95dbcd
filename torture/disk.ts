/** A server on a small disk of its own, which may be filled. Needs Linux and root, for the mount. */
import { execFile } from 'node:child_process';
import { rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ServiceHandle } from '../scripts/services.ts';

const run = promisify(execFile);
export const canMount = process.platform === 'linux' && process.getuid?.() === 0;

/** What is free on it besides the server's data, MiB. */
const roomMiB = 48;

export interface SmallDisk {
  fill(): Promise<void>;
  empty(): Promise<void>;
}

/** The server is stopped before and after; its data goes with it, both ways. */
export async function onSmallDisk(server: ServiceHandle, use: (disk: SmallDisk) => Promise<void>): Promise<void> {
  const { dataDir } = server;
  const aside = `${dataDir}-aside`;
  const ballast = join(dataDir, 'ballast');
  await server.stop();
  await run('cp', ['-a', dataDir, aside]);
  const { stdout } = await run('du', ['-sm', aside]);
  await run('mount', ['-t', 'tmpfs', '-o', `size=${Number.parseInt(stdout, 10) + roomMiB}m`, 'tmpfs', dataDir]);
  try {
    await run('cp', ['-a', `${aside}/.`, dataDir]);
    await server.start();
    await use({
      async fill() {
        const { bavail, bsize } = await statfs(dataDir);
        await writeFile(ballast, Buffer.alloc(bavail * bsize)).catch((error: NodeJS.ErrnoException) => {
          // The server has taken the last of it meanwhile.
          if (error.code !== 'ENOSPC') throw error;
        });
      },
      empty: () => rm(ballast, { force: true }),
    });
  } finally {
    await rm(ballast, { force: true });
    // What it could not write may have ended it.
    await server.start();
    await server.stop();
    await rm(aside, { recursive: true, force: true });
    await run('cp', ['-a', dataDir, aside]);
    await run('umount', [dataDir]);
    await run('cp', ['-a', `${aside}/.`, dataDir]);
    await rm(aside, { recursive: true, force: true });
    await server.start();
  }
}
