/** The house's rules (CONTRIBUTING.md) as assertions. Each failure names the file, the line and what to do. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, normalize } from 'node:path';
import { suite, test } from 'node:test';

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
/** The Host itself. */
const host = 'src/host.ts';

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

/** Comments and the insides of quotes are blanked out, so that only code is looked at. Lines stay where they are. */
function codeOnly(text: string): string {
  const blank = (found: string): string => found.replace(/[^\n]/g, ' ');
  return text.replace(/\/\*[\s\S]*?\*\/|(?<![:\\])\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"/g, found =>
    found.startsWith('/') ? blank(found) : `${found[0]}${blank(found.slice(1, -1))}${found[0]}`,
  );
}

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
        f => codeOnly(textOf(f)),
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
    const others = source.filter(file => file !== 'src/limits.ts').map(file => codeOnly(textOf(file)));
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
    none(
      places(tests, /\.only\(|\bonly: true/, f => codeOnly(textOf(f))),
      'run them all',
    );
    // A reason in the name, as in `test.skip('Redis (DIBS_REDIS_URL is not set)')`.
    const skips = places(tests, /\b(test|suite|describe|it|t)\.(skip|todo)\(/, f => codeOnly(textOf(f)));
    const unreasoned = skips.filter(place => {
      const [file, line] = place.split(':');
      const text = textOf(file as string).split('\n')[Number(line) - 1] ?? '';
      return !/\.skip\(\s*['"`].*\b(is not|cannot|does not|needs)\b/.test(text);
    });
    none(unreasoned, 'say why in its name');
    none(
      places(tests, /\bskip: true\b/, f => codeOnly(textOf(f))),
      'give the reason',
    );
  });
  test('nothing is printed by the core or an adapter', () => {
    const silent = source.filter(file => !file.startsWith('src/cli/'));
    none(
      places(silent, /\bconsole\./, f => codeOnly(textOf(f))),
      'say it through Log',
    );
    none(
      places(source, /\bdebugger\b/, f => codeOnly(textOf(f))),
      'remove it',
    );
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

suite('errors', () => {
  test('no catch is empty or silent', () => {
    const found: string[] = [];
    for (const file of code.filter(f => f.startsWith('src/') || f.startsWith('scripts/'))) {
      const text = textOf(file);
      for (const match of text.matchAll(/catch\s*(?:\(\w*\))?\s*\{\s*\}/g))
        found.push(`${file}:${lineOf(text, match.index)}`);
      // A rejection that is dropped needs its reason on the line, on one of the three before it, or above its function.
      const lines = text.split('\n');
      // Closing what may be broken already is its own reason.
      const closing = /\.(close|end|quit|disconnect)\([^()]*\)\s*$/;
      for (const match of text.matchAll(/\.catch\(\s*(?:\(\)|\w+)\s*=>\s*\{\s*\}\s*\)/g)) {
        if (closing.test(text.slice(0, match.index))) continue;
        const at = lineOf(text, match.index) - 1;
        const near = lines.slice(Math.max(0, at - 8), at + 1);
        if (!near.some(line => /\/\/|\*\/|^\s*\*|\/\*\*/.test(line))) found.push(`${file}:${at + 1}`);
      }
    }
    none(found, 'handle it, or say in a comment why nothing is to be done');
  });
});

const lineOf = (text: string, index: number): number => text.slice(0, index).split('\n').length;

suite('time, chance and surroundings', () => {
  const core = rootFiles.filter(file => ![composer, 'src/index.ts'].includes(file));
  const plain = (file: string) => codeOnly(textOf(file));
  test('the core takes time and chance from its Host', () => {
    none(
      places(
        core.filter(file => file !== host),
        /\bDate\.now\b|\bnew Date\(\)|\bDate\(\)|\bMath\.random\b|\bperformance\.|\bhrtime\b|\brandomUUID\b|\bgetRandomValues\b/,
        plain,
      ),
      'take it from Host',
    );
    const chance = /import[^;]*?\b(random\w*|webcrypto)\b[^;]*?from 'node:crypto'/;
    none(
      core.filter(file => file !== host && chance.test(textOf(file))),
      'take it from Host',
    );
  });
  test('the core waits through its Host: the simulator owns every moment of it', () => {
    none(
      places(
        core.filter(file => file !== host),
        /\b(set|clear)(Timeout|Interval|Immediate)\b|\bnextTick\b|\bAbortSignal\.timeout\b/,
        plain,
      ),
      'wait through Host',
    );
    const imported = imports.filter(i => core.includes(i.file) && i.file !== host && i.to.startsWith('node:timers'));
    none(
      imported.map(i => `${i.file} imports ${i.to}`),
      'wait through Host',
    );
  });
  test('the fold and the nouns are pure: no waiting, no surroundings', () => {
    const pure = ['coupon', 'entry', 'sale', 'outcome', 'task', 'limits', 'errors'].map(name => `src/${name}.ts`);
    none(places(pure, /\basync\b|\bawait\b|\bprocess\./, plain), 'keep it pure');
  });
  test('the environment is read in one place', () => {
    const bad = places(code, /\bprocess\.env\b/, plain).filter(place => !readsEnvironment.some(ok => ok.test(place)));
    none(bad, 'read it in config.ts and hand it on');
  });
  test('no import has side effects: nothing runs at the top of a file', () => {
    const entryPoints = ['src/cli/main.ts', 'src/embedded/writer.ts'];
    none(
      places(
        source.filter(file => !entryPoints.includes(file)),
        /^(await |void |process\.|set(Timeout|Interval)\()/,
        plain,
      ),
      'do it in a function that somebody calls',
    );
  });
});
