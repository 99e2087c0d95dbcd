/** /openapi.json from the schemas that validate, and a page that shows it. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { AuthSettings } from './auth.ts';
import { issuePath } from './issue.ts';
import {
  AcceptedSchema,
  couponPath,
  keyHeader,
  NoBody,
  pathOf,
  problemsOf,
  TaskSchema,
  text,
  userHeader,
} from './schemas.ts';

/** What Swagger's page needs, and no other origin. */
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Without the bar of Swagger's own name and its box for other addresses. */
const theme = { title: 'dibs', css: [{ filename: 'dibs.css', content: '.swagger-ui .topbar { display: none }' }] };

interface RequestBody {
  required?: boolean;
  content: Record<string, { schema?: { required?: string[] } }>;
}
interface OpenApi {
  paths: Record<string, Record<string, { requestBody?: RequestBody }>>;
}

const isNeeded = ({ content }: RequestBody): boolean =>
  Object.values(content).some(({ schema }) => (schema?.required ?? []).length > 0);

/** Before the routes, so that it sees them. */
export async function openApi(app: FastifyInstance, version: string, auth: AuthSettings): Promise<void> {
  const scheme =
    auth.kind === 'none'
      ? ({ type: 'apiKey', in: 'header', name: 'X-User-Id' } as const)
      : ({ type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } as const);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'dibs',
        version,
        description:
          'Real-time first-come-first-served coupons. Every error is application/problem+json with a stable `code`.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      tags: [
        { name: 'user', description: 'For those who press the button' },
        { name: 'operator', description: 'For those who run the sale' },
      ],
      components: { securitySchemes: { caller: scheme } },
      security: [{ caller: [] }],
    },
    // A body without which nothing is missing may be left out.
    transformObject: document => {
      const { openapiObject } = document as { openapiObject: OpenApi };
      for (const methods of Object.values(openapiObject.paths))
        for (const { requestBody } of Object.values(methods))
          if (requestBody) requestBody.required = isNeeded(requestBody);
      return openapiObject as never;
    },
    // Only what may answer 401 asks who is calling.
    transform: ({ schema, url }) => {
      const { 401: unauthenticated } = (schema?.response ?? {}) as Record<number, unknown>;
      return { schema: unauthenticated === undefined ? { ...schema, security: [] } : schema, url };
    },
  });
  app.addHook('onRoute', route => {
    // As YAML proper the document kept everybody waiting for 0.16 s at its first request. JSON is YAML as well.
    if (route.url === '/docs/yaml') {
      route.handler = async (_request, reply) =>
        reply.type('application/yaml').send(JSON.stringify(app.swagger(), null, 2));
    }
  });
  await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: policy, theme });
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
}

/** The routes that are served in front of fastify, by the one thing that serves them. */
export interface FrontRoutes {
  /** The last argument is what stands in the path, as it stands there. */
  issue: { serve(req: IncomingMessage, res: ServerResponse, couponId: string): void };
  streams: { serve(req: IncomingMessage, res: ServerResponse, taskId: string): void };
}

/**
 * Declared here, so that the page knows them. Who comes this way wrote the address in another of its forms (absolute,
 * with an escape, with a fragment), and is handed back before anything of the request is read.
 */
export function declareFront(app: FastifyInstance, { issue, streams }: FrontRoutes): void {
  const handBack =
    (route: FrontRoutes[keyof FrontRoutes], name: string) => async (request: FastifyRequest, reply: FastifyReply) => {
      reply.hijack();
      route.serve(
        request.raw,
        reply.raw,
        encodeURIComponent((request.params as Record<string, string>)[name] as string),
      );
    };
  const inFront = async () => {
    throw new Error('this route is served in front of fastify');
  };
  app.post(
    issuePath,
    {
      onRequest: handBack(issue, 'couponId'),
      schema: {
        tags: ['user'],
        summary: 'Press the button',
        description:
          '202 comes only once the request is durable in the log. No body is needed. The same Idempotency-Key means the same request.',
        params: couponPath,
        headers: { ...keyHeader, properties: { ...keyHeader.properties, ...userHeader.properties } },
        body: NoBody,
        response: {
          200: TaskSchema,
          202: AcceptedSchema,
          ...problemsOf(
            ...(['UNAUTHENTICATED', 'FORBIDDEN', 'UNKNOWN_COUPON', 'INACTIVE_COUPON', 'DUPLICATED_COUPON'] as const),
            ...(['BODY_TOO_LARGE', 'UNSUPPORTED_MEDIA_TYPE', 'TOO_MANY_REQUESTS', 'NOT_ACCEPTED'] as const),
            ...(['OUTCOME_UNKNOWN', 'UNAVAILABLE'] as const),
          ),
        },
      },
    },
    inFront,
  );
  app.get(
    '/tasks/:taskId/events',
    {
      onRequest: handBack(streams, 'taskId'),
      schema: {
        tags: ['user'],
        summary: 'Progress of a request as it happens, and how it ended',
        description:
          'Server-sent events: `progress` with {state, ahead}, then one `outcome` with the task; then the stream ends. `Last-Event-ID` is honoured.',
        produces: ['text/event-stream'],
        params: pathOf({ taskId: text('As the 202 gave it.') }),
        response: {
          200: { description: 'The stream.', content: { 'text/event-stream': { schema: text('Events.') } } },
          ...problemsOf('UNKNOWN_TASK', 'NOT_ACCEPTABLE', 'TOO_MANY_REQUESTS', 'NOT_OFFERED', 'UNAVAILABLE'),
        },
      },
    },
    inFront,
  );
}
