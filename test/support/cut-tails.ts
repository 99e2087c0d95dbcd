/** What a single broker loses whose host dies before its page cache is written. */
import { readdir, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';

/** Takes the second half off the newest segment of each partition of `topic`. The broker must be down. */
export async function cutTails(dataDir: string, topic: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (!name.startsWith(`${topic}-`) || !/^[0-9]+$/.test(name.slice(topic.length + 1))) continue;
    const [segment] = (await readdir(join(dataDir, name)))
      .filter(file => file.endsWith('.log'))
      .sort()
      .reverse();
    const path = join(dataDir, name, segment as string);
    await truncate(path, Math.floor((await stat(path)).size / 2));
  }
}
