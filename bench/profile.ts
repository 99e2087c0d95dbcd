/** Where the time goes: functions by their own time, from the CPU profiles that a server left, one a thread. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const shownMax = 25;
const root = join(import.meta.dirname, '..', '/');

interface Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
}

export function printProfile(folder: string, say: (line: string) => void): void {
  const files = existsSync(folder) ? readdirSync(folder).filter(name => name.endsWith('.cpuprofile')) : [];
  if (files.length === 0) say(` no profile was left in ${folder}`);
  for (const file of files) printThread(join(folder, file), say);
}

function printThread(file: string, say: (line: string) => void): void {
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(file, 'utf8')) as Profile;
  const names = new Map(nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const own = new Map<string, number>();
  samples.forEach((id, i) => {
    const name = names.get(id) ?? '?';
    own.set(name, (own.get(name) ?? 0) + (timeDeltas[i] ?? 0));
  });
  const total = [...own.values()].reduce((a, b) => a + b, 0);
  const busy = total - (own.get('(idle)') ?? 0);
  own.delete('(idle)');
  say(` ${file}: busy ${(busy / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} s`);
  const top = [...own].sort(([, a], [, b]) => b - a).slice(0, shownMax);
  for (const [name, us] of top) say(`  ${((us * 100) / busy).toFixed(1).padStart(5)} %  ${name}`);
}

function nameOf({ functionName, url, lineNumber }: Profile['nodes'][number]['callFrame']): string {
  const path = url.startsWith('file:') ? fileURLToPath(url).replace(root, '') : url;
  const name = functionName || '(anonymous)';
  return path === '' ? name : `${name}  ${path}:${lineNumber + 1}`;
}
