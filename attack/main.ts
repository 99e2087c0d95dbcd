/**
 * `npm run attack`: what a stranger can do to a real server, for long.
 *
 *   --parts <a,b>       of fuzz, forged, throughput (all)    --profile <p>    embedded, or cluster on servers of its own
 *   --requests <n>      of fuzz (100000)                     --seed <n>       of fuzz and forged (by chance, printed)
 *   --ids <n>           forged at the sealer (1000000)       --http-ids <n>   forged over HTTP (50000)
 *   --rounds <n>        of throughput, with and without (40) --seconds <n>    of each of them (1; 3 of who comes every 3 s)
 *   --behaviours <a,b>  of throughput (all)                  --rate <n>       of the hostile client, a second (5000)
 *   --faults-per-address <n>  of the server under throughput (20; 0 shows what it is for)
 *   --firewall          throughput behind the rules of examples/firewall.nft (needs root). Without them what a flood of
 *                       connections takes is shown, and is no finding: no server can help what the kernel hands it
 */
import { randomInt } from 'node:crypto';
import { oneOf, optionsOf, someOf, wholeNumber } from '../scripts/usage.ts';
import { late, ms, range, throughputFindings } from './findings.ts';
import { forgeAtSealer, forgeOverHttp } from './forged.ts';
import { fuzz, fuzzFlags, quiet, tasksOf } from './fuzz.ts';
import { type Behaviour, behaviours } from './hostile.ts';
import { startTarget, type TargetProfile, targetProfiles } from './target.ts';
import { throughput } from './throughput.ts';

const { values } = optionsOf(import.meta.filename, {
  parts: { type: 'string', default: 'fuzz,forged,throughput' },
  profile: { type: 'string', default: 'embedded' },
  requests: { type: 'string', default: '100000' },
  seed: { type: 'string' },
  ids: { type: 'string', default: '1000000' },
  'http-ids': { type: 'string', default: '50000' },
  rounds: { type: 'string', default: '40' },
  seconds: { type: 'string', default: '1' },
  behaviours: { type: 'string', default: Object.keys(behaviours).join(',') },
  rate: { type: 'string', default: '5000' },
  'faults-per-address': { type: 'string', default: '20' },
  firewall: { type: 'boolean', default: false },
});

const print = (line: string): void => console.log(line);
const seed = values.seed === undefined ? randomInt(2 ** 31) : wholeNumber('seed', values.seed, 0);
const profile = oneOf('profile', values.profile, targetProfiles);
const chosen = someOf('parts', values.parts, ['fuzz', 'forged', 'throughput']);
const chosenBehaviours = someOf('behaviours', values.behaviours, Object.keys(behaviours) as Behaviour[]);
const number = (flag: 'requests' | 'ids' | 'http-ids' | 'rounds' | 'seconds' | 'rate') =>
  wholeNumber(flag, values[flag]);
const [requests, ids, httpIds] = [number('requests'), number('ids'), number('http-ids')];
const [rounds, seconds, rate] = [number('rounds'), number('seconds'), number('rate')];
wholeNumber('faults-per-address', values['faults-per-address'], 0);
/** A run without a fuzz, whose stalls are those of the machine, ms. */
const quietMs = 10_000;

const parts: Record<(typeof chosen)[number], () => Promise<readonly string[]>> = {
  async fuzz() {
    await using target = await disposable(profile);
    const alone = await quiet(target, 'alone', quietMs);
    let told = 0;
    const said = (line: string) => {
      if (process.stderr.isTTY) process.stderr.write(`\r${line} `);
      else if (++told % 10 === 0) console.error(line);
    };
    const { honest, stalled, ...r } = await fuzz({ target, seed, count: requests, name: 'fuzz', said });
    print(`fuzz, ${profile}, seed ${seed}: ${r.shots} requests in ${r.seconds.toFixed(1)} s`);
    print(`  answers ${JSON.stringify(r.statuses)}; of 503 ${JSON.stringify(r.unavailable)}`);
    print(
      `  honest users: ${honest.issued} of ${honest.issued} issued, the slowest ${ms(honest.maxMs)} (alone ${ms(alone.maxMs)})`,
    );
    print(
      `  event loop late at most ${ms(stalled.maxMs)} (batch of seed ${stalled.seed}; median of batches ${ms(stalled.medianMs)}); alone ${ms(alone.stalledMs)}`,
    );
    return [...r.findings, ...late(stalled.maxMs, `batch of seed ${stalled.seed}`)];
  },
  async forged() {
    const sealed = forgeAtSealer(seed, ids);
    print(`forged at the sealer, seed ${seed}: ${sealed.tried} ids in ${sealed.seconds.toFixed(1)} s`);
    print(
      `  open took ${sealed.meanUs.toFixed(2)} us on average, ${sealed.maxUs.toFixed(0)} us at most; of a real id ${sealed.realUs.toFixed(2)} us`,
    );
    await using target = await disposable(profile);
    const real = await tasksOf(target.url);
    await target.stalled();
    const asked = await forgeOverHttp(target.port, real, seed, httpIds);
    const { maxMs } = await target.stalled();
    print(
      `forged over HTTP, ${profile}, seed ${seed}: ${asked.asked} ids in ${asked.seconds.toFixed(1)} s, event loop late at most ${ms(maxMs)}`,
    );
    return [
      ...[...sealed.findings, ...asked.findings, ...target.errors.map(line => `it said: ${line}`)],
      ...late(maxMs, `forged ids of seed ${seed}`),
    ];
  },
  async throughput() {
    const kept = await throughput({
      flags: { 'faults-per-address': values['faults-per-address'] },
      ...{ profile, behaviours: chosenBehaviours, rate, rounds, seconds, firewall: values.firewall, say: print },
    });
    const where = values.firewall ? ', behind the firewall' : '';
    print(`throughput, ${profile}${where}, ${rounds} rounds of at least ${seconds} s; beside / alone:`);
    for (const k of kept) {
      const share = `by the wall clock ${range(k.byWall)}, by the server's CPU ${range(k.byCpu)}`;
      const figures = `${k.perSecond.map(n => n.toFixed(0)).join(' / ')} accepted a second, p99 ${k.p99Ms.map(ms).join(' / ')}`;
      const loop = `event loop late ${k.stalledMs.map(ms).join(' / ')}`;
      const cores = k.besideCpu.map(n => n.toFixed(2)).join(' / ');
      const hostile = `it sent ${k.hostile.map(n => n.toFixed(0)).join(' / ')} a second, had ${k.held} connections and used ${cores} cores; others up to ${k.others.toFixed(2)}`;
      print(
        `  ${k.behaviour.padEnd(16)} ${share}; ${figures}; ${loop}; ${hostile}; the server uses ${k.cores.toFixed(3)} cores for it alone`,
      );
    }
    return throughputFindings(kept, k => values.firewall || k.behaviour !== 'flood');
  },
};

async function disposable(of: TargetProfile) {
  const target = await startTarget({ profile: of, flags: fuzzFlags });
  return Object.assign(target, { [Symbol.asyncDispose]: () => target.stop() });
}

async function main(): Promise<number> {
  let found = 0;
  for (const name of chosen) {
    const findings = await parts[name]();
    for (const finding of findings) print(`FOUND ${finding}`);
    found += findings.length;
  }
  print(found === 0 ? 'nothing was found' : `${found} findings`);
  return found === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
