import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sayAgainMs } from '../src/limits.ts';
import { seldom } from '../src/seldom.ts';

test('what fails again and again is said once, then at most every ten seconds, with how often it was', () => {
  let now = 5;
  const lines: string[] = [];
  const say = seldom((_level, message) => void lines.push(message), { elapsed: () => now });
  for (let i = 0; i < 3; i++) say('warn', 'full');
  now += sayAgainMs - 1;
  say('warn', 'full');
  now += 1;
  for (let i = 0; i < 2; i++) say('warn', 'still full');
  now += sayAgainMs;
  say('warn', 'full');
  now += 2 * sayAgainMs;
  say('warn', 'full');
  const since = (n: number) => ` (and ${n} times since it was said last)`;
  assert.deepEqual(lines, ['full', `still full${since(3)}`, `full${since(1)}`, 'full']);
});
