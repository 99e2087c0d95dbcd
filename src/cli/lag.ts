import type { StageLag } from '../client/index.ts';
import { connect, exitCodes, type ServerOptions } from './connect.ts';
import { duration, print, printJson, table } from './terminal.ts';

export async function lag(options: ServerOptions): Promise<void> {
  const found = await connect(options).lag();
  if (options.json) printJson(found);
  else if (found.stages.length === 0)
    print('this process has no partition: its role is api alone, or others have them all; ask those with --url');
  else
    print(
      table<StageLag>(found.stages, [
        { head: 'stage', of: s => s.stage },
        { head: 'log', of: s => s.log },
        { head: 'partition', of: s => s.partition },
        { head: 'next', of: s => s.next },
        { head: 'end', of: s => s.end },
        { head: 'behind', of: s => s.lagEntries },
        { head: 'age', of: s => duration(s.lagMs) },
        { head: 'state', of: s => (s.error === undefined ? s.state : `${s.state}: ${s.error}`) },
      ]),
    );
  process.exitCode = found.stages.some(s => s.state === 'stopped') ? exitCodes.failed : exitCodes.ok;
}
