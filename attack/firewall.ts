/** The rules of examples/firewall.nft, for some ports of this machine and for as long as somebody attacks them. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { find, install } from '../scripts/services/program.ts';

const rules = join(import.meta.dirname, '..', 'examples', 'firewall.nft');
/** A root that is not at a terminal may have a PATH without it. */
const folders = ['/usr/sbin', '/sbin'];
/** Beside those of an operator, and of another attack. */
const table = `dibs_attack_${process.pid}`;

/** Why this machine's rules cannot be changed, if so. Gets `nft` where that can be had. */
export async function noFirewall(say: (line: string) => void): Promise<string | undefined> {
  try {
    if (!find('nft', folders)) await install(['nftables'], [], say);
    // The kernel is asked whether it would take them, too.
    nft(['--check', '-f', '-'], rulesFor([1]));
    return undefined;
  } catch (error) {
    return `the firewall's rules are not tried: ${error instanceof Error ? error.message : error}`;
  }
}

/** In force until disposed of, or the process ends. One at a time. */
export function firewall(ports: readonly number[]): Disposable {
  nft(['-f', '-'], rulesFor(ports));
  const end = () => {
    process.off('exit', end);
    nft(['delete', 'table', 'inet', table]);
  };
  process.on('exit', end);
  return { [Symbol.dispose]: end };
}

const rulesFor = (ports: readonly number[]): string =>
  readFileSync(rules, 'utf8')
    .replace(/^define ports = .*$/m, `define ports = { ${ports.join(', ')} }`)
    .replace(/^table inet dibs /m, `table inet ${table} `);

function nft(args: readonly string[], input?: string): void {
  execFileSync(find('nft', folders) ?? 'nft', args, { input, stdio: ['pipe', 'ignore', 'pipe'], timeout: 10_000 });
}
