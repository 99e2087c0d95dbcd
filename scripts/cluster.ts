/**
 * `npm run cluster`: real Kafka, Redis and Postgres on loopback and two instances of dibs with all roles, for trying
 * the cluster profile. Data stays under .services/cluster; Ctrl-C stops everything.
 *
 *   --ports <n>,<n>   where the instances listen (8080,8081)
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { createClient, ProblemError } from '../src/client/index.ts';
import { SETS } from './services/set.ts';
import { environmentOf, startServices } from './services.ts';
import { optionsOf } from './usage.ts';

const dir = join(SETS, 'cluster');
const readyMsMax = 60_000;
const print = (line: string): void => console.log(line);

/** Task ids must stay answerable over restarts, so the secret is made once. */
function keptSecret(): string {
  const path = join(dir, 'secret');
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    // The first start: none is there yet.
    mkdirSync(dir, { recursive: true });
    const secret = randomBytes(24).toString('base64url');
    writeFileSync(path, secret, { mode: 0o600 });
    return secret;
  }
}

interface Instance {
  url: string;
  child: ChildProcess;
  ended: Promise<unknown>;
}

function startInstance(port: string, settings: Record<string, string>): Instance {
  const env = { ...process.env, ...settings, DIBS_PORT: port };
  const child = spawn(process.execPath, ['src/cli/main.ts', 'serve'], { env, stdio: 'inherit' });
  return { url: `http://127.0.0.1:${port}`, child, ended: once(child, 'exit') };
}

async function ready({ url, child }: Instance): Promise<void> {
  const until = Date.now() + readyMsMax;
  while (Date.now() < until && child.exitCode === null && child.signalCode === null) {
    // It does not listen yet.
    const answer = await fetch(`${url}/readyz`).catch(() => undefined);
    if (answer?.ok) return;
    await wait(100);
  }
  throw new Error(`the instance at ${url} did not get ready: its own lines above say why`);
}

async function main(ports: readonly string[]): Promise<void> {
  print('starting Redis, Postgres and Kafka (the first time this also gets them) ...');
  const services = await startServices({ dir, keep: true, log: print });
  const instances: Instance[] = [];
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      for (const { child } of instances) child.kill('SIGTERM');
      await Promise.all(instances.map(({ ended }) => ended));
      await services.stop();
    })();
    return stopping;
  };
  process.on('SIGINT', () => void stop()).on('SIGTERM', () => void stop());
  try {
    const settings = {
      DIBS_PROFILE: 'cluster',
      DIBS_AUTH: 'none',
      DIBS_SECRET: keptSecret(),
      ...environmentOf(services),
    };
    for (const port of ports) {
      const instance = startInstance(port, settings);
      instances.push(instance);
      await ready(instance);
    }
    const client = createClient({ baseUrl: instances[0]?.url ?? '' });
    await client.coupons.create({ couponId: 'welcome', name: 'Welcome', stock: 1_000 }).catch(error => {
      if (!(error instanceof ProblemError && error.code === 'COUPON_EXISTS')) throw error;
    });
    print(whatNext(instances));
    await Promise.all(
      instances.map(async ({ url, child, ended }) => {
        await ended;
        if (!stopping) print(`the instance at ${url} has ended (${child.signalCode ?? child.exitCode})`);
      }),
    );
    await stop();
  } catch (error) {
    if (stopping === undefined) print(error instanceof Error ? error.message : String(error));
    await stop();
    process.exitCode = 1;
  }
}

function whatNext(instances: readonly Instance[]): string {
  const [first, last] = [instances[0]?.url, instances.at(-1)];
  return `
${instances.length} instances share one sale; in another terminal:
  npx dibs rush welcome --users 5000 --url ${first}
  npx dibs claim welcome --user ann --url ${last?.url}
  npx dibs coupon show welcome --url ${last?.url}
  npx dibs lag --url ${first}
  npx dibs verify --url ${first}
  kill -9 ${last?.child.pid}
The last line kills the instance at ${last?.url}: try it, or kill any server, in the middle of a rush.
Ctrl-C here stops everything.`;
}

const { values } = optionsOf(import.meta.filename, { ports: { type: 'string', default: '8080,8081' } });
await main(values.ports.split(','));
