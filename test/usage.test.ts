/** Programs of the house refuse what would run nothing, before they start anything. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

const run = (...args: string[]): Promise<Ended> => runWith(process.env, ...args);

const runWith = (env: NodeJS.ProcessEnv, ...args: string[]): Promise<Ended> =>
  new Promise(resolve => {
    const options = { cwd: join(import.meta.dirname, '..'), timeout: 30_000, env };
    const child = execFile(process.execPath, args, options, (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });

function assertRefused({ code, stdout, stderr }: Ended): void {
  assert.deepEqual([code, stdout], [2, ''], stderr);
  assert.match(stderr, /^--?[^\n]{10,}\n$|^Unknown option [^\n]+\n$/);
}

describe('usage', { concurrency: 2, timeout: 120_000 }, () => {
  test('a number is digits only, and above 0', async () => {
    const asked = (text: string) =>
      run('-e', "import('./scripts/usage.ts').then(u => console.log(u.wholeNumber('n', process.argv[1])))", '--', text);
    for (const text of ['100,000', 'x', '', ' ', '0', '1e3', '0x10', '-1', '1.5']) assertRefused(await asked(text));
    assert.deepEqual(await asked('100000'), { code: 0, stdout: '100000\n', stderr: '' });
  });

  for (const [file, ...args] of [
    ['simulator/main.ts', '--seeds=100,000'],
    ['simulator/main.ts', '--seed='],
    ['simulator/mutants.ts', '--seeds=x'],
    ['torture/main.ts', '--rounds=0'],
    ['torture/main.ts', '--kills='],
    ['attack/main.ts', '--requests=0'],
    ['bench/run.ts', '--rounds=x'],
    ['bench/scale.ts', '--only=nope'],
    ['bench/scale.ts', '--nope'],
    ['bench/compare.ts', '--rounds=0'],
    ['bench/endurance.ts', '--scale=0'],
    ['bench/naive.ts', '--profile=nope'],
  ] as const) {
    test(`${file} refuses ${args.join(' ')} in one sentence`, async () => assertRefused(await run(file, ...args)));
  }

  for (const pattern of ['test/nothing-*.test.ts', 'test/nothing.test.ts', 'test/nothing']) {
    test(`scripts/test.ts refuses ${pattern}, which is no test`, async () => {
      const { code, stdout, stderr } = await run('scripts/test.ts', pattern);
      assert.deepEqual([code, stdout], [2, ''], stderr);
      assert.match(stderr, /^"test\/nothing\S*" is no test: [^\n]+\n$/);
    });
  }

  for (const [what, code, said] of [
    [
      "test('it', () => void setInterval(() => {}, 1_000))",
      1,
      /its tests are over for 100 ms, and it is kept by .*Timeout/,
    ],
    ["test('it', () => {})", 0, /pass 1\n/],
  ] as const) {
    test(`a test file ends when its tests are over, with ${code}`, async t => {
      const folder = await mkdtemp(join(tmpdir(), 'dibs-ends-'));
      t.after(() => rm(folder, { recursive: true }));
      const file = join(folder, 'it.test.mjs');
      await writeFile(file, `import { test } from 'node:test';\n${what};\n`);
      const { NODE_TEST_CONTEXT: _, ...env } = process.env;
      const ended = await runWith(
        { ...env, DIBS_TEST_LINGER_MS: '100' },
        '--import',
        './test/support/ends.ts',
        '--test',
        '--test-reporter=spec',
        file,
      );
      assert.equal(ended.code, code);
      assert.match(ended.stdout, said);
    });
  }

  for (const file of ['bench/scale.ts', 'bench/naive.ts']) {
    test(`${file} --help starts nothing`, async () => {
      const { code, stdout, stderr } = await run(file, '--help');
      assert.deepEqual([code, stderr], [0, '']);
      assert.ok(stdout.length > 100);
    });
  }
});
