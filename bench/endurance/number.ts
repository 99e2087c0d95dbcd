/** What each number to reach is given, and what it gives back. */
import type { Cluster } from '../cluster.ts';

export interface Ground {
  /** Real servers of this run's own, which may be broken. Started when first asked for. */
  cluster(): Promise<Cluster>;
  say(line: string): void;
  /** Smaller than what is asked for, for trying: 1 is the whole. */
  scale: number;
  rounds: number;
}

export interface Reached {
  number: string;
  toReach: string;
  measured: string;
  reached: boolean;
  /** What the service promised on any machine is not so. */
  broken?: boolean;
}

export const verdictOf = ({ reached, broken }: Reached): string => (broken ? 'BROKEN' : reached ? 'reached' : 'SHORT');

export interface Endurance {
  name: string;
  /** One sentence for `--help`. */
  about: string;
  run(ground: Ground): Promise<Reached[]>;
}

const thousand = 1_000;

/** `12.3 k`, or the whole number below a thousand. */
export const k = (n: number): string => (n < thousand ? n.toFixed(0) : `${(n / thousand).toFixed(1)} k`);

export const seconds = (ms: number): string => `${(ms / thousand).toFixed(1)} s`;
