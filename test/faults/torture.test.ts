/** The short form of `npm run torture`: a few rounds, each judged by the checker. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Services } from '../../scripts/services.ts';
import { Arena } from '../../torture/arena.ts';
import { faults } from '../../torture/faults.ts';
import { runRound } from '../../torture/round.ts';
import { noServices, serversFor } from '../support/cluster.ts';

describe('torture', { skip: noServices, concurrency: true, timeout: 110_000 }, () => {
  let services: Services;
  before(async () => {
    services = await serversFor([]);
  });
  after(() => services?.stop());

  const rounds = (...names: string[]) => {
    test(names.join(', then '), async t => {
      const arena = await Arena.open([], services);
      try {
        for (const name of names) {
          const fault = faults[name];
          assert.ok(fault, name);
          const did: string[] = [];
          const round = { name: `short-${name}`, fault, arena, random: () => 0.4 };
          const { calls, frames } = await runRound({ ...round, did: what => void did.push(what) });
          t.diagnostic(`${name}: ${did.join(', ')}; ${calls} calls, ${frames} events`);
        }
      } finally {
        await arena.close();
      }
    });
  };
  rounds('kill');
  rounds('clock-behind', 'clock-ahead');
});
