/**
 * Picks the command. What a command needs is loaded when it is picked: `dibs coupon list` loads no server.
 */
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { isCouponId, isIdempotencyKey } from '../coupon.ts';
import { baseUrlOf, CommandError, exitCodes, sentenceOf } from './connect.ts';
import type { Flags } from './serve.ts';

const description = 'Real-time first-come-first-served coupons.';

const afterHelp = `
Exit codes: 0 all is as asked; 1 it is not (not issued, not verified, refused, nothing answers); 2 wrong usage or
setting; 130 stopped by Ctrl-C. With NO_COLOR, or where there is no terminal, nothing is coloured.`;

/** What is loaded from here on is compiled once; where this folder cannot be written, each time. */
const compiledIn = join(import.meta.dirname, '../../.cache/compiled');

export async function run(argv: readonly string[]): Promise<void> {
  enableCompileCache(compiledIn);
  mindStreams(argv[0] === 'serve');
  try {
    await (await program(argv)).parseAsync(argv, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    else fail(error, '');
  }
}

/** A reader that leaves (| head) is no error, and a server goes on when nobody reads. */
function mindStreams(isServer: boolean): void {
  process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
    if (isServer) return;
    if (code !== 'EPIPE') fail(new CommandError(`stdout cannot be written (${code}): send it elsewhere`), '');
    process.exit();
  });
  // There is no other place to say it, and what is under way has its result on stdout.
  process.stderr.on('error', () => {});
}

function fail(error: unknown, url: string): void {
  const isRefused = error instanceof Error && error.name === 'Refused';
  const sentence = isRefused ? error.message : sentenceOf(error, url);
  if (sentence === undefined) throw error;
  process.stderr.write(`dibs: ${sentence}\n`);
  process.exitCode = error instanceof CommandError ? error.code : isRefused ? exitCodes.usage : exitCodes.failed;
}

async function program(argv: readonly string[]): Promise<Command> {
  const dibs = new Command('dibs')
    .description(description)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(unrepeated(text)) })
    .showHelpAfterError('(`--help` shows what there is)')
    .addHelpText('after', afterHelp);
  const [first = '', second = ''] = argv;
  await addServe(dibs, first === 'help' ? second : first);
  addCoupon(dibs);
  addCrowd(dibs);
  addCompare(dibs);
  addOperator(dibs);
  return dibs;
}

