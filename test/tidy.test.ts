/** The house's rules (CONTRIBUTING.md) as assertions. Each failure names the file, the line and what to do. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, normalize } from 'node:path';
import { suite, test } from 'node:test';
import { codeOnly } from './support/code-only.ts';

const root = join(import.meta.dirname, '..');
const linesMax = 450;

/** Folders of src that stand for one technology, and what each may know besides the root and itself. */
const adapters = ['sqlite', 'memory', 'kafka', 'redis', 'postgres'];
const mayImport: Record<string, readonly string[]> = {
  // The embedded profile is made of two adapters; nothing else may be.
  embedded: ['sqlite', 'memory'],
  cli: ['client', 'checker'],
};
/** Composes: it alone imports adapters, and lazily. The logger of the process is its own. */
const composer = 'src/app.ts';
const composerPackages = ['pino'];
/** The client runs in browsers and has no dependencies, not even on the root. */
const standalone = 'client';
/** The environment is read in one place; a terminal's own settings and what starts processes are their own. */
const readsEnvironment = [
  /^src\/config\.ts$/,
  /^src\/cli\//,
  /^scripts\//,
  /^test\//,
  /^bench\//,
  /^examples\//,
  /^attack\//,
];
/** The Host itself, and the lock, which keeps real processes apart: of what the simulator could run it runs all else. */
const ownTime = ['src/host.ts', 'src/sqlite/lock.ts'];
/** Modules of Node with a time, a chance or threads of their own. */
const aroundModules = ['crypto', 'timers', 'perf_hooks', 'process', 'worker_threads', 'child_process', 'cluster', 'os'];
/** What of node:crypto is neither time nor chance. */
const pureCrypto = [
  'hash',
  'createHash',
  'createCipheriv',
  'createDecipheriv',
  'createSecretKey',
  'hkdfSync',
  'timingSafeEqual',
];
/** The identity of a new file, which only its log tells: the simulator has a log of its own. */
const mayTakeChance: Record<string, readonly string[]> = { 'src/sqlite/database.ts': ['randomUUID'] };

const tracked = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '-z'], { cwd: root, encoding: 'utf8' })
  .split('\0')
  .filter(file => file !== '' && statSync(join(root, file), { throwIfNoEntry: false })?.isFile());
const cache = new Map<string, string>();
const textOf = (file: string): string => {
  const text = cache.get(file) ?? readFileSync(join(root, file), 'utf8');
  cache.set(file, text);
  return text;
};
const code = tracked.filter(file =>
  /^(src|test|scripts|bench|examples|simulator|attack|torture)\/.*\.(ts|js)$/.test(file),
);
const source = code.filter(file => file.startsWith('src/'));
const rootFiles = source.filter(file => dirname(file) === 'src');
const folderOf = (file: string): string => (dirname(file) === 'src' ? '' : (file.split('/')[1] ?? ''));

/** Comments and what literals say are blanked out, so that only code is looked at. Lines stay where they are. */
const bare = codeOnly(code.map(textOf));
const bareOf = (file: string): string => bare[code.indexOf(file)] as string;

interface Import {
  file: string;
  to: string;
  lazy: boolean;
  typeOnly: boolean;
}

