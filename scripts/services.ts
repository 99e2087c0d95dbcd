/**
 * Real Redis, Postgres and Kafka on loopback: for tests, for benches and for trying the cluster profile.
 * An address in DIBS_REDIS_URL, DIBS_DATABASE_URL or DIBS_KAFKA_BROKERS stands for a server that is there already.
 */
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { runToEnd } from './services/command.ts';
import { FoundServer, type ServerName } from './services/server.ts';
import { type Ports, readState, release, running, SETS } from './services/set.ts';
import { environmentOf, NAMES, type ServicesOptions, startServices } from './services/start.ts';

export type { ServerName, ServiceHandle, StartOptions } from './services/server.ts';
export { environmentOf, type Services, type ServicesOptions, startServices } from './services/start.ts';

const USAGE = `Usage: node scripts/services.ts COMMAND [options]
  start            start the servers, print their addresses as shell exports, leave them running; data is kept
  stop             stop them
  status           tell which run
  run -- CMD ARGS  start servers of its own on free ports, run CMD with their addresses in DIBS_*, stop them
Options:
  --dir DIR                   the set's folder (.services/dev; run: a passing one)
  --only redis,postgres       only these
  --redis-port N  --postgres-port N  --kafka-port N  --kafka-controller-port N
  --brokers 3                 Kafka as a cluster of three (1)
  --fresh                     start with empty data`;

const PORTS: Ports = { redis: 16379, postgres: 15432, kafka: 21092, kafkaController: 21093, kafkaMore: [] };
const DIR = join(SETS, 'dev');

const log = (line: string): void => console.error(line);

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      dir: { type: 'string' },
      only: { type: 'string' },
      'redis-port': { type: 'string' },
      'postgres-port': { type: 'string' },
      'kafka-port': { type: 'string' },
      'kafka-controller-port': { type: 'string' },
      brokers: { type: 'string', default: '1' },
      fresh: { type: 'boolean', default: false },
    },
  });
  const [command, ...rest] = positionals;
  const dir = values.dir === undefined ? undefined : resolve(values.dir);
  const options: ServicesOptions = { log, brokers: brokersOf(values.brokers) };
  if (values.only) options.only = values.only.split(',').map(nameOf);
  const ports = {
    redis: portOf(values['redis-port']),
    postgres: portOf(values['postgres-port']),
    kafka: portOf(values['kafka-port']),
    kafkaController: portOf(values['kafka-controller-port']),
  };
  const chosen: Partial<Ports> = Object.fromEntries(Object.entries(ports).filter(([, port]) => port !== undefined));
  switch (command) {
    case 'start':
      return start(dir ?? DIR, { ...options, ports: chosen, keep: !values.fresh });
    case 'stop':
      return stop(dir ?? DIR);
    case 'status':
      return status(dir ?? DIR);
    case 'run':
      return run(rest, { ...options, ports: chosen, ...(dir && { dir, keep: !values.fresh }) });
    default:
      console.error(USAGE);
      return 2;
  }
}

function nameOf(text: string): ServerName {
  const name = NAMES.find(each => each === text);
  if (name) return name;
  throw new Error(`"${text}" is no server: choose from ${NAMES.join(', ')}.`);
}

function brokersOf(text: string): number {
  if (text === '1' || text === '3') return Number(text);
  throw new Error(`--brokers "${text}" cannot be: choose 1 or 3.`);
}

function portOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const port = Number(text);
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port;
  throw new Error(`Port "${text}" is not one: give a whole number from 1 to 65535, better below 32768.`);
}

async function start(dir: string, options: ServicesOptions): Promise<number> {
  const state = await readState(dir);
  const alive = state ? running(state) : [];
  if (state && alive.length === state.servers.length && alive.length > 0) {
    log(`already running in ${dir}`);
    printExports(state.addresses);
    return 0;
  }
  await Promise.all(alive.map(server => server.stop()));
  const services = await startServices({ ...options, dir, detached: true, ports: { ...PORTS, ...options.ports } });
  printExports(environmentOf(services));
  return 0;
}

function printExports(addresses: Record<string, string>): void {
  for (const [name, address] of Object.entries(addresses)) console.log(`export ${name}='${address}'`);
}

async function stop(dir: string): Promise<number> {
  const state = await readState(dir);
  const alive = state ? running(state) : [];
  await Promise.all(alive.map(server => server.stop()));
  if (state) await release(dir);
  log(alive.length === 0 ? `nothing runs in ${dir}` : `stopped ${alive.map(server => server.name).join(', ')}`);
  return 0;
}

/** Exits with 0 when all that was started runs, with 3 when something does not. */
async function status(dir: string): Promise<number> {
  const servers = (await readState(dir))?.servers.map(server => new FoundServer(server)) ?? [];
  for (const { name, port, pid } of servers) {
    console.log(`${name.padEnd(9)} ${pid === 0 ? 'down' : `pid ${pid}, 127.0.0.1:${port}`}`);
  }
  if (servers.length === 0) console.log(`nothing runs in ${dir}`);
  return servers.length > 0 && servers.every(server => server.pid !== 0) ? 0 : 3;
}

async function run([file, ...args]: string[], options: ServicesOptions): Promise<number> {
  if (file === undefined) throw new Error('Nothing to run: give a command after "run --".');
  const services = await startServices(options);
  try {
    return await runToEnd(file, args, { env: environmentOf(services) });
  } finally {
    await services.stop();
  }
}

if (import.meta.main) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
