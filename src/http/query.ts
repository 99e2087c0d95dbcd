import { parse } from 'node:querystring';

/** `limit` is the only number of any query: it alone is made one, so that schemas need not coerce anything else. */
export function parseQuery(text: string): Record<string, unknown> {
  const query: Record<string, unknown> = { ...parse(text) };
  const { limit } = query;
  if (typeof limit === 'string' && /^-?[0-9]{1,9}$/.test(limit)) query.limit = Number(limit);
  return query;
}

/** What stands between two slashes of a path, without its escapes; undefined where one of those is broken. */
export function unescaped(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment);
  } catch {
    // Nothing is named so.
    return undefined;
  }
}