function importsOf(file: string): Import[] {
  const text = textOf(file);
  const found: Import[] = [];
  for (const [whole, to] of text.matchAll(/^(?:import|export)\b[^;']*?from '([^']+)'|^import '([^']+)'/gm)) {
    if (to) found.push({ file, to, lazy: false, typeOnly: /^(import|export) type\b/.test(whole) });
  }
  for (const [, to] of text.matchAll(/\bawait import\('([^']+)'\)|=> import\('([^']+)'\)/g)) {
    if (to) found.push({ file, to, lazy: true, typeOnly: false });
  }
  return found;
}

const imports = source.flatMap(importsOf);
const isPackage = (to: string): boolean => !to.startsWith('.') && !to.startsWith('node:');
/** `@scope/name/deep` is of the package `@scope/name`. */
const packageOf = (to: string): string =>
  to
    .split('/')
    .slice(0, to.startsWith('@') ? 2 : 1)
    .join('/');
const targetOf = ({ file, to }: Import): string => normalize(join(dirname(file), to));

/** Every place where the pattern stands, as `file:line: text`. */
function places(files: readonly string[], pattern: RegExp, text: (file: string) => string = textOf): string[] {
  return files.flatMap(file =>
    text(file)
      .split('\n')
      .flatMap((line, i) => (pattern.test(line) ? [`${file}:${i + 1}: ${line.trim().slice(0, 100)}`] : [])),
  );
}

const none = (found: readonly string[], rule: string): void => assert.deepEqual(found, [], rule);

suite('direction', () => {
  test('the look finds imports at all', () => {
    assert.ok(imports.length > 100 && imports.some(i => i.lazy) && rootFiles.length > 15);
  });
  test('root files import root files and node: only', () => {
    const bad = imports.filter(
      i =>
        folderOf(i.file) === '' &&
        !(i.file === composer && i.lazy) &&
        (isPackage(i.to) || (i.to.startsWith('.') && folderOf(targetOf(i)) !== '')),
    );
    none(
      bad.map(i => `${i.file} imports ${i.to}`),
      'move it to an adapter, or hand it in as a port',
    );
  });
  test('app.ts alone imports adapters, and lazily; no other package but its own', () => {
    const bad = imports.filter(
      i => i.file === composer && isPackage(i.to) && !composerPackages.includes(packageOf(i.to)),
    );
    none(
      bad.map(i => `${i.file} imports ${i.to}`),
      'packages belong to adapters',
    );
    const eager = imports.filter(
      i => i.file === composer && !i.lazy && i.to.startsWith('.') && folderOf(targetOf(i)) !== '',
    );
    none(
      eager.map(i => `${i.file} imports ${i.to}`),
      'await import() where it is needed, so that embedded loads no driver',
    );
    const lazily = imports.filter(i => i.file === composer && i.lazy).map(i => folderOf(targetOf(i)));
    for (const folder of ['kafka', 'redis', 'postgres', 'embedded', 'http']) assert.ok(lazily.includes(folder), folder);
  });
  test('folders import the root and themselves; adapters never each other', () => {
    const bad = imports.filter(i => {
      const [from, to] = [folderOf(i.file), folderOf(targetOf(i))];
      return from !== '' && i.to.startsWith('.') && to !== '' && to !== from && !mayImport[from]?.includes(to);
    });
    none(
      bad.map(i => `${i.file} imports ${i.to}`),
      'what two folders need belongs to the root',
    );
    for (const folder of adapters) assert.equal(mayImport[folder], undefined);
  });
  test('the client imports nothing but itself', () => {
    const bad = imports.filter(
      i => folderOf(i.file) === standalone && folderOf(targetOf(i)) !== standalone && !i.typeOnly,
    );
    none(
      bad.map(i => `${i.file} imports ${i.to}`),
      'it runs in browsers and has no dependencies',
    );
  });
  test('the checker shares nothing with the service but the codec of an entry', () => {
    const bad = imports.filter(
      i => folderOf(i.file) === 'checker' && i.to.startsWith('.') && folderOf(targetOf(i)) !== 'checker',
    );
    none(
      bad.filter(i => targetOf(i) !== 'src/entry.ts').map(i => `${i.file} imports ${i.to}`),
      'tell the rule once more there',
    );
  });
  test('a vendor package is imported in one folder only', () => {
    const folders = new Map<string, Set<string>>();
    for (const i of imports) {
      if (!isPackage(i.to)) continue;
      const name = packageOf(i.to);
      folders.set(name, (folders.get(name) ?? new Set()).add(folderOf(i.file)));
    }
    const bad = [...folders].filter(([, where]) => where.size > 1);
    none(
      bad.map(([name, where]) => `${name} is imported in ${[...where].join(', ')}`),
      'wrap it once',
    );
    assert.ok(folders.size >= 5);
  });
  test('every dependency is imported, and every import is a dependency', () => {
    const { dependencies } = JSON.parse(textOf('package.json')) as { dependencies: Record<string, string> };
    const used = new Set(imports.filter(i => isPackage(i.to)).map(i => packageOf(i.to)));
    none(
      [...used].filter(name => !dependencies[name]),
      'add it to dependencies',
    );
    none(
      Object.keys(dependencies).filter(name => !used.has(name)),
      'nothing imports it: remove it',
    );
    none(
      Object.entries(dependencies)
        .filter(([, v]) => !/^\d/.test(v))
        .map(([n]) => n),
      'pin it exactly',
    );
  });
});

suite('names and sizes', () => {
  test('no names without content', () => {
    const bad = code.filter(file =>
      /(^|[-.])(utils?|common|helpers?|types|misc|impl|service|manager)([-.]|$)/i.test(basename(file)),
    );
    none(bad, 'name it after what it is');
    none(
      places(
        source,
        /\b(class|interface|type|function)\s+(I[A-Z][a-z]\w*|\w*(Impl|Service|Manager|Utils?|Helpers?))\b/,
        bareOf,
      ),
      'name it after what it is',
    );
  });
  test('no barrel but the public API', () => {
    none(
      source.filter(file => basename(file) === 'index.ts' && !['src/index.ts', 'src/client/index.ts'].includes(file)),
      'import from the file that has it',
    );
    none(places(source, /^export \* from/), 'spell the names out');
  });
  test(`no file has more than ${linesMax} lines`, () => {
    const long = code
      .filter(file => /^(src|test|scripts|simulator|attack|torture)\//.test(file))
      .map(file => [file, textOf(file).split('\n').length - 1] as const)
      .filter(([, n]) => n > linesMax);
    none(
      long.map(([file, n]) => `${file} has ${n}`),
      'split it where the subject changes',
    );
  });
  test('each limit is used, and has no second home', () => {
    const names = [...textOf('src/limits.ts').matchAll(/^export const (\w+)/gm)].map(([, name]) => name as string);
    assert.ok(names.length > 30);
    const others = source.filter(file => file !== 'src/limits.ts').map(bareOf);
    none(
      names.filter(name => !others.some(text => new RegExp(`\\b${name}\\b`).test(text))),
      'use it or remove it',
    );
    none(
      rootFiles
        .filter(f => f !== 'src/limits.ts')
        .flatMap(f => names.filter(n => new RegExp(`\\bconst ${n}\\b`).test(textOf(f))).map(n => `${f} ${n}`)),
      'import it from limits.ts',
    );
  });
});

suite('what is not left lying about', () => {
  // Spelt so that this file does not find itself.
  const todo = new RegExp(`\\b(TO${''}DO|FIX${''}ME|XX${''}X|HA${''}CK)\\b`);
  test('nothing unfinished', () => none(places(code, todo), 'do it, or write it down where work is planned'));
  test('no test is alone, and one that is skipped says why', () => {
    const tests = code.filter(file => file.startsWith('test/'));
    none(places(tests, /\.only\(|\bonly: true/, bareOf), 'run them all');
    // A reason in the name, as in `test.skip('Redis (DIBS_REDIS_URL is not set)')`, or one that was found out.
    const skips = places(tests, /\b(test|suite|describe|it|t)\.(skip|todo)\(/, bareOf);
    const unreasoned = skips.filter(place => {
      const [file, line] = place.split(':');
      const text = textOf(file as string).split('\n')[Number(line) - 1] ?? '';
      return !/\.skip\((why\)|\s*['"`].*\b(is not|cannot|does not|needs)\b)/.test(text);
    });
    none(unreasoned, 'say why in its name');
    none(places(tests, /\bskip: true\b/, bareOf), 'give the reason');
  });
  test('nothing is printed by the core or an adapter', () => {
    const silent = source.filter(file => !file.startsWith('src/cli/'));
    none(places(silent, /\bconsole\./, bareOf), 'say it through Log');
    none(places(source, /\bdebugger\b/, bareOf), 'remove it');
  });
  test('no machine paths and no registry hosts', () => {
    const texts = tracked.filter(file => !/\.(png|jpg|ico|woff2?|gz|jar)$/.test(file) && file !== 'test/tidy.test.ts');
    none(places(texts, /(?<![\w.])\/(work|home|Users)\/[\w-]+/), 'paths are relative to the project');
    // Maven Central is where the script that starts Kafka gets it from, by name and checksum.
    none(
      places(texts, /registry\.npmjs\.org|npm\.pkg\.github|artifactory|:4873\b|"resolved":/),
      'no registry host in the tree',
    );
  });
});

const lineOf = (text: string, index: number): number => text.slice(0, index).split('\n').length;

/** Lines of a text where an error is dropped and nobody says why: in the braces, on the line or on the three before it. */
function silentIn(text: string): number[] {
  const lines = text.split('\n');
  const nothing = String.raw`(?:undefined|null|true|false|0|''|\[\]|\(?\{\s*\}\)?|void 0|new (?:Map|Set)\(\))`;
  const end = String.raw`(?:(?:return(?:\s+${nothing})?|continue|break);)?\s*`;
  const blocks = new RegExp(String.raw`\bcatch\s*(?:\(\w+\))?\s*\{\s*${end}\}`, 'g');
  const calls = new RegExp(
    String.raw`\.catch\(\s*(?:noop|(?:async )?(?:\(\w*\)|\w+)\s*=>\s*(?:${nothing}|\{\s*${end}\}))\s*,?\s*\)`,
    'g',
  );
  // Closing what may be broken already is its own reason.
  const closing = /\.(close|end|quit|disconnect)\([^()]*\)\s*$/;
  const unsaid = [...text.matchAll(calls)].filter(({ 0: found, index }) => {
    const [first, last] = [lineOf(text, index), lineOf(text, index + found.length)];
    const near = lines.slice(Math.max(0, first - 4), last);
    return !closing.test(text.slice(0, index)) && !near.some(line => /\/\/|\*\/|^\s*\*/.test(line));
  });
  return [...text.matchAll(blocks), ...unsaid].map(({ index }) => lineOf(text, index));
}

suite('errors', () => {
  test('no catch is empty or silent', () => {
    const files = code.filter(f => f.startsWith('src/') || f.startsWith('scripts/'));
    none(
      files.flatMap(file => silentIn(textOf(file)).map(line => `${file}:${line}`)),
      'handle it, or say in a comment why nothing is to be done',
    );
  });
  test('the look sees each way to be silent, and a reason', () => {
    const silent = [
      'try { a(); } catch {}',
      'try {\n  a();\n} catch {\n  return;\n}',
      'try { a(); } catch (error) { return undefined; }',
      'for (;;) try { a(); } catch { continue; }',
      'a().catch(() => {});',
      'a().catch(() => undefined);',
      'a().catch(_ => { return; });',
      'a()\n  .catch(() => []);',
      'a().catch(noop);',
    ];
    for (const text of silent) assert.equal(silentIn(text).length, 1, text);
    const said = [
      'try { a(); } catch {\n  // It is a guess.\n  return;\n}',
      '// It is a guess.\na().catch(() => undefined);',
      'try { a(); } catch (error) { throw b(error); }',
      'a().catch(error => say(error));',
      'a.close().catch(() => {});',
    ];
    for (const text of said) assert.deepEqual(silentIn(text), [], text);
  });
});

suite('time, chance and surroundings', () => {
  const core = rootFiles.filter(file => ![composer, 'src/index.ts'].includes(file));
  const simulated = [...core, ...source.filter(file => ['memory', 'sqlite'].includes(folderOf(file)))].filter(
    file => !ownTime.includes(file),
  );
  const words = [
    /\b(Date|Temporal|Intl|performance|hrtime|crypto|globalThis|global|getBuiltinModule|createRequire)\b/,
    // Of a process: its clocks, its use of the processor, its number. Of threads: to wait, and to run beside each other.
    /\b(process|Atomics|Worker|MessageChannel|BroadcastChannel)\b/,
    /\bMath\b(?!\.(?!random\b)\w)/,
    /\b(set|clear)(Timeout|Interval|Immediate)\b|\bnextTick\b|\bAbortSignal\.timeout\b/,
    /\bimport\(/,
  ].map(({ source }) => source);
  const hasWord = new RegExp(words.join('|'));
  const imported = new RegExp(
    String.raw`^(?:import|export)\s+([^;]*?)\s*\bfrom ['"](?:node:)?(${aroundModules.join('|')})\b`,
    'gm',
  );
  /** Whatever is not the Host's: words of the code, and names that are imported. */
  const aroundHost = (file: string, text: string, bareText: string): string[] => [
    ...places([file], hasWord, () => bareText),
    ...[...text.matchAll(imported)]
      .flatMap(([, what = '', of]) => (of === 'crypto' ? namesOf(what) : [what]))
      .filter(name => ![...pureCrypto, ...(mayTakeChance[file] ?? [])].includes(name))
      .map(name => `${file} imports ${name}`),
  ];
  /** As the module calls them; of a default or a star import what is written. */
  const namesOf = (what: string): string[] => {
    const named = /^\{([^}]*)\}$/.exec(what)?.[1]?.split(',') ?? [what];
    return named.map(name => name.trim().split(' as ')[0] as string).filter(name => name !== '');
  };
  test('the core takes time and chance, and waits, through its Host: the simulator owns every moment of it', () => {
    assert.ok(['src/issue.ts', 'src/memory/ledger.ts', 'src/sqlite/store.ts'].every(file => simulated.includes(file)));
    none(
      simulated.flatMap(file => aroundHost(file, textOf(file), bareOf(file))),
      'take it from Host',
    );
  });
  test('the look sees each way around the Host', () => {
    const ways = [
      "import crypto from 'node:crypto';",
      "import * as chance from 'node:crypto';",
      "import hashing, { hash } from 'node:crypto';",
      "import {\n  hash,\n  randomBytes as bytes,\n} from 'node:crypto';",
      "import { setTimeout as wait } from 'node:timers/promises';",
      "const { randomInt } = await import('node:crypto');",
      'const key = crypto.randomUUID();',
      'const { now } = Date;',
      'const at = new Date;',
      'const at = Date.now();',
      'const luck = Math.random();',
      'const { random } = Math;',
      'setTimeout(call, 5);',
      'const at = process.uptime();',
      'const { cpuUsage } = process;',
      'const at = process.hrtime.bigint();',
      'const at = performance.now();',
      'Atomics.wait(cells, 0, 0, 5);',
      'Atomics.waitAsync(cells, 0, 0, 5);',
      'const beside = new Worker(path);',
      "import { Worker as Thread } from 'node:worker_threads';",
      "import { uptime } from 'node:os';",
      // What stands between two apostrophes, and is none of a string's.
      `const said = \`it's \${Date.now()} or isn't\`;`,
      `const said = \`it's \${\`\${process.uptime()}\`} or isn't\`;`,
      "const one = /'/; const at = Date.now(); const two = /'/;",
      "if (a) /'/.test(b(Date.now(), '));",
      "const path = '/*'; const at = Date.now(); const other = '*/';",
      'const path = `//`; const at = Date.now();',
    ];
    const fine = [
      "import { createHash, hash as of } from 'node:crypto';",
      'Math.max(1, dateOf(a)); // Date.now()',
      `const said = \`Date.now() of \${a} and process.uptime()\`;`,
      'const found = /Date/.exec(a) ?? "Math.random()"; /* it\'s Date.now() */',
    ];
    const seen = codeOnly([...ways, ...fine]).map((bareText, i) =>
      aroundHost('src/issue.ts', [...ways, ...fine][i] as string, bareText),
    );
    ways.forEach((text, i) => void assert.notDeepEqual(seen[i], [], text));
    fine.forEach((text, i) => void assert.deepEqual(seen[ways.length + i], [], text));
  });
  test('the fold and the nouns are pure: no waiting, no surroundings', () => {
    const pure = ['coupon', 'entry', 'sale', 'outcome', 'task', 'limits', 'errors'].map(name => `src/${name}.ts`);
    none(places(pure, /\basync\b|\bawait\b|\bprocess\./, bareOf), 'keep it pure');
  });
  test('the environment is read in one place', () => {
    const bad = places(code, /\bprocess\.env\b/, bareOf).filter(place => !readsEnvironment.some(ok => ok.test(place)));
    none(bad, 'read it in config.ts and hand it on');
  });
  test('no import has side effects: nothing runs at the top of a file', () => {
    const entryPoints = ['src/cli/main.ts', 'src/embedded/writer.ts'];
    none(
      places(
        source.filter(file => !entryPoints.includes(file)),
        /^(await |void |process\.|set(Timeout|Interval)\()/,
        bareOf,
      ),
      'do it in a function that somebody calls',
    );
  });
});
