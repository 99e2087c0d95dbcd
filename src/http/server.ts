/**
 * The HTTP side: presses of the button and strangers' questions on the bare socket, bare node:http behind it for the
 * other presses and for the streams, fastify behind that for everything else, and one mechanism for all of errors, who
 * is asking, rates, metrics.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { messageOf } from '../errors.ts';
import type { Host } from '../host.ts';
import type { Hub } from '../hub.ts';
import type { FrontDoor } from '../issue.ts';
import { bodyBytesMax, drainMsMax, streamsMax, streamsPerAddressMax } from '../limits.ts';
import type { Log } from '../metrics.ts';
import type { Operator } from '../operator.ts';
import type { CouponStore } from '../ports.ts';
import type { StageLag } from '../stage.ts';
import type { StatusReader } from '../status.ts';
import type { Sealer } from '../task.ts';
import { createAccess } from './access.ts';
import { adminRoutes, lagRoute } from './admin.ts';
import { type AuthSettings, createAuth } from './auth.ts';
import { type BareConnection, BareConnections, Turn } from './bare.ts';
import {
  destroyIn,
  Faults,
  guardConnections,
  isLate,
  Pipelines,
  refuseUnreadable,
  tooManyPipelined,
} from './connection.ts';
import { couponRoutes } from './coupons.ts';
import type { Press } from './heads.ts';
import { healthRoutes } from './health.ts';
import { IssueRoute, issuePath } from './issue.ts';
import {
  backlogMax,
  closeIdleMs,
  connectionCheckMs,
  expiryCheckMs,
  headBytesMax,
  headersMsMax,
  keepAliveMs,
  paramLengthMax,
  requestMsMax,
  shutOutMsMax,
  unreadMsMax,
} from './limits.ts';
import { meRoutes } from './me.ts';
import { foreignFault, foreignPress, type Origin, originOf } from './origin.ts';
import { pageRoute } from './page.ts';
import {
  malformed,
  type NotOffered,
  type Problem,
  ProblemError,
  problem,
  problemOf,
  type Reply,
  replyOf,
  unavailable,
} from './problem.ts';
import type { Prometheus } from './prometheus.ts';
import { parseQuery, unescaped } from './query.ts';
import { createRates } from './rate.ts';
import { Replies } from './replies.ts';
import { Routes } from './routes.ts';
import { Streams } from './sse.ts';
import { taskRoutes, unknownTask } from './tasks.ts';
import type { Verify } from './verifications.ts';

export interface HttpSettings {
  host: string;
  /** 0 picks a free one. */
  port: number;
  auth: AuthSettings;
  /** False: this process only tells how it is, and takes no calls of users or operators. */
  api?: boolean | undefined;
  /** Requests for coupons a second; no limit when absent or 0. */
  ratePerUser?: number | undefined;
  ratePerAddress?: number | undefined;
  /** Requests that cannot be read a second; no limit when absent or 0. */
  faultsPerAddress?: number | undefined;
  /** Shown in /openapi.json. */
  version?: string | undefined;
}

export interface HttpTools {
  door: FrontDoor;
  status: StatusReader;
  hub: Hub;
  sealer: Sealer;
  operator: Operator;
  store: Pick<CouponStore, 'coupons' | 'stats' | 'setAside' | 'userCoupons' | 'redeem'>;
  /** Of the log. */
  partitions: number;
  /** Answers that one turn of the event loop may write; all when absent. */
  answersPerTurnMax?: number;
  /** Routes that answer 501, and why. */
  notOffered?: NotOffered;
  /** As in limits.ts where absent. */
  bounds?: Partial<Bounds>;
  host: Host;
  metrics: Prometheus;
  say: Log;
  settings: HttpSettings;
  lags(): StageLag[];
  ready(): { ok: boolean; why?: string };
  verify: Verify;
}

