/** Options of a program whose usage is the comment at the head of its file. What is wrong with them ends it with 2. */
import { readFileSync } from 'node:fs';
import { type ParseArgsConfig, parseArgs } from 'node:util';

type Options = NonNullable<ParseArgsConfig['options']>;

interface Rest {
  allowPositionals?: boolean;
  allowNegative?: boolean;
  /** Instead of the comment. */
  usage?: string;
}

const help = { help: { type: 'boolean', short: 'h', default: false } } as const;

/** Ends the process after `--help` has printed that comment (0), and after a sentence about what is wrong (2). */
export function optionsOf<const T extends Options>(file: string, options: T, { usage, ...rest }: Rest = {}) {
  try {
    const parsed = parseArgs({ options: { ...options, ...help }, allowPositionals: false, ...rest });
    if (!(parsed.values as { help?: boolean }).help) return parsed;
  } catch (error) {
    return refuse(`${(error as Error).message.split(/\. (To|If)/)[0]}. --help tells what there is.`);
  }
  console.log(usage ?? usageOf(readFileSync(file, 'utf8')));
  process.exit(0);
}

/** The head comment without its frame. */
const usageOf = (source: string): string =>
  (/^\/\*\*\n([\s\S]*?)\n \*\//.exec(source)?.[1] ?? '').replace(/^ \* ?/gm, '');

export function refuse(sentence: string): never {
  console.error(sentence);
  process.exit(2);
}

/** Digits only: of `100,000`, or of a variable that is not set, nothing would be run and all would seem well. */
export function wholeNumber(flag: string, text: string, min: 0 | 1 = 1): number {
  const n = Number(text);
  if (/^\d{1,12}$/.test(text) && n >= min) return n;
  return refuse(
    `--${flag} "${text}" is no whole number${min === 1 ? ' above 0' : ''}: write digits only, like 100000.`,
  );
}

export function oneOf<T extends string>(flag: string, text: string, of: readonly T[]): T {
  return of.find(each => each === text) ?? refuse(`--${flag} "${text}" is not there: choose from ${of.join(', ')}.`);
}

/** `a,b`; all of them when absent. */
export const someOf = <T extends string>(flag: string, text: string | undefined, of: readonly T[]): readonly T[] =>
  text?.split(',').map(name => oneOf(flag, name, of)) ?? of;
