/** What every measurement is given, and what it gives back. */
import type { Cluster } from './cluster.ts';
import type { Line } from './report.ts';
import type { Pace } from './rounds.ts';
import type { Measured } from './servers.ts';

export interface Bench {
  /** Of one measured stretch. */
  seconds: number;
  /** Before the first round, for each side. */
  warmSeconds: number;
  pace: Pace;
  /** Requests for coupons carry a body, as those of the echo do. */
  withBody: boolean;
  say(line: string): void;
  /** Started when first asked for, one for the whole run. */
  echo(): Promise<Measured>;
  cluster(): Promise<Cluster>;
  /** Where the server of a measurement shall leave its CPU profile; undefined when none is wanted. */
  profile(name: string): string | undefined;
}

export interface Found {
  lines: Line[];
  rounds: unknown[];
}

export interface Measurement {
  name: string;
  /** One sentence for `--help`. */
  about: string;
  /** It takes about this long with the default settings when no round is done again, s. */
  seconds: number;
  run(bench: Bench): Promise<Found>;
}
