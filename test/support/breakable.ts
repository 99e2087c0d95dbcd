/** A port whose methods fail when a test says so: before anything happened, or after all of it did. */
export interface Breakable<T extends object> {
  it: T;
  /** The next call of `method` throws, `before` it was done or `after`. */
  once(method: keyof T & string, when: 'before' | 'after', error?: Error): void;
  /** Every call of `method` throws until `heal`. */
  always(method: keyof T & string, error?: Error): void;
  heal(): void;
  calls: Map<string, number>;
}

export function breakable<T extends object>(target: T): Breakable<T> {
  const next = new Map<string, { when: 'before' | 'after'; error: Error }[]>();
  const broken = new Map<string, Error>();
  const calls = new Map<string, number>();
  const it = new Proxy(target, {
    get(_, name) {
      const value = Reflect.get(target, name) as unknown;
      if (typeof value !== 'function' || typeof name !== 'string') return value;
      return async (...args: unknown[]) => {
        calls.set(name, (calls.get(name) ?? 0) + 1);
        const down = broken.get(name);
        if (down) throw down;
        const fault = next.get(name)?.shift();
        if (fault?.when === 'before') throw fault.error;
        const answer: unknown = await value.apply(target, args);
        if (fault) throw fault.error;
        return answer;
      };
    },
  });
  return {
    it,
    calls,
    once(method, when, error = new Error(`killed ${when} ${method}`)) {
      next.set(method, [...(next.get(method) ?? []), { when, error }]);
    },
    always(method, error = new Error(`${method} is away`)) {
      broken.set(method, error);
    },
    heal() {
      broken.clear();
      next.clear();
    },
  };
}

/** Wraps methods of one or several ports: between the nth call of all of them and its answer `act` is done, once. */
export function afterCall(nth: number, act: () => Promise<unknown>) {
  let calls = 0;
  return <A extends unknown[], T>(method: (...args: A) => Promise<T>) =>
    async (...args: A): Promise<T> => {
      const answer = await method(...args);
      if (++calls === nth) await act();
      return answer;
    };
}
