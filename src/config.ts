/**
 * Settings: by flag, then environment (`DIBS_*`), then default. Read once, here. A bad value is refused in one
 * sentence: the value, what is wrong, the remedy.
 */
import { Refused } from './errors.ts';
import { applyBatchMax, secretLengthMin } from './limits.ts';

export const profiles = ['embedded', 'scheduler', 'cluster'] as const;
export type Profile = (typeof profiles)[number];
export const roles = ['api', 'reserve', 'persist', 'stats'] as const;
export type Role = (typeof roles)[number];

export type Auth =
  | { kind: 'none' }
  | {
      kind: 'jwt';
      secret: string | undefined;
      jwksUrl: string | undefined;
      issuer: string | undefined;
      audience: string | undefined;
    };

export interface Config {
  profile: Profile;
  roles: readonly Role[];
  host: string;
  port: number;
  /** Folder of the embedded file. */
  data: string;
  /** Undefined: made once and kept with the data (embedded only). */
  secret: string | undefined;
  auth: Auth;
  /** Auth none is meant on an address that others can reach. */
  insecure: boolean;
  kafkaBrokers: string[];
  redisUrl: string;
  databaseUrl: string;
  /** Put before the names of topics, keys and the schema, so that two dibs can share servers. Empty for none. */
  namespace: string;
  partitions: number;
  /** Of the scheduler profile: requests that each scheduler takes at once, and how often, ms. */
  tickBatch: number;
  tickMs: number;
  replication: number;
  minInsync: number;
  groupSessionMs: number;
  /** Requests a second of one user, of one address; 0 for no limit. */
  ratePerUser: number;
  ratePerAddress: number;
  /** What one address may send in a second that cannot be read, before its connections are refused; 0 for no limit. */
  faultsPerAddress: number;
  logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent';
}

type Text = Record<string, string | undefined>;

interface Setting {
  /** Name of the flag (`--kafka-brokers`) and, in capitals after DIBS_, of the variable. */
  flag: string;
  env: string;
  default: string;
  help: string;
  secret?: 'all' | 'url';
}

const setting = (flag: string, fallback: string, help: string, secret?: Setting['secret']): Setting => ({
  flag,
  env: `DIBS_${flag.toUpperCase().replaceAll('-', '_')}`,
  default: fallback,
  help,
  ...(secret ? { secret } : {}),
});

