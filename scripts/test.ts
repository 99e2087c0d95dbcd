/**
 * `npm test`: the checks, then every test with real Redis, Postgres and Kafka. Arguments narrow it:
 *
 *   npm test -- test/sale.test.ts        this file (without the checks), or all of a folder
 *   npm test -- "sold out"               tests whose name matches
 *   npm test -- --test-only              any flag of `node --test`
 *
 * DIBS_TEST_SERVICES=none starts no servers, and tests that need them say that they are skipped. The last lines on
 * stdout are those of node's test runner; CI reads them.
 */
import { execFile } from 'node:child_process';
import { existsSync, globSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { runToEnd } from './services/command.ts';
import { environmentOf, type Services, startServices } from './services.ts';
import { refuse } from './usage.ts';

const ROOT = join(import.meta.dirname, '..');
const CONCURRENCY = 2;
const TEST_MS_MAX = 120_000;
/** Of a file in a loop that no timer of its own can end; then the runner is ended and names it. */
const RUN_MS_MAX = 40 * 60_000;
const ENDS = join(import.meta.dirname, '..', 'test', 'support', 'ends.ts');
const SOME = join(import.meta.dirname, '..', 'test', 'support', 'some.ts');

const CHECKS: readonly (readonly [string, ...string[]])[] = [
  ['tsc', '--noEmit'],
  ['biome', 'check', '.'],
  ['oxlint', '--type-aware'],
];

async function main(args: readonly string[]): Promise<number> {
  const isFile = (arg: string): boolean =>
    !arg.startsWith('-') && (existsSync(arg) || arg.includes('*') || arg.startsWith('test/') || arg.endsWith('.ts'));
  const files = args.filter(isFile).map(arg => (isFolder(arg) ? join(arg, '**', '*.test.ts') : arg));
  for (const file of files)
    if (globSync(file).length === 0) refuse(`"${file}" is no test: give a file that is there, or a pattern of some.`);
  const flags = args.filter(arg => !isFile(arg)).map(arg => (arg.startsWith('-') ? arg : `--test-name-pattern=${arg}`));
  const [services, failed] = await Promise.all([servicesForTests(), args.length === 0 ? failedChecks() : []]);
  try {
    const code = await runTests(flags, files, services);
    for (const check of failed) console.error(`check failed: ${check}`);
    return failed.length > 0 ? Math.max(code, 1) : code;
  } finally {
    await services?.stop();
  }
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

function runTests(flags: readonly string[], files: readonly string[], services: Services | undefined): Promise<number> {
  const options = [
    `--import=${pathToFileURL(ENDS)}`,
    '--test',
    ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
    ...[`--test-reporter=${pathToFileURL(SOME)}`, '--test-reporter-destination=stderr'],
    `--test-concurrency=${CONCURRENCY}`,
    `--test-timeout=${TEST_MS_MAX}`,
    ...flags,
  ];
  const all = files.length > 0 ? files : ['test/**/*.test.ts'];
  const env = services ? environmentOf(services) : {};
  return runToEnd(process.execPath, [...options, ...all], { env, msMax: RUN_MS_MAX });
}

async function servicesForTests(): Promise<Services | undefined> {
  if (process.env.DIBS_TEST_SERVICES === 'none') {
    console.log('services: none (DIBS_TEST_SERVICES=none), tests that need them are skipped');
    return undefined;
  }
  const start = performance.now();
  const services = await startServices({ log: line => console.log(`services: ${line}`) });
  const { redisUrl, databaseUrl, kafkaBrokers } = services;
  console.log(`services: ${redisUrl}, ${databaseUrl}, ${kafkaBrokers} (${seconds(start)})`);
  return services;
}

/** All are run, and each says at once what it found. */
async function failedChecks(): Promise<string[]> {
  const failed: string[] = [];
  const env = { ...process.env, NO_COLOR: '1' };
  for (const [tool, ...args] of CHECKS) {
    const check = [tool, ...args].join(' ');
    const start = performance.now();
    try {
      await promisify(execFile)(join(ROOT, 'node_modules', '.bin', tool), args, { cwd: ROOT, env });
      console.log(`check: ${check} (${seconds(start)})`);
    } catch (error) {
      const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
      console.log(`check failed: ${check} (${seconds(start)})\n${stdout}${stderr}`);
      failed.push(check);
    }
  }
  return failed;
}

const seconds = (start: number): string => `${((performance.now() - start) / 1000).toFixed(1)} s`;

process.chdir(ROOT);
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
