/** A process that believes it owns every partition from the start, as one whose group is wrong about it would. */
import type { Ports } from '../../src/app.ts';
import type { EventLog } from '../../src/ports.ts';

export function withAllPartitions(ports: Ports): Ports {
  const { log } = ports;
  const assign: EventLog['assign'] = async (_group, _log, { assigned }) => {
    for (let partition = 0; partition < log.partitions; partition++) assigned(partition);
    return { close: async () => {} };
  };
  const proxy = new Proxy(log, {
    get(_, property) {
      if (property === 'assign') return assign;
      const value = Reflect.get(log, property, log) as unknown;
      return typeof value === 'function' ? value.bind(log) : value;
    },
  });
  return { ...ports, log: proxy };
}
