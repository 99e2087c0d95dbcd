/** Options of a program whose usage is the comment at the head of its file. */
import { readFileSync } from 'node:fs';
import { type ParseArgsConfig, parseArgs } from 'node:util';

type Options = NonNullable<ParseArgsConfig['options']>;

const help = { help: { type: 'boolean', short: 'h', default: false } } as const;

/** Ends the process after `--help` has printed that comment (0), and after a sentence about what is wrong (2). */
export function optionsOf<const T extends Options>(file: string, options: T, { allowPositionals = false } = {}) {
  try {
    const parsed = parseArgs({ options: { ...options, ...help }, allowPositionals });
    if (!(parsed.values as { help?: boolean }).help) return parsed;
  } catch (error) {
    console.error(`${(error as Error).message.split(/\. (To|If)/)[0]}. --help tells what there is.`);
    process.exit(2);
  }
  console.log(usageOf(readFileSync(file, 'utf8')));
  process.exit(0);
}

/** The head comment without its frame. */
const usageOf = (source: string): string =>
  (/^\/\*\*\n([\s\S]*?)\n \*\//.exec(source)?.[1] ?? '').replace(/^ \* ?/gm, '');
