/** Postgres 15 or newer, durable as in production (fsync on), trusting loopback, TCP only. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { chown, cp, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Client } from 'pg';
import { CACHE, find, install, type Log, run, type ServerOptions, withLock } from './program.ts';
import type { ServerSpec, SystemUser } from './server.ts';

const MAJOR_MIN = 15;
const CONNECTIONS_MAX = 200;
const ANSWER_MS_MAX = 2_000;

export const databaseUrl = (port: number): string => `postgres://postgres@127.0.0.1:${port}/postgres`;

export async function postgresSpec({ dir, port, args, log }: ServerOptions): Promise<ServerSpec> {
  if (!findPostgres()) await install(['postgresql'], ['postgresql'], log);
  const bin = dirname(findPostgres() as string);
  const version = await assertVersion(join(bin, 'postgres'));
  const user = await userToBe();
  const dataDir = dataDirIn(dir, user);
  const settings = {
    port: String(port),
    listen_addresses: '127.0.0.1',
    // None: the path of a socket may have 107 bytes, and a clone may lie deeper.
    unix_socket_directories: '',
    max_connections: String(CONNECTIONS_MAX),
    fsync: 'on',
    logging_collector: 'off',
  };
  return {
    name: 'postgres',
    port,
    portsMore: [],
    dir,
    dataDir,
    command: [
      join(bin, 'postgres'),
      '-D',
      dataDir,
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ...args,
    ],
    mark: dataDir,
    // Fast: ends open sessions, writes a checkpoint.
    stopSignal: 'SIGINT',
    user,
    layData: () => layData(dataDir, bin, version, user, log),
    answers: () => postgresAnswers(databaseUrl(port)),
  };
}

/** Debian keeps the server's programs off PATH; the newest of them is taken. */
function findPostgres(): string | undefined {
  const debian = '/usr/lib/postgresql';
  const majors = existsSync(debian) ? readdirSync(debian).map(Number).filter(Number.isInteger) : [];
  const folders = majors.sort((a, b) => b - a).map(major => join(debian, String(major), 'bin'));
  const found = find('initdb', folders);
  return found && existsSync(join(dirname(found), 'postgres')) ? found : undefined;
}

async function assertVersion(program: string): Promise<string> {
  const version = (await run(program, ['--version'])).trim().split(' ')[2] ?? '';
  if (Number.parseInt(version, 10) >= MAJOR_MIN) return version;
  throw new Error(
    `${program} is version ${version}: install Postgres ${MAJOR_MIN} or newer, or set DIBS_DATABASE_URL.`,
  );
}

/** Postgres refuses to run as root, so root runs it as Debian's user for it. */
async function userToBe(): Promise<SystemUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const idOf = async (flag: string): Promise<number> => Number(await run('id', [flag, 'postgres']));
  return { uid: await idOf('-u'), gid: await idOf('-g') };
}

/** In the set's folder, unless that is closed to the user who runs Postgres (a clone below /root, for example). */
function dataDirIn(dir: string, user: SystemUser | undefined): string {
  if (!user || isOpen(dir)) return join(dir, 'postgres');
  const hash = createHash('sha256').update(dir).digest('hex').slice(0, 16);
  return join(tmpdir(), `dibs-postgres-${hash}`);
}

/** Whether everybody may pass through the folder and all those above it. */
function isOpen(folder: string): boolean {
  const passable = (statSync(folder).mode & 0o001) !== 0;
  return passable && (dirname(folder) === folder || isOpen(dirname(folder)));
}

/** A copy of a template takes 0.1 s, `initdb` more than a second. */
async function layData(
  dataDir: string,
  bin: string,
  version: string,
  user: SystemUser | undefined,
  log: Log,
): Promise<void> {
  const template = join(CACHE, `postgres-${version}`);
  if (!existsSync(template)) {
    await withLock('postgres', async () => {
      if (!existsSync(template)) await makeTemplate(template, bin, user, log);
    });
  }
  await run('cp', ['-R', `${template}/.`, dataDir]);
  if (user) await run('chown', ['-R', `${user.uid}:${user.gid}`, dataDir]);
}

async function makeTemplate(template: string, bin: string, user: SystemUser | undefined, log: Log): Promise<void> {
  log('making an empty Postgres database');
  const work = await mkdtemp(join(tmpdir(), 'dibs-initdb-'));
  const partial = `${template}.partial`;
  try {
    if (user) await chown(work, user.uid, user.gid);
    const made = join(work, 'data');
    const args = ['-D', made, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'];
    await run(join(bin, 'initdb'), args, { cwd: '/', ...user });
    await rm(partial, { recursive: true, force: true });
    await mkdir(CACHE, { recursive: true });
    await cp(made, partial, { recursive: true });
    await rename(partial, template);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

export async function postgresAnswers(url: string): Promise<void> {
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: ANSWER_MS_MAX,
    query_timeout: ANSWER_MS_MAX,
  });
  // An error after connect() has settled has no one to tell.
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query('SELECT 1');
  } finally {
    await client.end().catch(() => {});
  }
}
