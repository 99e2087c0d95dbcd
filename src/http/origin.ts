/**
 * With auth `none` whoever reaches the server is an operator, and a browser on the same machine reaches it for any page
 * that it shows. So a page of another origin may not change anything, and a name that was bent to loopback is refused.
 */
import type { IncomingMessage } from 'node:http';
import { isLoopback } from '../config.ts';
import { type Problem, problem } from './problem.ts';

const ownNameOnly = problem('FORBIDDEN', 'without tokens this server answers to its own address only');
const ownPagesOnly = problem('FORBIDDEN', 'without tokens no page of another origin may do this');
const safeMethods = new Set(['GET', 'HEAD', 'OPTIONS']);
/** What a browser says of a request that no other site's page made. */
const ownSites = new Set([undefined, 'same-origin', 'none']);

export interface OriginRules {
  /** The address the server listens on. */
  host: string;
  corsOrigin: string | undefined;
}

export function foreignFault({ method, headers }: IncomingMessage, rules: OriginRules): Problem | undefined {
  const { host: asked = '', origin } = headers;
  if (safeMethods.has(method ?? '')) return undefined;
  const name = URL.parse(`http://${asked}`)?.hostname ?? '';
  if (isLoopback(rules.host) && !isLoopback(name) && name !== rules.host) return ownNameOnly;
  if (origin !== undefined && allows(rules.corsOrigin, origin)) return undefined;
  const isOwn = origin === undefined || URL.parse(origin)?.host === asked;
  return ownSites.has(headers['sec-fetch-site'] as string | undefined) && isOwn ? undefined : ownPagesOnly;
}

const allows = (corsOrigin: string | undefined, origin: string): boolean =>
  corsOrigin === '*' || (corsOrigin !== undefined && corsOrigin !== '' && corsOrigin === origin);
