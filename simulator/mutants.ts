/**
 * How strong are the checks? Each mutant is one mistake, put into a copy of the core; the simulator must catch it.
 *
 *   npm run mutants                     all of them: which check caught it, after how many seeds
 *   npm run mutants -- latch            those whose line has `latch` in it; several words: any of them
 *   --seeds <n>                         give up after so many (15000)
 */
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { optionsOf, wholeNumber } from '../scripts/usage.ts';
import type { CheckName } from './checks/facts.ts';
import { doorMutants } from './mutants/door.ts';
import { foldMutants } from './mutants/fold.ts';
import type { Mutant } from './mutants/mutant.ts';
import { proofs } from './mutants/proofs.ts';
import { stageMutants } from './mutants/stages.ts';
import { storeMutants } from './mutants/store.ts';
import type { Summary } from './seeds.ts';

export const mutants: readonly Mutant[] = [...foldMutants, ...stageMutants, ...storeMutants, ...doorMutants];

export interface Caught {
  mutant: Mutant;
  /** Undefined for one that survived. */
  check: CheckName | undefined;
  /** Until it was caught, that one too. */
  seeds: number;
}

const proves = ({ name }: Mutant) => (Object.keys(proofs) as CheckName[]).find(check => proofs[check] === name);
const isAsWanted = ({ mutant, check }: Caught) => check !== undefined && (proves(mutant) ?? check) === check;

const root = join(import.meta.dirname, '..');
const runMsMax = 600_000;

/** Runs the simulator of a copy with the mistake in it. @throws when the text to replace is not there exactly once. */
export async function hunt(mutant: Mutant, seeds: number): Promise<Caught> {
  const folder = mkdtempSync(join(tmpdir(), 'dibs-mutant-'));
  try {
    for (const part of ['src', 'simulator', 'scripts', 'package.json'])
      cpSync(join(root, part), join(folder, part), { recursive: true });
    const path = join(folder, 'src', mutant.file);
    const parts = readFileSync(path, 'utf8').split(mutant.find);
    if (parts.length !== 2)
      throw new Error(`"${mutant.name}": its text is ${parts.length - 1} times in ${mutant.file}`);
    writeFileSync(path, parts.join(mutant.replace));
    const args = [join(folder, 'simulator', 'main.ts'), '--json', '--seeds', String(seeds)];
    // It answers 1 when a seed failed.
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: runMsMax }).catch(
      error => error as { stdout: string },
    );
    const summary = JSON.parse(stdout) as Summary;
    return { mutant, check: summary.failed[0]?.failure.check, seeds: summary.seeds };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function main(): Promise<number> {
  const { values, positionals } = optionsOf(
    import.meta.filename,
    { seeds: { type: 'string', default: '15000' } },
    { allowPositionals: true },
  );
  const seedsMax = wholeNumber('seeds', values.seeds);
  const chosen = mutants.filter(
    ({ file, name }) => positionals.length === 0 || positionals.some(word => `${file}: ${name}`.includes(word)),
  );
  const caught: Caught[] = [];
  for (const mutant of chosen) {
    const found = await hunt(mutant, seedsMax);
    caught.push(found);
    const wanted = found.check === undefined || isAsWanted(found) ? '' : `, and is to prove ${proves(mutant)}`;
    console.log(
      `${found.check ? String(found.seeds).padStart(4) : 'none'}  ${(found.check ?? 'SURVIVED').padEnd(22)} ${mutant.file}: ${mutant.name}${wanted}`,
    );
  }
  const seeds = caught.flatMap(found => (found.check ? [found.seeds] : [])).sort((a, b) => a - b);
  console.log(
    `${seeds.length} of ${caught.length} caught, the median after ${seeds[Math.floor((seeds.length - 1) / 2)]} seeds`,
  );
  return caught.every(isAsWanted) ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main();
