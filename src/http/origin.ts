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
}

/** What a request says of where it comes from: its method and three of its headers. */
export interface Origin {
  method: string;
  host: string | undefined;
  origin: string | undefined;
  site: string | undefined;
}

export const originOf = ({ method = '', headers }: IncomingMessage): Origin => ({
  ...{ method, host: headers.host, origin: headers.origin },
  site: headers['sec-fetch-site'] as string | undefined,
});

export function foreignFault(
  { method, host: asked = '', origin, site }: Origin,
  rules: OriginRules,
): Problem | undefined {
  if (safeMethods.has(method)) return undefined;
  const name = URL.parse(`http://${asked}`)?.hostname ?? '';
  if (isLoopback(rules.host) && !isLoopback(name) && name !== rules.host) return ownNameOnly;
  const isOwn = origin === undefined || URL.parse(origin)?.host === asked;
  return ownSites.has(site) && isOwn ? undefined : ownPagesOnly;
}

/** The same of the button, which load tools press under any name: a browser says one of the two with every POST. */
export const foreignPress = (from: Origin, rules: OriginRules): Problem | undefined =>
  from.origin === undefined && from.site === undefined ? undefined : foreignFault(from, rules);
