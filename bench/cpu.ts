/** Who used the processors, from /proc. Times in s of one core. */
import { readdirSync, readFileSync } from 'node:fs';

/** Clock ticks a second in /proc, the same on all Linux systems that Node runs on. */
const ticks = 100;

export interface Usage {
  at: number;
  /** All processes of the machine, and what the hypervisor took. */
  all: number;
  /** This process, those it started, and theirs. */
  ours: number;
}

interface Stat {
  pid: number;
  parent: number;
  /** With what ended children used. */
  used: number;
}

export const usage = (): Usage => ({ at: performance.now() / 1000, all: allUsed(), ours: treeUsed(process.pid) });

/** Cores that other people's processes took between both. Interrupts are nobody's: most of them are our packets. */
export const othersCores = (from: Usage, to: Usage): number =>
  Math.max(0, to.all - from.all - (to.ours - from.ours)) / Math.max(0.01, to.at - from.at);

/** Of the process and all below it. */
export function treeUsed(pid: number): number {
  const stats = allStats();
  const byParent = Map.groupBy(stats, stat => stat.parent);
  const sum = (stat: Stat): number =>
    stat.used + (byParent.get(stat.pid) ?? []).reduce((total, child) => total + sum(child), 0);
  const root = stats.find(stat => stat.pid === pid);
  return root ? sum(root) : 0;
}

function allUsed(): number {
  const line = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0] as string;
  const [user, nice, system, , , , , steal] = line.split(/ +/).slice(1).map(Number) as number[];
  return ((user ?? 0) + (nice ?? 0) + (system ?? 0) + (steal ?? 0)) / ticks;
}

const allStats = (): Stat[] =>
  readdirSync('/proc').flatMap(name => {
    const pid = Number(name);
    const fields = Number.isInteger(pid) ? fieldsOf(pid) : undefined;
    if (!fields) return [];
    const used = fields.slice(11, 15).reduce((total, field) => total + Number(field), 0) / ticks;
    return [{ pid, parent: Number(fields[1]), used }];
  });

/** /proc/PID/stat from its third field on. The name before it may hold blanks and brackets. */
function fieldsOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

/** Resident memory of one process, bytes. */
export function residentBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib ?? 0) * 1024;
}