/** What a test can neither wait for nor fill up. */
export interface Bounds {
  headersMs: number;
  requestMs: number;
  /** How often connections are held against both. */
  expiryMs: number;
  /** The same of those that are not node:http's yet. */
  checkMs: number;
  unreadMs: number;
  /** A connection of an address that is shut out is kept this long. */
  shutOutMs: number;
  streams: number;
  streamsPerAddress: number;
}

const boundsMax: Bounds = {
  headersMs: headersMsMax,
  requestMs: requestMsMax,
  expiryMs: expiryCheckMs,
  checkMs: connectionCheckMs,
  unreadMs: unreadMsMax,
  shutOutMs: shutOutMsMax,
  streams: streamsMax,
  streamsPerAddress: streamsPerAddressMax,
};

export interface Listening {
  host: string;
  port: number;
  url: string;
}

export interface Http {
  /** Listens. May be called twice. */
  start(): Promise<Listening>;
  /** Ends streams, answers what was taken in, closes. May be called twice. */
  stop(): Promise<void>;
  /** 0 until it listens. */
  readonly port: number;
  /** Every route, `GET /coupons/:couponId`: who may call it is tested for each. */
  readonly routes: readonly string[];
}

export async function createHttp(tools: HttpTools): Promise<Http> {
  const { settings, say } = tools;
  const bounds = { ...boundsMax, ...tools.bounds };
  const front = createFront(tools, bounds);
  let server: Server | undefined;
  const app = Fastify({
    // Request logs cost more than half of what a route may; metrics count instead.
    logger: false,
    bodyLimit: bodyBytesMax,
    return503OnClosing: false,
    routerOptions: { maxParamLength: paramLengthMax, querystringParser: parseQuery },
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, allErrors: false, useDefaults: true } },
    frameworkErrors: (error, request, reply) => sendError(error, request, reply, say),
    clientErrorHandler: (error, socket) => front.unreadable(error, socket),
    serverFactory: handler => {
      server = createServer(optionsOf(bounds), front.listener(handler));
      server.timeout = bounds.unreadMs;
      if (settings.api !== false) front.takeBare(server, bounds);
      guardConnections(server, front.refuse, front.faults);
      return server;
    },
  });
  const routes = new Routes(app);
  // Only who has the API pays for the pages about it.
  const docs = settings.api === false ? undefined : await import('./docs.ts');
  await docs?.openApi(app, settings.version ?? '0', settings.auth);
  addHooks(app, say, routes);
  if (settings.auth.kind === 'none') ownOriginOnly(app, settings);
  addRoutes(app, tools, front);
  docs?.declareFront(app, front);
  if (settings.api !== false) await pageRoute(app);
  await app.ready();
  tools.metrics.watch({
    lags: tools.lags,
    streamsOpen: () => front.streams.open,
    pending: () => tools.door.pending,
  });
  return lifeOf(app, server as unknown as Server, front, tools.settings, routes.all);
}

const optionsOf = ({ headersMs, requestMs, expiryMs }: Bounds) => ({
  headersTimeout: headersMs,
  requestTimeout: requestMs,
  connectionsCheckingInterval: expiryMs,
  keepAliveTimeout: keepAliveMs,
  maxHeaderSize: headBytesMax,
  // We refuse it ourselves, in the form of all errors.
  requireHostHeader: false,
});

type Handler = (req: IncomingMessage, res: ServerResponse) => void;
type Front = ReturnType<typeof createFront>;

