/** A coupon of a measured server, through HTTP as everybody else. */
import { setTimeout as sleep } from 'node:timers/promises';

const pollMs = 10;
const drainMsMax = 60_000;
/** Nothing more is to come when nothing changed for this long. */
const quietMs = 60;

export interface Shown {
  issued: number;
  reserved: number;
  remaining: number;
  state: string;
}

interface Lag {
  lagEntries: number;
  state: string;
}

export class Coupon {
  readonly url: string;
  readonly id: string;
  readonly path: string;

  private constructor(url: string, id: string) {
    this.url = url;
    this.id = id;
    this.path = `/coupons/${id}/issue`;
  }

  static async create(url: string, id: string, stock: number): Promise<Coupon> {
    await asked(`${url}/coupons`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ couponId: id, name: id, stock }),
    });
    return new Coupon(url, id);
  }

  shown(): Promise<Shown> {
    return asked<Shown>(`${this.url}/coupons/${this.id}`);
  }

  /** Asks for one and waits until this user is told. */
  async claim(user: string): Promise<string> {
    const { links } = await asked<{ links: { task: string } }>(`${this.url}${this.path}`, {
      method: 'POST',
      headers: { 'x-user-id': user },
    });
    for (const until = performance.now() + drainMsMax; performance.now() < until; await sleep(pollMs)) {
      const task = await asked<{ state: string; outcome?: string }>(`${this.url}${links.task}`);
      if (task.state === 'done') return task.outcome ?? '';
    }
    throw new Error(`${user} was not told within ${drainMsMax} ms`);
  }

  /**
   * Waits until at least `issuedMin` rows are committed, none is on its way and no stage is behind. Answers how many
   * there are, and when the last of them was seen to come, by performance.now(): undefined when all were there at once.
   */
  async drained(issuedMin: number): Promise<{ issued: number; at: number | undefined }> {
    let issued: number | undefined;
    let at: number | undefined;
    let quietFrom = performance.now();
    for (const until = quietFrom + drainMsMax; performance.now() < until; await sleep(pollMs)) {
      const shown = await this.shown();
      const now = performance.now();
      if (shown.issued !== issued) {
        quietFrom = now;
        if (issued !== undefined) at = now;
      }
      issued = shown.issued;
      if (issued >= issuedMin && shown.reserved === 0 && now - quietFrom >= quietMs && (await this.behind()) === 0) {
        return { issued, at };
      }
    }
    throw new Error(`${this.id} was not drained within ${drainMsMax} ms: ${issued} of ${issuedMin} are committed`);
  }

  private async behind(): Promise<number> {
    const { stages } = await asked<{ stages: Lag[] }>(`${this.url}/admin/lag`);
    const stopped = stages.find(({ state }) => state === 'stopped');
    if (stopped) throw new Error(`a stage has stopped: ${JSON.stringify(stopped)}`);
    return stages.reduce((sum, { lagEntries }) => sum + lagEntries, 0);
  }
}

export async function asked<T>(url: string, init?: RequestInit): Promise<T> {
  const res = await fetch(url, init);
  const text = await res.text();
  if (!res.ok) throw new Error(`${init?.method ?? 'GET'} ${url}: ${res.status} ${text}`);
  return JSON.parse(text) as T;
}
