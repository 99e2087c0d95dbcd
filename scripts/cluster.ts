/**
 * `npm run cluster`: real Kafka, Redis and Postgres on loopback and two instances of dibs with all roles, for trying
 * the cluster profile. Data stays under .services/cluster; Ctrl-C stops everything.
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

const dir = join(SETS, 'cluster');
const ports = [8080, 8081] as const;
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

async function ready(url: string, child: ChildProcess): Promise<void> {
  const until = Date.now() + readyMsMax;
  while (Date.now() < until && child.exitCode === null) {
    const answer = await fetch(`${url}/readyz`).catch(() => undefined);
    if (answer?.ok) return;
    await wait(100);
  }
  throw new Error(`the instance at ${url} did not get ready: its own lines above say why`);
}

async function main(): Promise<void> {
  print('starting Redis, Postgres and Kafka (the first time this also gets them) ...');
  const services = await startServices({ dir, keep: true, log: print });
  const children: ChildProcess[] = [];
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      for (const child of children) child.kill('SIGTERM');
      for (const child of children) if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
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
      const env = { ...process.env, ...settings, DIBS_PORT: String(port) };
      const child = spawn(process.execPath, ['src/cli/main.ts', 'serve'], { env, stdio: 'inherit' });
      children.push(child);
      await ready(`http://127.0.0.1:${port}`, child);
    }
    const client = createClient({ baseUrl: `http://127.0.0.1:${ports[0]}` });
    await client.coupons.create({ couponId: 'welcome', name: 'Welcome', stock: 1_000 }).catch(error => {
      if (!(error instanceof ProblemError && error.code === 'COUPON_EXISTS')) throw error;
    });
    print(whatNext);
    await Promise.race(children.map(child => once(child, 'exit')));
    await stop();
  } catch (error) {
    if (stopping === undefined) print(error instanceof Error ? error.message : String(error));
    await stop();
    process.exitCode = 1;
  }
}

const whatNext = `
two instances share one sale; in another terminal:
  npx dibs rush welcome --users 5000
  npx dibs claim welcome --user ann --url http://127.0.0.1:8081
  npx dibs coupon show welcome --url http://127.0.0.1:8081
  npx dibs lag
  npx dibs verify
kill one of the instances, or any server, in the middle of a rush; Ctrl-C here stops everything.`;

await main();