/** All settings, in the order in which `dibs config` shows them. */
export const settings = {
  profile: setting(
    'profile',
    'embedded',
    'embedded (one process, one file), cluster (Kafka, Redis, Postgres) or scheduler (Redis, Postgres)',
  ),
  roles: setting('roles', 'all', 'parts this process runs: any of api,reserve,persist,stats'),
  host: setting('host', '127.0.0.1', 'address to listen on'),
  port: setting('port', '8080', 'port to listen on, 0 for a free one'),
  data: setting('data', './data', 'folder of the embedded file'),
  secret: setting(
    'secret',
    '',
    `seals task ids, at least ${secretLengthMin} characters; embedded makes one when absent`,
    'all',
  ),
  auth: setting('auth', '', 'none (X-User-Id is believed) or jwt; when absent none in embedded, else jwt'),
  jwtSecret: setting('jwt-secret', '', 'HS256 secret of the tokens', 'all'),
  jwksUrl: setting('jwks-url', '', 'where the public keys of the tokens are', 'url'),
  jwtIssuer: setting('jwt-issuer', '', 'required issuer of the tokens'),
  jwtAudience: setting('jwt-audience', '', 'required audience of the tokens'),
  insecure: setting('insecure', 'false', 'allow auth none on an address that others can reach'),
  kafkaBrokers: setting('kafka-brokers', '127.0.0.1:9092', 'host:port, with commas between'),
  redisUrl: setting('redis-url', 'redis://127.0.0.1:6379', 'ledger and board; in scheduler the queues too', 'url'),
  databaseUrl: setting('database-url', 'postgres://postgres@127.0.0.1:5432/postgres', 'rows', 'url'),
  namespace: setting('namespace', '', 'put before the names of topics, keys and schema, to share servers'),
  partitions: setting('partitions', '4', 'partitions of the logs when they are created (cluster)'),
  tickBatch: setting('tick-batch', '100', 'requests that a scheduler takes at once (scheduler)'),
  tickMs: setting('tick-ms', '1000', 'how often each scheduler takes them, ms (scheduler)'),
  replication: setting('replication', '1', 'replicas of each partition when topics are created'),
  minInsync: setting('min-insync', '1', 'replicas that must have an entry before it is acknowledged'),
  groupSessionMs: setting('group-session-ms', '6000', 'a silent process loses its partitions after this long, ms'),
  ratePerUser: setting('rate-per-user', '0', 'requests a second of one user, 0 for no limit'),
  ratePerAddress: setting('rate-per-address', '0', 'requests a second of one address, 0 for no limit'),
  faultsPerAddress: setting(
    'faults-per-address',
    '0',
    'requests a second that are no HTTP, of one address; no connection beyond, 0 for no limit',
  ),
  logLevel: setting('log-level', 'info', 'debug, info, warn, error or silent'),
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof settings;

/** `flags` by the names of `settings`. @throws Refused */
export function loadConfig({ flags = {}, env = {} }: { flags?: Text; env?: Text }): Config {
  const given = (name: SettingName): string | undefined => flags[name] ?? env[settings[name].env];
  const text = (name: SettingName): string => given(name) ?? settings[name].default;
  const profile = oneOf('profile', text('profile'), profiles);
  const host = text('host');
  const secret = text('secret') || undefined;
  if (secret !== undefined && secret.length < secretLengthMin)
    throw refused('secret', '(hidden)', `needs at least ${secretLengthMin} characters`);
  if (profile !== 'embedded' && secret === undefined) {
    throw new Refused(
      `DIBS_SECRET is required in the ${profile} profile: set the same text of ${secretLengthMin} characters or more for every process`,
    );
  }
  const config: Config = {
    profile,
    roles: rolesOf(text('roles'), profile),
    host,
    port: wholeNumber('port', text('port'), 0, 65_535),
    data: text('data'),
    secret,
    auth: authOf(text, profile),
    insecure: oneOf('insecure', text('insecure'), ['true', 'false']) === 'true',
    kafkaBrokers: brokersOf(text('kafkaBrokers')),
    redisUrl: urlOf('redisUrl', text('redisUrl'), ['redis:', 'rediss:']),
    databaseUrl: urlOf('databaseUrl', text('databaseUrl'), ['postgres:', 'postgresql:']),
    namespace: namespaceOf(text('namespace')),
    partitions: partitionsOf(given('partitions'), profile),
    tickBatch: wholeNumber('tickBatch', tickOf('tickBatch', given, profile), 1, applyBatchMax),
    tickMs: wholeNumber('tickMs', tickOf('tickMs', given, profile), 1, 60_000),
    replication: wholeNumber('replication', text('replication'), 1, 10),
    minInsync: wholeNumber('minInsync', text('minInsync'), 1, 10),
    groupSessionMs: wholeNumber('groupSessionMs', text('groupSessionMs'), 500, 300_000),
    ratePerUser: wholeNumber('ratePerUser', text('ratePerUser'), 0, 1_000_000),
    ratePerAddress: wholeNumber('ratePerAddress', text('ratePerAddress'), 0, 1_000_000),
    faultsPerAddress: wholeNumber('faultsPerAddress', text('faultsPerAddress'), 0, 1_000_000),
    logLevel: oneOf('logLevel', text('logLevel'), ['debug', 'info', 'warn', 'error', 'silent']),
  };
  if (config.minInsync > config.replication) {
    throw refused(
      'minInsync',
      String(config.minInsync),
      `is more than --replication ${config.replication}: no append would be taken`,
    );
  }
  if (config.auth.kind === 'none' && config.roles.includes('api') && !isLoopback(host) && !config.insecure) {
    throw refused(
      'host',
      host,
      'is not loopback and --auth none believes everyone: use --auth jwt, or --insecure if you mean it',
    );
  }
  return config;
}

/** What is in force, by flag name, secrets hidden. */
export function describeConfig({
  flags = {},
  env = {},
}: {
  flags?: Text;
  env?: Text;
}): { flag: string; value: string; from: 'flag' | 'environment' | 'default' }[] {
  const { auth, ...rest } = loadConfig({ flags, env });
  const {
    secret: jwtSecret,
    jwksUrl,
    issuer: jwtIssuer,
    audience: jwtAudience,
  } = auth.kind === 'jwt' ? auth : noTokens;
  const inForce: Record<SettingName, unknown> = {
    ...{ ...rest, auth: auth.kind },
    ...{ jwtSecret, jwksUrl, jwtIssuer, jwtAudience },
  };
  return Object.entries(settings).map(([name, { flag, env: variable, secret }]: [string, Setting]) => {
    const from = flags[name] !== undefined ? 'flag' : env[variable] !== undefined ? 'environment' : 'default';
    return { flag, value: hide(String(inForce[name as SettingName] ?? ''), secret), from };
  });
}

const noTokens = { secret: undefined, jwksUrl: undefined, issuer: undefined, audience: undefined };

const hidden = '********';

function hide(value: string, secret: Setting['secret']): string {
  if (value === '') return '';
  if (secret === 'all') return hidden;
  return secret === 'url' ? withoutPassword(value) : value;
}

/** A URL as it may be shown. */
export function withoutPassword(text: string): string {
  const url = URL.parse(text);
  // An @ behind the host: a password with a # or / of its own, or no // before it, was read as something else.
  if (!url || /@/.test(url.pathname + url.search + url.hash)) return hidden;
  if (url.password) url.password = hidden;
  for (const name of url.searchParams.keys()) if (/pass|secret|token/i.test(name)) url.searchParams.set(name, hidden);
  return url.href;
}

const refused = (name: SettingName, value: string, why: string): Refused =>
  new Refused(`--${settings[name].flag} ${value} (${settings[name].env}) ${why}`);

function oneOf<T extends string>(name: SettingName, value: string, allowed: readonly T[]): T {
  if (!allowed.includes(value as T)) throw refused(name, value, `is not one of ${allowed.join(', ')}`);
  return value as T;
}

function wholeNumber(name: SettingName, value: string, min: number, max: number): number {
  const n = Number(value);
  if (!/^\d+$/.test(value) || n < min || n > max) {
    throw refused(name, value, `is not a whole number from ${min} to ${max}`);
  }
  return n;
}

function rolesOf(value: string, profile: Profile): readonly Role[] {
  if (value === 'all') return roles;
  const wanted = value.split(',').map(role => oneOf('roles', role.trim(), roles));
  if (profile === 'embedded' && roles.some(role => !wanted.includes(role))) {
    throw refused('roles', value, 'cannot be chosen in the embedded profile, which is one process: leave it out');
  }
  if (profile === 'scheduler' && wanted.includes('reserve') !== wanted.includes('persist')) {
    throw refused(
      'roles',
      value,
      'parts reserve and persist, which one process has in the scheduler profile: give both',
    );
  }
  if (profile === 'scheduler' && wanted.every(role => role === 'stats')) {
    throw refused('roles', value, 'leaves nothing to run in the scheduler profile, where nobody counts: add api');
  }
  return [...new Set(wanted)];
}

function partitionsOf(value: string | undefined, profile: Profile): number {
  if (profile === 'cluster') return wholeNumber('partitions', value ?? settings.partitions.default, 1, 1_000);
  if (value === undefined || value === '1') return 1;
  throw refused('partitions', value, `cannot be chosen in the ${profile} profile, which has one: leave it out`);
}

function tickOf(
  name: 'tickBatch' | 'tickMs',
  given: (name: SettingName) => string | undefined,
  profile: Profile,
): string {
  const value = given(name);
  if (profile === 'scheduler' || value === undefined) return value ?? settings[name].default;
  throw refused(name, value, `paces the schedulers of the scheduler profile, which ${profile} has not: leave it out`);
}

function brokersOf(value: string): string[] {
  const brokers = value.split(',').map(broker => broker.trim());
  for (const broker of brokers) {
    if (!/^[^\s:/]+:\d{1,5}$/.test(broker)) {
      const shown = /[@=]/.test(value) ? hidden : value;
      throw refused('kafkaBrokers', shown, 'must be host:port with commas between');
    }
  }
  return brokers;
}

function urlOf(name: SettingName, value: string, protocols: string[]): string {
  const url = URL.parse(value);
  if (!url || !protocols.includes(url.protocol)) {
    throw refused(name, withoutPassword(value), `must be a URL that begins with ${protocols[0]}//`);
  }
  return value;
}

function namespaceOf(value: string): string {
  if (!/^[a-z0-9_]{0,32}$/.test(value)) throw refused('namespace', value, 'must be at most 32 of a-z, 0-9 and _');
  return value;
}

function authOf(text: (name: SettingName) => string, profile: Profile): Auth {
  const kind = oneOf('auth', text('auth') || (profile === 'embedded' ? 'none' : 'jwt'), ['none', 'jwt']);
  if (kind === 'none') return { kind };
  const [secret, jwksUrl] = [text('jwtSecret') || undefined, text('jwksUrl') || undefined];
  if ((secret === undefined) === (jwksUrl === undefined)) {
    throw new Refused(
      '--auth jwt needs either DIBS_JWT_SECRET or DIBS_JWKS_URL, not both: set the one that your tokens are signed for (or --auth none on loopback)',
    );
  }
  if (secret !== undefined && Buffer.byteLength(secret) < 32) {
    throw refused('jwtSecret', '(hidden)', 'needs at least 32 bytes for HS256');
  }
  if (jwksUrl !== undefined) urlOf('jwksUrl', jwksUrl, ['https:', 'http:']);
  return { kind, secret, jwksUrl, issuer: text('jwtIssuer') || undefined, audience: text('jwtAudience') || undefined };
}

export const isLoopback = (host: string): boolean => /^(127(\.\d{1,3}){3}|::1|\[::1\]|localhost)$/.test(host);
