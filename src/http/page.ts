/** The page at `/`: coupons, a button, and the place in the line. One file, no other origin, a strict policy. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { FastifyInstance } from 'fastify';

export async function pageRoute(app: FastifyInstance): Promise<void> {
  const html = await readFile(new URL('./page.html', import.meta.url), 'utf8');
  const policy = [
    "default-src 'none'",
    `script-src '${sourceHash(html, 'script')}'`,
    `style-src '${sourceHash(html, 'style')}'`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
  app.get('/', { schema: { hide: true } }, async (_request, reply) =>
    reply
      .type('text/html; charset=utf-8')
      .header('content-security-policy', policy)
      .header('referrer-policy', 'no-referrer')
      .send(html),
  );
}

/** CSP's name of the one inline element of this kind. */
function sourceHash(html: string, tag: 'script' | 'style'): string {
  const source = html.slice(html.indexOf(`<${tag}>`) + tag.length + 2, html.indexOf(`</${tag}>`));
  return `sha256-${createHash('sha256').update(source).digest('base64')}`;
}
