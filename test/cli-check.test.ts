/** `rush --history`, `dump` and `verify --history`, as one types them. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { createClient } from '../src/client/index.ts';
import { spawnDibs } from './support/child.ts';
import { embeddedGround } from './support/profiles.ts';

const noFull = !existsSync('/dev/full') && 'there is no /dev/full here';

suite('a sale whose history is kept', { timeout: 60_000 }, () => {
  const ground = embeddedGround();
  const [seen, kept, noCall, empty] = ['seen', 'kept', 'no-call', 'empty'].map(name =>
    join(ground.folder, `${name}.jsonl`),
  ) as [string, string, string, string];
  let url = '';
  before(async () => {
    const app = await ground.start();
    url = app.url;
    await createClient({ baseUrl: url }).coupons.create({ couponId: 'noon', name: 'Noon', stock: 20 });
  });
  after(() => ground.close());

  const dibs = async (...args: string[]) => {
    const child = spawnDibs(['src/cli/main.ts', ...args], { DIBS_URL: url, DIBS_DATA: ground.folder });
    const { code } = await child.ended;
    return { code, out: child.out, err: child.err };
  };
  const verify = () => dibs('verify', '--history', seen, '--dump', kept);

  test('is verified by its dump, beside the server', async () => {
    assert.equal((await dibs('rush', 'noon', '--users', '60', '--history', seen)).code, 0);
    assert.equal((await dibs('dump', kept)).code, 0);
    const { code, out } = await verify();
    assert.match(out, /^verified: 60 calls, \d+ events, \d+ entries, 20 rows/);
    assert.equal(code, 0);
  });

  test('is not when a row is gone, and the witness is named', async () => {
    const lines = readFileSync(kept, 'utf8').split('\n');
    const row = lines.find(line => line.includes('"kind":"row"')) as string;
    writeFileSync(kept, lines.filter(line => line !== row).join('\n'));
    const { code, out } = await verify();
    assert.match(
      out,
      /lost {2}won slot 1, and has neither row nor dead letter\n {4}\{"kind":"entry".*\nNOT as it must be \(1 lost\)/,
    );
    assert.equal(code, 1);
  });

  test('what cannot be read is one sentence', async () => {
    writeFileSync(kept, '\n{"kind":"row"}\n');
    writeFileSync(noCall, '{"op":"frame","at":1,"stream":1,"task":"t","event":"outcome","body":{}}\n');
    writeFileSync(empty, '');
    const ends = await Promise.all([
      verify(),
      dibs('verify', '--history', seen),
      dibs('verify', '--history', 'x', '--dump', kept),
      dibs('verify', '--history', noCall, '--dump', empty),
      dibs('verify', 'noon', '--history', seen, '--dump', kept),
    ]);
    assert.deepEqual(
      ends.map(({ code, err }) => [code, err]),
      [
        [1, `dibs: ${kept}: line 2 of the dump is none: {"kind":"row"}\n`],
        [2, 'dibs: --history and --dump go together: `rush --history` writes one, `dump` the other\n'],
        [1, 'dibs: x cannot be read (ENOENT): name another file\n'],
        [1, `dibs: ${noCall} has no call: nothing could be checked\n`],
        [2, 'dibs: a history is checked as a whole: name no coupon\n'],
      ],
    );
  });

  test('what cannot be written is one sentence', async () => {
    const nowhere = join(ground.folder, 'no-folder', 'x.jsonl');
    const ends = await Promise.all([
      dibs('dump', nowhere),
      dibs('dump', ground.folder),
      dibs('rush', 'noon', '--users', '1', '--history', nowhere),
    ]);
    assert.deepEqual(
      ends.map(({ code, err, out }) => [code, err, out]),
      [
        [1, `dibs: ${nowhere} cannot be written (ENOENT): name another file\n`, ''],
        [1, `dibs: ${ground.folder} cannot be written (EISDIR): name another file\n`, ''],
        [1, `dibs: ${nowhere} cannot be written (ENOENT): name another file\n`, ''],
      ],
    );
  });

  test('a disk that is full is one sentence, after what the crowd saw', { skip: noFull }, async () => {
    const dumped = await dibs('dump', '/dev/full');
    assert.deepEqual([dumped.code, dumped.err], [1, 'dibs: /dev/full cannot be written (ENOSPC): name another file\n']);
    const rushed = await dibs('rush', 'noon', '--users', '3', '--prefix', 'late-', '--json', '--history', '/dev/full');
    assert.equal(rushed.code, 1);
    assert.match(rushed.err, /\ndibs: \/dev\/full cannot be written \(ENOSPC\): name another file\n$/);
    assert.equal(JSON.parse(rushed.out).pressed, 3);
  });
});
