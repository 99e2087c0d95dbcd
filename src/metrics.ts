/**
 * What the core counts. The core only speaks these names; src/http/prometheus.ts gives them to Prometheus, with the
 * explanations that docs/operating.md prints. Called once a batch, never once an entry.
 */
export type CounterName =
  | 'accepted'
  /** Label: code. */
  | 'refused'
  /** Label: won, lost, malformed. The reasons of those who lost are in GET /coupons/{couponId}/stats. */
  | 'decided'
  | 'issued'
  /** Label: the log it was set aside from. */
  | 'set_aside'
  /** Label: stage. */
  | 'retries'
  | 'rebuilds'
  | 'streams_dropped';

export type HistogramName =
  /** Label: append, filter, or the stage. Entries. */
  | 'batch_size'
  /** ms from the append of a request to the commit of its row. */
  | 'outcome_ms'
  /** Label: append, or the stage. ms of one call. */
  | 'batch_ms';

export interface Metrics {
  count(name: CounterName, by: number, label?: string): void;
  observe(name: HistogramName, value: number, label?: string): void;
}

export const noMetrics: Metrics = { count() {}, observe() {} };

export type Level = 'debug' | 'info' | 'warn' | 'error';
/** One line for people; never a secret, never an entry's bytes. */
export type Log = (level: Level, message: string, fields?: Record<string, unknown>) => void;