/** Commander's sentence without the values in it of what it did not understand: one may be a token. */
const unrepeated = (text: string): string =>
  text
    .replace(/^error: /, 'dibs: ')
    .replace(/^(dibs: unknown option '--?[\w-]+)=.*'$/m, "$1'")
    .replace(/^(dibs: too many arguments .* but got \d+): .*$/m, '$1.');

// --- options ----------------------------------------------------------------------------------------------------

function server(command: Command): Command {
  return command
    .addOption(
      new Option('--url <url>', 'where the server is')
        .env('DIBS_URL')
        .default('http://127.0.0.1:8080')
        .argParser(parseUrl),
    )
    .addOption(new Option('--token <token>', 'bearer token, where the server asks for one').env('DIBS_TOKEN'))
    .option('--json', 'print JSON');
}

function parseUrl(text: string): string {
  const url = baseUrlOf(text);
  if (url !== undefined) return url;
  // Commander's sentence would repeat what may hold a password.
  throw new CommandError(
    '--url (DIBS_URL) is no address: write it like http://127.0.0.1:8080, without user, password and query',
    exitCodes.usage,
  );
}

/** The server knows the form too, but `..` would ask it for another address. */
function parseCouponId(text: string): string {
  if (isCouponId(text)) return text;
  throw new InvalidArgumentError('A coupon id is 1 to 64 of a-z 0-9 -.');
}

/** One that is empty, like a variable that is not set, would make each call another request. */
function parseKey(text: string): string {
  if (isIdempotencyKey(text)) return text;
  throw new InvalidArgumentError('A key is 1 to 64 visible ASCII characters.');
}

/** Digits, or groups of three: 1000, 1,000 or 1_000. */
function within(min: number, max: number): (text: string) => number {
  return text => {
    const n = /^(\d+|\d{1,3}([_,]\d{3})+)$/.test(text) ? Number(text.replace(/[_,]/g, '')) : Number.NaN;
    if (n >= min && n <= max) return n;
    const range = `${min.toLocaleString('en-US')} to ${max.toLocaleString('en-US')}`;
    throw new InvalidArgumentError(`Give a whole number from ${range}.`);
  };
}

type Options = { url: string };

/** Runs an action; what it throws becomes one sentence. */
function action<A extends unknown[]>(command: Command, act: (options: never, ...args: A) => Promise<void>): Command {
  return command.action(async (...given: unknown[]) => {
    const self = given.at(-1) as Command;
    const options = self.opts<Options>();
    try {
      await act(options as never, ...(self.processedArgs as A));
    } catch (error) {
      fail(error, options.url);
    }
  });
}

// --- commands ---------------------------------------------------------------------------------------------------

/** The settings are read only when one of these is asked for. */
async function addServe(dibs: Command, picked: string): Promise<void> {
  const serve = dibs.command('serve').description('run a server until Ctrl-C');
  serve.option('--sample', 'on an empty store, open a coupon "welcome" with 1,000 units');
  const config = dibs.command('config').description('print the settings in force, secrets hidden');
  config.option('--json', 'print JSON');
  const dump = dibs
    .command('dump')
    .description('write log, rows and dead letters of these settings to a file, for verify --history')
    .argument('<file>', 'where to, one JSON object a line');
  const isPicked = ['serve', 'config', 'dump'].includes(picked);
  const names = isPicked ? await addSettings([serve, config, dump]) : new Map();
  const flagsOf = (options: Record<string, string>): Flags =>
    Object.fromEntries(Object.entries(options).flatMap(([k, v]) => (names.has(k) ? [[names.get(k), v]] : [])));
  action(serve, async (options: { sample?: boolean }) =>
    (await import('./serve.ts')).serve(flagsOf(options as never), { sample: options.sample === true }),
  );
  action(config, async (options: { json?: boolean }) =>
    (await import('./serve.ts')).config(flagsOf(options as never), options),
  );
  action(dump, async (options: object, path: string) =>
    (await import('./dump.ts')).dump(path, flagsOf(options as never)),
  );
}

/** One option a setting; answers commander's name for each -> the setting's name. Defaults are left to the config. */
async function addSettings(commands: readonly Command[]): Promise<Map<string, string>> {
  const { settings } = await import('../config.ts');
  const names = new Map<string, string>();
  for (const [name, { default: value, env, flag, help }] of Object.entries(settings)) {
    const shown = value === '' ? env : `${env}, default ${value}`;
    const takesNone = value === 'true' || value === 'false';
    const option = new Option(`--${flag} ${takesNone ? '[true|false]' : '<value>'}`, `${help} (${shown})`);
    if (takesNone) option.preset('true');
    names.set(option.attributeName(), name);
    for (const command of commands) command.addOption(option);
  }
  return names;
}

function addCoupon(dibs: Command): void {
  const coupon = dibs.command('coupon').description('create and look after coupons');
  const load = () => import('./coupon.ts');
  const create = server(coupon.command('create'))
    .description('make a coupon, ready to be claimed when this returns')
    .argument('[coupon]', 'its id: a-z 0-9 - (made up when absent)', parseCouponId)
    .requiredOption('--stock <n>', 'units', within(0, 10_000_000))
    .option('--name <text>', 'what people read (the id when absent)')
    .option('--opens-at <time>', 'ISO 8601 (local without a zone), or +10m for in ten minutes')
    .option('--closes-at <time>', 'the same')
    .option('--valid-until <time>', 'the same')
    .option('--discount <value>', '15% or 3000');
  type Create = import('./coupon.ts').CreateOptions;
  type CreateText = Omit<Create, 'discount'> & { discount?: string };
  action(create, async ({ closesAt, discount, opensAt, validUntil, ...rest }: CreateText, couponId?: string) => {
    const { create, parseDiscount, parseTime } = await load();
    const options: Create = rest;
    if (discount !== undefined) options.discount = parseDiscount(discount);
    if (opensAt !== undefined) options.opensAt = parseTime(opensAt);
    if (closesAt !== undefined) options.closesAt = parseTime(closesAt);
    if (validUntil !== undefined) options.validUntil = parseTime(validUntil);
    await create(couponId, options);
  });
  action(server(coupon.command('list')).description('all coupons, at most the newest 1,000'), async (options: never) =>
    (await load()).list(options),
  );
  const show = server(coupon.command('show')).description('one coupon').argument('<coupon>', 'its id', parseCouponId);
  action(show, async (options: never, couponId: string) => (await load()).show(couponId, options));
  const addStock = server(coupon.command('add-stock'))
    .description('raise the stock; re-opens a sold-out coupon')
    .argument('<coupon>', 'its id', parseCouponId)
    .argument('<n>', 'units to add', within(1, 10_000_000))
    .option('--key <key>', 'Idempotency-Key: the same key again adds nothing', parseKey);
  action(addStock, async (options: never, couponId: string, add: number) =>
    (await load()).addStock(couponId, add, options),
  );
  const close = server(coupon.command('close'))
    .description('end the sale')
    .argument('<coupon>', 'its id', parseCouponId);
  action(close, async (options: never, couponId: string) => (await load()).close(couponId, options));
}

function addCrowd(dibs: Command): void {
  const claim = server(dibs.command('claim'))
    .description('press the button for one user and wait for the push; exit code 0 when issued')
    .argument('<coupon>', 'its id', parseCouponId)
    .option('--user <id>', 'who presses')
    .option('--key <key>', 'Idempotency-Key: the same key is the same request', parseKey)
    .option('--wait <seconds>', 'for the outcome', within(1, 86_400), 60);
  action(claim, async (options: never, couponId: string) => (await import('./claim.ts')).claim(couponId, options));

  const rush = server(dibs.command('rush'))
    .description('a crowd of simulated users; exit code 1 when anything is not as it must be')
    .argument('<coupon>', 'its id', parseCouponId)
    .option('--users <n>', 'who each press once', within(1, 1_000_000), 10_000)
    .option('--rate <n>', 'presses a second (as fast as it goes when absent)', within(1, 100_000))
    .option('--connections <n>', 'requests under way at once', within(1, 8_000), 256)
    .option('--streams <n>', 'open streams at once; others wait their turn', within(1, 10_000), 4_000)
    .option('--timeout <seconds>', 'give up once nothing was answered for so long', within(1, 3_600), 60)
    .option('--prefix <text>', 'of the user ids (new for each run when absent)')
    .option('--history <file>', 'write every call and every event of a stream to it, for verify --history')
    .addOption(new Option('--jwt-secret <text>', 'sign a token for each user').env('DIBS_JWT_SECRET'));
  type Rush = import('./rush.ts').RushOptions;
  action(rush, async (options: Rush, couponId: string) => {
    const { parsePrefix, rush } = await import('./rush.ts');
    if (options.prefix !== undefined) parsePrefix(options.prefix);
    await rush(couponId, options);
  });
}

function addCompare(dibs: Command): void {
  const all = (text: string, before: string[] = []) => [...before, text];
  const compare = dibs
    .command('compare')
    .description('the same crowds against two or more running servers, one after the other, side by side')
    .requiredOption('--target <name=url>', 'a server; once for each', all)
    .option(
      '--crowd <users:units@rate>',
      'a crowd and its arrivals a second; once for each (5000:1000@2000, 2000:2000@1000)',
      all,
    )
    .option('--rounds <n>', 'how often; the order turns each time', within(1, 20), 2)
    .option('--seed <n>', 'of the moments at which users press', within(0, 1_000_000), 1)
    .addOption(new Option('--token <token>', 'bearer token of an admin').env('DIBS_TOKEN'))
    .option('--html <file>', 'write the tables with pictures into this file')
    .option('--json', 'print JSON');
  type CompareText = Omit<import('./compare.ts').CompareOptions, 'crowd'> & { crowd?: string[] };
  action(compare, async ({ crowd, ...rest }: CompareText) => {
    const { compare, crowdOf } = await import('./compare.ts');
    await compare({ ...rest, ...(crowd ? { crowd: crowd.map(crowdOf) } : {}) });
  });
}

function addOperator(dibs: Command): void {
  const verify = server(dibs.command('verify'))
    .description('fold the log again and hold the winners against the rows; exit code 1 when they differ')
    .argument('[coupon]', 'its id (all when absent)', parseCouponId)
    .option('--history <file>', 'ask no server: hold what the clients saw (rush --history) against a dump')
    .option('--dump <file>', 'what `dibs dump` wrote');
  type Verify = import('./connect.ts').ServerOptions & { history?: string; dump?: string };
  action(verify, async ({ history, dump, ...options }: Verify, couponId?: string) =>
    history === undefined && dump === undefined
      ? (await import('./verify.ts')).verify(couponId, options)
      : (await import('./check.ts')).checkFiles(couponId, history, dump, options),
  );
  action(server(dibs.command('lag')).description('how far each stage is behind'), async (options: never) =>
    (await import('./lag.ts')).lag(options),
  );
  const letters = dibs.command('dead-letters').description('what was set aside, and putting it back');
  const list = server(letters.command('list'))
    .description('what, why, from where')
    .option('--coupon <id>', 'of this coupon only', parseCouponId);
  action(list, async (options: never) => (await import('./dead-letters.ts')).list(options));
  const redrive = server(letters.command('redrive'))
    .description('put back what the store refused')
    .option('--coupon <id>', 'of this coupon only', parseCouponId);
  action(redrive, async (options: never) => (await import('./dead-letters.ts')).redrive(options));
}

if (import.meta.main) await run(process.argv.slice(2));
