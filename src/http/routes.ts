import type { FastifyInstance } from 'fastify';

/** Which methods there are at a path, for those who came with another. */
export class Routes {
  /** Every one, `GET /coupons/:couponId`. */
  readonly all: string[] = [];
  private readonly routes: { pattern: RegExp; methods: Set<string> }[] = [];

  /** Before the routes are added. */
  constructor(app: FastifyInstance) {
    app.addHook('onRoute', ({ url, method }) => {
      const methods = [method].flat();
      this.all.push(...methods.map(m => `${m} ${url}`));
      if (url.includes('*')) return;
      const source = `^${url.replaceAll('.', '\\.').replaceAll(/:\w+/g, '[^/]+')}$`;
      const known = this.routes.find(route => route.pattern.source === new RegExp(source).source);
      if (known) for (const m of methods) known.methods.add(m);
      else this.routes.push({ pattern: new RegExp(source), methods: new Set(methods) });
    });
  }

  methodsOf(url: string): string[] {
    const path = url.split('?', 1)[0] as string;
    return this.routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => [...methods]);
  }
}
