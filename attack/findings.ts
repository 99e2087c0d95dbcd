/** What of the figures is a finding. */
import type { MedianRange } from '../bench/rounds.ts';
import type { Kept } from './throughput.ts';

/** An event loop that is late by more has stood still, ms. */
const stalledMsMax = 100;
/** What honest users are to keep of their throughput. */
const keptMin = 0.9;

export const ms = (n: number): string => `${n.toFixed(n < 100 ? 1 : 0)} ms`;
export const range = ({ median, low, high }: MedianRange): string =>
  `${median.toFixed(3)} (${low.toFixed(2)} to ${high.toFixed(2)})`;

/** Of a server that has processors to spare. `when`: what it was asked meanwhile. */
export function late(stalledMs: number, when: string): string[] {
  return stalledMs > stalledMsMax ? [`the event loop was ${ms(stalledMs)} late, ${when}`] : [];
}

/** `beside`: those whose figures are judged. */
export function throughputFindings(kept: readonly Kept[], beside: (of: Kept) => boolean): string[] {
  return kept.flatMap(k => [
    ...(beside(k) ? [...short(k), ...lateBeside(k)] : []),
    ...k.errors.map(line => `beside ${k.behaviour} the server said ${line.slice(0, 1_000)}`),
  ]);
}

const short = ({ behaviour, byWall }: Kept): string[] =>
  byWall.median < keptMin ? [`honest users keep ${range(byWall)} of their throughput beside ${behaviour}`] : [];

/** One that is late without the hostile client too has a machine that is short of processors: that is not its doing. */
function lateBeside({ behaviour, stalledMs: [beside, alone] }: Kept): string[] {
  if (beside <= stalledMsMax || alone > stalledMsMax) return [];
  return [`beside ${behaviour} the event loop was ${ms(beside)} late, and ${ms(alone)} alone; medians of the rounds`];
}
