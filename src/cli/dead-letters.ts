import { connect, type ServerOptions } from './connect.ts';
import { count, print, printJson, printRows, time } from './terminal.ts';

export async function list(options: ServerOptions & { coupon?: string }): Promise<void> {
  const { items } = await connect(options).deadLetters(
    options.coupon === undefined ? {} : { couponId: options.coupon },
  );
  printRows(items, options.json, 'no dead letters', [
    { head: 'log', of: d => d.log },
    { head: 'partition', of: d => d.partition },
    { head: 'offset', of: d => d.offset },
    { head: 'coupon', of: d => d.couponId },
    { head: 'user', of: d => d.userId },
    { head: 'slot', of: d => d.slot },
    { head: 'since', of: d => time(d.at) },
    { head: 'redrive', of: d => (d.redrivable ? 'yes' : 'no') },
    { head: 'reason', of: d => d.reason },
  ]);
}

export async function redrive(options: ServerOptions & { coupon?: string }): Promise<void> {
  const found = await connect(options).redrive(options.coupon === undefined ? {} : { couponId: options.coupon });
  if (options.json) printJson(found);
  else print(found.redriven === 0 ? 'nothing to redrive' : `${count(found.redriven, 'dead letter')} put back`);
}
