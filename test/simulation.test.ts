/** The simulator (simulator/): some thousand seeds of it, and what it promises about itself. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { promisify } from 'node:util';
import { SharedLog } from '../simulator/log.ts';
import type { Mutant } from '../simulator/mutants/mutant.ts';
import { hunt, mutants } from '../simulator/mutants.ts';
import { explain, runSeeds } from '../simulator/seeds.ts';
import { createHost } from '../src/host.ts';
import { eventLogConformance } from './conformance/event-log.ts';

const seeds = 2_000;
const root = join(import.meta.dirname, '..');
const simulator = join(root, 'simulator', 'main.ts');

suite('simulation', () => {
  // Some 20 s of one core; other files' tests share the cores.
  test(`${seeds} seeds keep every promise`, { timeout: 400_000 }, async () => {
    const { failed } = await runSeeds({ from: 1, seeds, step: 1, all: false });
    assert.ok(!failed[0], failed[0] && (await explain(failed[0])));
  });
  for (const name of ['one more than the stock', 'skip instead of answering a replay', 'issued before the commit']) {
    test(`a core with a mistake in it is caught: ${name}`, async () => {
      const { check } = await hunt(mutants.find(mutant => mutant.name === name) as Mutant, 100);
      assert.ok(check);
    });
  }
  test('the text of each mutant stands once in the core', () => {
    const wrong = mutants.filter(
      ({ file, find }) => readFileSync(join(root, 'src', file), 'utf8').split(find).length !== 2,
    );
    assert.deepEqual(
      wrong.map(({ name }) => name),
      [],
    );
    assert.equal(new Set(mutants.map(({ name }) => name)).size, mutants.length);
    assert.ok(mutants.length >= 40);
  });
  test('the same seeds are the same runs in another process', async () => {
    const here = await runSeeds({ from: 1, seeds: 40, step: 1, all: false });
    const { stdout } = await promisify(execFile)(process.execPath, [simulator, '--seeds', '40']);
    assert.match(
      stdout,
      new RegExp(`40 seeds .* ${here.steps} events, .* hash ${here.hash.toString(16).padStart(8, '0')}$`, 'm'),
    );
  });
});

let logs = 0;
eventLogConformance("the simulator's", async () => {
  const log = new SharedLog(createHost(), 2, `log ${++logs}`);
  return { log, close: () => log.close() };
});
