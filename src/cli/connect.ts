/** What every command that talks to a server shares: its options, its client, its sentence when things fail. */
import { type Client, createClient, ProblemError, UnansweredError, UnreachableError } from '../client/index.ts';
import { plain } from './terminal.ts';

export interface ServerOptions {
  url: string;
  token?: string;
  json?: boolean;
}

export const connect = ({ url, token }: ServerOptions): Client => createClient({ baseUrl: url, token });

/**
 * Without slashes at its end. Undefined with a user or password in it too, or with a query or fragment: errors name the
 * address, and paths are put behind it, where those would swallow them.
 */
export function baseUrlOf(text: string): string | undefined {
  const url = URL.parse(text);
  if (!url || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') return undefined;
  if (/[?#]/.test(text)) return undefined;
  return text.replace(/\/+$/, '');
}

/** Exit codes, as `dibs --help` explains them. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** Something to say in one sentence; the command ends with `code`. */
export class CommandError extends Error {
  override name = 'CommandError';
  readonly code: number;

  constructor(message: string, code: number = exitCodes.failed) {
    super(message);
    this.code = code;
  }
}

/** Fires at the first Ctrl-C (or SIGTERM); a second one ends the process there and then. */
export function interruption(): { signal: AbortSignal; [Symbol.dispose](): void } {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted);
    controller.abort(new CommandError('stopped', exitCodes.interrupted));
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
    },
  };
}

/** One sentence with the remedy. Undefined for what is a defect of ours: that deserves its stack. */
export function sentenceOf(error: unknown, url: string): string | undefined {
  if (error instanceof CommandError) return error.message;
  if (error instanceof UnansweredError) {
    const { cause } = error;
    if (cause instanceof UnreachableError) return unreachable(cause, url);
    return `${plain(error.message)}; claim again with --key ${plain(error.key)}, it is the same request`;
  }
  if (error instanceof UnreachableError) return unreachable(error, url);
  if (error instanceof ProblemError) return problem(error, url);
  // Of `serve`: by name, so that the other commands load no server.
  if (error instanceof Error && /^(Unavailable|Alarm|NotAccepted|OutcomeUnknown)$/.test(error.name))
    return error.message;
  return undefined;
}

function unreachable(error: UnreachableError, url: string): string {
  if (/ECONNREFUSED/.test(`${error.message} ${codeOf(error)}`)) {
    return `nothing answers at ${url}: start it with \`npm start\`, or name another server with --url`;
  }
  if (/ENOTFOUND|EAI_AGAIN/.test(`${error.message} ${codeOf(error)}`)) {
    return `there is no host as in ${url}: check --url or DIBS_URL`;
  }
  return `no answer from ${url} (${plain(error.message)}): check --url, and the server's log`;
}

function codeOf(error: unknown): string {
  for (let e = error, depth = 0; e instanceof Error && depth < 5; e = e.cause, depth++) {
    const { code } = e as { code?: unknown };
    if (typeof code === 'string') return code;
  }
  return '';
}

function problem({ code, detail, status }: ProblemError, url: string): string {
  const said = plain(detail).replace(/\.$/, '');
  switch (code) {
    case 'UNAUTHENTICATED':
      return `${said} (${code}): give a valid token with --token or DIBS_TOKEN`;
    case 'FORBIDDEN':
      return `${said} (${code}): give the token of an admin with --token or DIBS_TOKEN`;
    case 'UNKNOWN_COUPON':
      return `${said} (${code}): \`dibs coupon list\` shows those that there are`;
    case 'COUPON_EXISTS':
      return `${said} (${code}): choose another id, or see it with \`dibs coupon show\``;
    case 'NO_STREAM':
    case 'NOT_DIBS':
    case 'HTTP_404':
    case 'HTTP_405':
      return `${url} answers (${status}), but not as dibs does: check --url or DIBS_URL`;
    default:
      return `${said} (${code})`;
  }
}
