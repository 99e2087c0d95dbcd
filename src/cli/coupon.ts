import type { Discount, NewCoupon } from '../client/index.ts';
import { couponsListedMax } from '../limits.ts';
import { CommandError, connect, exitCodes, type ServerOptions } from './connect.ts';
import { count, number, paint, pairs, print, printJson, printRows, time } from './terminal.ts';

export interface CreateOptions extends ServerOptions {
  stock: number;
  name?: string;
  opensAt?: string;
  closesAt?: string;
  validUntil?: string;
  discount?: Discount;
}

export async function create(couponId: string | undefined, options: CreateOptions): Promise<void> {
  const { closesAt, discount, name, opensAt, stock, validUntil } = options;
  const wanted: NewCoupon = {
    name: name ?? couponId ?? 'coupon',
    stock,
    ...(couponId === undefined ? {} : { couponId }),
    ...(opensAt === undefined ? {} : { opensAt }),
    ...(closesAt === undefined ? {} : { closesAt }),
    ...(validUntil === undefined ? {} : { validUntil }),
    ...(discount === undefined ? {} : { discount }),
  };
  const coupon = await connect(options).coupons.create(wanted);
  if (options.json) printJson(coupon);
  else print(`${paint('green', coupon.couponId)} is ready with ${count(coupon.stock, 'unit')}: ${coupon.state}`);
}

export async function list(options: ServerOptions): Promise<void> {
  const coupons = await connect(options).coupons.list();
  printRows(coupons, options.json, 'no coupons yet: `dibs coupon create welcome --stock 1000` makes one', [
    { head: 'coupon', of: c => c.couponId },
    { head: 'state', of: c => c.state },
    { head: 'stock', of: c => c.stock },
    { head: 'issued', of: c => c.issued },
    { head: 'remaining', of: c => c.remaining },
    { head: 'opens', of: c => time(c.opensAt) },
    { head: 'closes', of: c => time(c.closesAt) },
    { head: 'name', of: c => c.name },
  ]);
  if (!options.json && coupons.length >= couponsListedMax) {
    print(`the newest ${number(couponsListedMax)}; an older one: \`dibs coupon show ID\``);
  }
}

export async function show(couponId: string, options: ServerOptions): Promise<void> {
  const coupon = await connect(options).coupons.get(couponId);
  if (options.json) {
    printJson(coupon);
    return;
  }
  print(
    pairs([
      ['coupon', coupon.couponId],
      ['name', coupon.name],
      ['state', coupon.state],
      ['stock', number(coupon.stock)],
      ['reserved', number(coupon.reserved)],
      ['issued', number(coupon.issued)],
      ['remaining', number(coupon.remaining)],
      ['discount', coupon.discount && discountText(coupon.discount)],
      ['created', time(coupon.createdAt)],
      ['opens', time(coupon.opensAt)],
      ['closes', time(coupon.closesAt)],
      ['valid until', time(coupon.validUntil)],
      ['first issued', time(coupon.firstIssuedAt)],
      ['last issued', time(coupon.lastIssuedAt)],
    ]),
  );
}

export async function addStock(
  couponId: string,
  add: number,
  options: ServerOptions & { key?: string },
): Promise<void> {
  const coupon = await connect(options).coupons.addStock(
    couponId,
    add,
    options.key === undefined ? {} : { key: options.key },
  );
  if (options.json) printJson(coupon);
  else
    print(`${couponId} has ${count(coupon.stock, 'unit')} now, ${number(coupon.remaining)} remaining: ${coupon.state}`);
}

export async function close(couponId: string, options: ServerOptions): Promise<void> {
  const coupon = await connect(options).coupons.close(couponId);
  if (options.json) printJson(coupon);
  else print(`${couponId} is closed: ${number(coupon.issued)} of ${count(coupon.stock, 'unit')} issued`);
}

const discountText = ({ type, value }: Discount) => (type === 'percent' ? `${number(value)} %` : number(value));

/** `15%` or `3000`. */
export function parseDiscount(text: string): Discount {
  const found = /^([0-9]+(?:\.[0-9]+)?)(%?)$/.exec(text);
  if (!found) throw new CommandError(`--discount "${text}" is neither like 15% nor like 3000`, exitCodes.usage);
  return { type: found[2] ? 'percent' : 'fixed', value: Number(found[1]) };
}

const unitMs: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

const isoTime = /^(\d{4}-\d{2}-\d{2})(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?(?:Z|[+-]\d{2}:\d{2})?)?$/;

/** A day that no calendar has is found by writing it back. */
function isDay(text: string): boolean {
  const ms = Date.parse(text);
  return ms >= 0 && new Date(ms).toISOString().startsWith(text);
}

/** An ISO 8601 time since 1970, local where it names no zone, or `+30s`, `+10m`, `+2h`, `+7d` from now. */
export function parseTime(text: string): string {
  const [, n, unit = ''] = /^\+([0-9]{1,6})([smhd])$/.exec(text) ?? [];
  const [, day = ''] = isoTime.exec(text) ?? [];
  // JavaScript takes a day alone as UTC, but a time without a zone as local.
  const written = day === text ? `${day}T00:00` : text;
  const at = n !== undefined ? Date.now() + Number(n) * (unitMs[unit] ?? 0) : Date.parse(isDay(day) ? written : '');
  if (Number.isNaN(at)) {
    throw new CommandError(
      `"${text}" is no time: write 2026-12-24T09:00:00Z, or +10m for in ten minutes`,
      exitCodes.usage,
    );
  }
  return new Date(at).toISOString();
}