/** What is served in front of fastify, and how both share what they share. */
function createFront(tools: HttpTools, bounds: Bounds) {
  const { settings, host, say } = tools;
  const auth = createAuth(settings.auth, host, say);
  const replies = new Replies(say, tools.answersPerTurnMax);
  const rates = createRates(settings, host);
  const shared = { ...tools, auth, rates, replies };
  const issue = new IssueRoute(shared);
  const streams = new Streams({ ...shared, bounds });
  const pipelines = new Pipelines();
  const faults = new Faults(settings.faultsPerAddress, host, bounds.shutOutMs);
  const late = new Turn();
  const stopping = closing({ ...unavailable, detail: 'this server is stopping' });
  const nameless = closing(malformed('the header Host is missing'));
  const crowded = closing(tooManyPipelined);
  const unknown = replyOf(unknownTask);
  const api = settings.api !== false;
  /** Undefined for who may press. */
  const foreign = (from: Origin): Reply | undefined => {
    const fault = settings.auth.kind === 'none' ? foreignPress(from, settings) : undefined;
    return fault && closing(fault);
  };
  const endLater = (socket: Socket) => destroyIn(bounds.unreadMs, socket, host);
  let isStopping = false;
  let bare: BareConnections | undefined;
  return {
    auth,
    faults,
    replies,
    issue,
    streams,
    unreadable(error: Error & { code?: string }, socket: Socket) {
      if (!isLate(error)) return refuseUnreadable(error, socket, faults, endLater);
      // Node finds all that are late at once: a crowd of them may have come at once.
      late.wait(() => {
        late.use(1);
        refuseUnreadable(error, socket, faults, endLater);
      });
    },
    refuse: (res: ServerResponse, fault: Problem) => replies.send(res, closing(fault)),
    takeBare(server: Server, { checkMs, unreadMs }: Bounds) {
      const serve = (connection: BareConnection, { couponId, asked, from }: Press) => {
        const refusal = isStopping ? stopping : foreign(from);
        if (refusal) replies.send(connection, refusal);
        else issue.press(connection, couponId, asked);
      };
      const isStrange = (segment: string) => !isStopping && !mayBeGiven(segment, tools.sealer);
      bare = new BareConnections(server, {
        ...{ host, bounds: { checkMs, unreadMs }, serve },
        ...{ isStrange, stranger: unknown },
      });
    },
    stop() {
      isStopping = true;
      streams.stop();
      replies.flushNow();
    },
    closeIdle() {
      bare?.closeIdle();
      faults.endKept();
    },
    closeAll: () => bare?.closeAll(),
    listener:
      (handler: Handler): Handler =>
      (req, res) => {
        if (isStopping) return replies.send(res, stopping);
        if (req.headers.host === undefined && req.httpVersionMinor === 1) return replies.send(res, nameless);
        // Without a socket: another answer is under way on it.
        if (res.socket === null && !pipelines.admit(req.socket, res)) {
          faults.note(req.socket);
          return replies.send(res, crowded);
        }
        if (!api) return handler(req, res);
        const { method } = req;
        const url = req.url as string;
        if (method === 'POST') {
          const couponId = between(url, '/coupons/', '/issue');
          if (couponId !== undefined) {
            const refusal = foreign(originOf(req));
            return refusal ? replies.send(res, refusal) : issue.serve(req, res, couponId);
          }
        } else if (method === 'GET' || method === 'HEAD') {
          const taskId = between(url, '/tasks/', '/events');
          if (taskId !== undefined) return streams.serve(req, res, taskId);
          // Through fastify, a task id that nobody was given would cost three times as much.
          const made = between(url, '/tasks/', '');
          if (made && !mayBeGiven(made, tools.sealer)) return replies.send(res, unknown);
        }
        handler(req, res);
      },
  };
}

/** The connection ends after it. */
const closing = (fault: Problem): Reply => ({
  ...replyOf({ ...fault, headers: ['connection', 'close'] }),
  ends: true,
});

/** The one path segment between both, if the path is that. A query is ignored. */
function between(url: string, head: string, tail: string): string | undefined {
  if (!url.startsWith(head)) return undefined;
  const query = url.indexOf('?', head.length);
  const end = (query < 0 ? url.length : query) - tail.length;
  if (end < head.length || !url.startsWith(tail, end)) return undefined;
  const segment = url.slice(head.length, end);
  return segment.includes('/') ? undefined : segment;
}

