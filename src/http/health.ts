import type { FastifyInstance } from 'fastify';
import { ProblemError, problem } from './problem.ts';
import type { Prometheus } from './prometheus.ts';
import { problemAnswer, ReadySchema } from './schemas.ts';

export interface HealthTools {
  ready(): { ok: boolean; why?: string };
  metrics: Prometheus;
}

export function healthRoutes(app: FastifyInstance, { ready, metrics }: HealthTools): void {
  const tags = ['operator'];
  app.get(
    '/healthz',
    { schema: { tags, summary: 'This process is alive', response: { 200: ReadySchema } } },
    async () => ({ ok: true }),
  );
  app.get(
    '/readyz',
    {
      schema: {
        tags,
        summary: 'This process can accept',
        response: { 200: ReadySchema, 503: problemAnswer(['NOT_READY']) },
      },
    },
    async () => {
      const { ok, why } = ready();
      if (!ok) throw new ProblemError(problem('NOT_READY', why ?? 'not ready', { retryAfterS: 1 }));
      return { ok };
    },
  );
  app.get(
    '/metrics',
    {
      schema: {
        tags,
        summary: 'For Prometheus',
        response: { 200: { description: 'All metrics', content: { 'text/plain': { schema: { type: 'string' } } } } },
      },
    },
    async (_request, reply) => {
      const text = await metrics.text();
      return reply.type(metrics.type).send(text);
    },
  );
}
