/**
 * What this machine does at the moment: requests a second of bare `node:http`, asked and answered by a thread of their
 * own, so that what this process has on its hands does not count.
 */
import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { median } from './compare-report.ts';

const requests = 2_000;
/** The median of so many: a short burst of somebody else's is not the machine. */
const shots = 5;
const connections = 32;
/** Servers that have just been rushed at have something to tidy up. */
const restMs = 700;
/** The first ones of a thread are slower: they are for warming up. */
const warmUps = 3;
const mark = 'dibs yardstick';

export interface Yardstick {
  /** Requests a second. */
  measure(): Promise<number>;
  close(): Promise<void>;
}

export async function startYardstick(): Promise<Yardstick> {
  const worker = new Worker(new URL(import.meta.url), { workerData: mark });
  const ask = async (): Promise<number> => {
    worker.postMessage('measure');
    const [found] = (await once(worker, 'message')) as [number];
    return found;
  };
  for (let i = 0; i < warmUps; i++) await ask();
  return {
    async measure() {
      await sleep(restMs);
      return ask();
    },
    close: async () => void (await worker.terminate()),
  };
}

async function measured(): Promise<number> {
  const server = createServer((_, response) => response.end('{}')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const { port } = server.address() as AddressInfo;
  const ask = () =>
    new Promise<void>((resolve, reject) => {
      const asking = request({ port, host: '127.0.0.1', agent }, answer => answer.resume().once('end', resolve));
      asking.once('error', reject).end();
    });
  try {
    let left = requests;
    const from = performance.now();
    const asker = async () => {
      while (left-- > 0) await ask();
    };
    await Promise.all(Array.from({ length: connections }, asker));
    return (requests * 1_000) / (performance.now() - from);
  } finally {
    agent.destroy();
    server.close();
  }
}

async function steady(): Promise<number> {
  const found: number[] = [];
  for (let i = 0; i < shots; i++) found.push(await measured());
  return median(found);
}

const answer = (): void => void steady().then(perSecond => parentPort?.postMessage(perSecond));

if (workerData === mark) parentPort?.on('message', answer);
