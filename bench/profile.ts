/** Where the time goes, from the CPU profiles that a server left, one a thread. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const shownMax = 20;
const root = join(import.meta.dirname, '..', '/');

interface Profile {
  nodes: {
    id: number;
    callFrame: { functionName: string; url: string; lineNumber: number };
    children?: number[];
  }[];
  samples: number[];
  timeDeltas: number[];
}

/** us by name. */
type Times = Map<string, number>;

export function printProfile(folder: string, say: (line: string) => void): void {
  const files = existsSync(folder) ? readdirSync(folder).filter(name => name.endsWith('.cpuprofile')) : [];
  if (files.length === 0) say(` no profile was left in ${folder}`);
  for (const file of files) printThread(join(folder, file), say);
}

function printThread(file: string, say: (line: string) => void): void {
  const profile = JSON.parse(readFileSync(file, 'utf8')) as Profile;
  const own = new Map<number, number>();
  profile.samples.forEach((id, i) => {
    add(own, id, profile.timeDeltas[i] ?? 0);
  });
  const [functions, owners]: [Times, Times] = [new Map(), new Map()];
  let [idle, total] = [0, 0];
  for (const { id, callFrame } of profile.nodes) {
    const us = own.get(id) ?? 0;
    total += us;
    if (callFrame.functionName === '(idle)') idle += us;
    else {
      add(functions, nameOf(callFrame), us);
      add(owners, ownerOf(callFrame), us);
    }
  }
  const busy = total - idle;
  const print = (title: string, times: Times, max: number) => {
    say(` ${title}`);
    const top = [...times].sort(([, a], [, b]) => b - a).slice(0, max);
    for (const [name, us] of top) say(`  ${((us * 100) / busy).toFixed(1).padStart(5)} %  ${name}`);
  };
  say(` ${file}: busy ${(busy / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} s`);
  print('own time by function', functions, shownMax);
  print('own time by owner', owners, shownMax);
  print('time of ours with all that they call', withCalled(profile, own), shownMax);
}

const add = <K>(times: Map<K, number>, key: K, us: number): void => void times.set(key, (times.get(key) ?? 0) + us);

/** Of the functions in src; one that calls itself counts once. */
function withCalled({ nodes }: Profile, own: Map<number, number>): Times {
  const byId = new Map(nodes.map(node => [node.id, node]));
  const times: Times = new Map();
  const visit = (id: number, above: ReadonlySet<string>): number => {
    const node = byId.get(id);
    if (!node) return 0;
    const name = nameOf(node.callFrame);
    const below = new Set(above).add(name);
    const us = (node.children ?? []).reduce((sum, child) => sum + visit(child, below), own.get(id) ?? 0);
    if (name.includes('  src/') && !above.has(name)) add(times, name, us);
    return us;
  };
  const [first] = nodes;
  if (first) visit(first.id, new Set());
  return times;
}

type Frame = Profile['nodes'][number]['callFrame'];

const pathOf = ({ url }: Frame): string => (url.startsWith('file:') ? fileURLToPath(url).replace(root, '') : url);

function nameOf(frame: Frame): string {
  const path = pathOf(frame);
  const name = frame.functionName || '(anonymous)';
  return path === '' ? name : `${name}  ${path}:${frame.lineNumber + 1}`;
}

/** A package, a folder of ours, a module of Node, or what is compiled into it. */
function ownerOf(frame: Frame): string {
  const path = pathOf(frame);
  const found = /^node_modules\/(@[^/]+\/[^/]+|[^/]+)|^src\/(?:[^/]+\/|[^/]+)|^node:(?:internal\/)?[^/]+/.exec(
    path,
  )?.[0];
  if (found) return found;
  return frame.functionName.startsWith('(') ? frame.functionName : `native ${frame.functionName}`;
}