/** `segment` stands in a path. A broken escape: what is said of those elsewhere is said of it. */
function mayBeGiven(segment: string, sealer: Sealer): boolean {
  const taskId = unescaped(segment);
  return taskId === undefined || sealer.knows(taskId);
}

function addHooks(app: FastifyInstance, say: Log, routes: Routes): void {
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('x-content-type-options', 'nosniff');
  });
  // Where no body is needed none may be there.
  app.addHook('preValidation', async request => {
    if (request.body === undefined && request.method === 'POST') request.body = {};
  });
  app.removeAllContentTypeParsers();
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined);
    else void parse(request, body as string, done);
  });
  app.setErrorHandler((error: FastifyError, request, reply) => sendError(error, request, reply, say));
  app.setNotFoundHandler((request, reply) => {
    const allow = routes.methodsOf(request.url);
    const here = `${request.method} ${request.url.split('?', 1)[0]?.slice(0, 200)}`;
    const missing =
      allow.length === 0
        ? problem('NOT_FOUND', `there is no ${here}`)
        : problem('METHOD_NOT_ALLOWED', `there is no ${here}`, { headers: ['allow', allow.join(', ')] });
    sendProblem(reply, missing);
  });
}

function ownOriginOnly(app: FastifyInstance, settings: HttpSettings): void {
  app.addHook('onRequest', async request => {
    const isPress = request.routeOptions.url === issuePath;
    const fault = (isPress ? foreignPress : foreignFault)(originOf(request.raw), settings);
    if (fault) throw new ProblemError(fault);
  });
}

function addRoutes(app: FastifyInstance, tools: HttpTools, front: Front): void {
  const shared = { ...tools, access: createAccess(front.auth) };
  healthRoutes(app, shared);
  lagRoute(app, shared);
  if (tools.settings.api === false) return;
  taskRoutes(app, shared);
  meRoutes(app, shared);
  couponRoutes(app, shared);
  adminRoutes(app, shared);
}

function sendError(error: FastifyError, request: FastifyRequest, reply: FastifyReply, say: Log): void {
  const known = problemOf(error);
  if (!known) {
    // The route's pattern, not its address: an id may be a capability.
    const route = `${request.method} ${request.routeOptions?.url ?? '?'}`;
    say('error', `${route} failed: ${messageOf(error)}`, { stack: error.stack });
  }
  sendProblem(reply, known ?? problem('INTERNAL', 'the operator finds the reason in the log'));
}

function sendProblem(reply: FastifyReply, of: Problem): void {
  const { status, headers, body } = replyOf(of);
  reply.code(status);
  for (let i = 0; i < headers.length; i += 2) reply.header(headers[i] as string, headers[i + 1]);
  reply.send(body);
}

function lifeOf(
  app: FastifyInstance,
  server: Server,
  front: Front,
  { host, port }: HttpSettings,
  routes: readonly string[],
): Http {
  let started: Promise<Listening> | undefined;
  let stopped: Promise<void> | undefined;
  const portNow = () => (server.address() as AddressInfo | null)?.port ?? 0;
  const stop = async () => {
    front.stop();
    // Closing hangs on connections that are kept for a next request; those with a request get their answer.
    const idle = setInterval(() => {
      front.closeIdle();
      server.closeIdleConnections();
    }, closeIdleMs);
    const late = setTimeout(() => {
      front.closeAll();
      server.closeAllConnections();
    }, drainMsMax);
    try {
      await app.close();
    } finally {
      clearInterval(idle);
      clearTimeout(late);
    }
  };
  return {
    routes,
    start() {
      started ??= app.listen({ host, port, backlog: backlogMax }).then(() => {
        const name = host.includes(':') ? `[${host}]` : host;
        return { host, port: portNow(), url: `http://${name}:${portNow()}` };
      });
      return started;
    },
    stop() {
      stopped ??= stop();
      return stopped;
    },
    get port() {
      return portNow();
    },
  };
}
