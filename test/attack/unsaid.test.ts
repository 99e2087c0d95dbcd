/** The search in what the processes of attack and torture print finds what they must not say. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, suite, test } from 'node:test';
import { inspect } from 'node:util';
import { saysCapability, secret, startTarget, tokenOf } from '../../attack/target.ts';
import type { CouponId, RequestKey, UserId } from '../../src/coupon.ts';
import { createSealer } from '../../src/task.ts';
import { TestNode } from '../support/cluster.ts';
import { formsOf, secretsOf, Unsaid, withPassword } from '../support/unsaid.ts';

const word = 'a "word" that nobody says';

async function foundIn(chunks: readonly string[], more?: (line: string) => boolean): Promise<readonly string[]> {
  const unsaid = new Unsaid([word], more);
  const output = new PassThrough();
  const lines: string[] = [];
  unsaid.listen(output, line => void lines.push(line));
  const ended = new Promise(resolve => output.on('end', resolve));
  for (const chunk of chunks) output.write(chunk);
  output.end();
  await ended;
  assert.equal(lines.join('\n'), chunks.join('').replace(/\n$/, ''));
  return unsaid.found;
}

suite('the search', () => {
  test('finds a word in each form, wherever it stands, and nothing where it does not', async () => {
    const bytes = (before: string) => Buffer.from(`${before}${word}, and more`);
    const forms = [word, encodeURIComponent(word), JSON.stringify(word), bytes('').toString('hex')];
    for (const before of ['', 'a', 'ab', 'abc']) {
      forms.push(bytes(before).toString('base64'), bytes(before).toString('base64url'));
    }
    for (const form of forms) assert.equal((await foundIn(['begun\n', `it is ${form}.\nand so`])).length, 1, form);
    for (const half of [word.slice(1), 'another word', formsOf('another word').join(' ')])
      assert.deepEqual(await foundIn([half]), []);
  });
  test('finds it in a line that comes in pieces, and in a last one without an end', async () => {
    assert.deepEqual(await foundIn(['it is a "wo', 'rd" that nobo', 'dy says\n', 'no more\n']), [`it is ${word}`]);
    assert.deepEqual(await foundIn(['no more\n', word]), [word]);
    assert.equal((await foundIn(Array.from({ length: 99 }, () => `${word}\n`))).length, 20);
  });
  test('knows the secrets of settings', () => {
    const flags = {
      secret: 's',
      jwtSecret: 'j',
      redisUrl: 'redis://u:p%40@h:1',
      databaseUrl: 'postgres://h/d',
      port: '1',
    };
    assert.deepEqual(secretsOf(flags), ['s', 'j', 'p@']);
    assert.equal(withPassword('postgres://u:given@h:1/d'), 'postgres://u:given@h:1/d');
    assert.equal(secretsOf({ databaseUrl: withPassword('postgres://u@h:1/d') }).length, 1);
  });
  test('tells tokens, their signatures and task ids from other letters', () => {
    const sealer = createSealer(secret, 'log', randomBytes);
    const shortest = { couponId: 'c' as CouponId, userId: 'u' as UserId, partition: 0, offset: 1 };
    const id = sealer.seal({ ...shortest, key: '0123456789abcdef' as RequestKey });
    const token = tokenOf('ann');
    for (const said of [id, token, token.slice(0, 30), token.split('.')[2]])
      assert.ok(saysCapability(`{"msg":"it is ${said}"}`), said);
    const letters = ['a'.repeat(64), randomBytes(32).toString('base64url'), '8d777f385d3dfec8815d20f7496026dc-reserve'];
    for (const said of letters) assert.ok(!saysCapability(`{"msg":"it is ${said}"}`), said);
  });
});

describe('processes that say it', { timeout: 90_000 }, () => {
  test('the attacked one: its settings, and a token, in a line of any level', async () => {
    const say = `data:text/javascript,console.log(process.argv.join(' ')); console.log('{"level":20} ${tokenOf('ann')}')`;
    const target = await startTarget({ execArgv: ['--import', say] });
    try {
      // Its second thread loads the same and is given nothing.
      const found = target.errors.filter(line => line.startsWith('a secret, a token or a task id: '));
      assert.ok(
        found.some(line => line.includes(secret)),
        inspect(found),
      );
      assert.ok(
        found.some(line => line.includes('"level":20')),
        inspect(found),
      );
    } finally {
      await target.stop();
    }
  });
  test('a process of the torture', async t => {
    const folder = await mkdtemp(join(tmpdir(), 'dibs-unsaid-'));
    t.after(() => rm(folder, { recursive: true }));
    const preload = join(folder, 'say.mjs');
    await writeFile(preload, 'console.error(process.env.DIBS_TEST_FLAGS);');
    const flags = { profile: 'embedded', data: folder, port: '0', logLevel: 'debug', secret };
    const silent = await TestNode.start(flags);
    await silent.kill();
    assert.deepEqual(silent.leaks, []);
    const node = await TestNode.start(flags, { preload });
    await node.kill();
    assert.ok(node.leaks[0]?.includes(secret));
  });
});
