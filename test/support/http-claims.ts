/** The calls of a sale through HTTP, in a word each. */
import { type Answered, call, until } from './calls.ts';
import type { MemoryApp } from './memory-app.ts';

export const as = (userId: string) => ({ 'x-user-id': userId });
export const claim = (app: MemoryApp, couponId: string, userId: string, headers: Record<string, string> = {}) =>
  call(app.url, `POST /coupons/${couponId}/issue`, { headers: { ...as(userId), ...headers } });
export const open = (app: MemoryApp, couponId: string, stock: number, more: object = {}) =>
  call(app.url, 'POST /coupons', { body: { couponId, name: couponId, stock, ...more } });
export const task = (app: MemoryApp, { body }: Answered) => call(app.url, `GET ${body.links.task}`);
export const ended = (app: MemoryApp, accepted: Answered) =>
  until(
    () => task(app, accepted),
    ({ body }) => body.state === 'done',
  );
