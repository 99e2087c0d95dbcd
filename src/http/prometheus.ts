/** The core's Metrics on prom-client. Each label's child is bound once; what is read from elsewhere is read on demand. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { CounterName, HistogramName, Metrics } from '../metrics.ts';
import type { StageLag } from '../stage.ts';

/** Name at Prometheus, its label if it has one, and what it means: docs/operating.md prints this. */
export interface Explained {
  name: string;
  help: string;
  label?: string;
}

const counters = {
  accepted: { name: 'dibs_accepted_total', help: 'Requests answered 202: durable in the log.' },
  refused: {
    name: 'dibs_refused_total',
    help: 'Requests for a coupon that were refused before the log, by the code of the answer.',
    label: 'code',
  },
  decided: {
    name: 'dibs_decided_total',
    help: 'Requests decided by the reserve stage of this process, by decision.',
    label: 'decision',
  },
  issued: { name: 'dibs_issued_total', help: 'Rows of users committed by the persist stage of this process.' },
  set_aside: {
    name: 'dibs_set_aside_total',
    help: 'Entries set aside as dead letters, by the log they came from.',
    label: 'log',
  },
  retries: { name: 'dibs_retries_total', help: 'Batches that failed and are tried again, by stage.', label: 'stage' },
  rebuilds: { name: 'dibs_rebuilds_total', help: 'Times that the ledger was rebuilt from the store.' },
  streams_dropped: {
    name: 'dibs_streams_dropped_total',
    help: 'Streams cut because their reader left too many bytes unread.',
  },
} as const satisfies Record<CounterName, Explained>;

const histograms = {
  batch_size: {
    name: 'dibs_batch_size',
    help: 'Entries handled by one call, by what made it: filter, append, or a stage.',
    label: 'of',
    buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000],
  },
  batch_ms: {
    name: 'dibs_batch_ms',
    help: 'Milliseconds of one call, by what made it: append, or a stage.',
    label: 'of',
    buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 3000],
  },
  outcome_ms: {
    name: 'dibs_outcome_ms',
    help: "Milliseconds from the append of a batch's first winning request to the commit of its row.",
    buckets: [2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 15000, 60000],
  },
} as const satisfies Record<HistogramName, Explained & { buckets: readonly number[] }>;

const gauges = {
  lagEntries: { name: 'dibs_stage_lag_entries', help: 'Entries that a stage has still to handle.', label: 'stage' },
  lagMs: { name: 'dibs_stage_lag_ms', help: 'Age of the oldest entry that a stage has still to handle, ms.' },
  retrying: { name: 'dibs_stage_retrying', help: '1 while what a stage tried last has failed, and is tried again.' },
  stopped: { name: 'dibs_stage_stopped', help: '1 when a stage gave an alarm and waits for an operator.' },
  streams: { name: 'dibs_streams_open', help: 'Streams open in this process.' },
  pending: { name: 'dibs_pending_requests', help: 'Requests taken in by this process that have no answer yet.' },
} as const satisfies Record<string, Explained>;

export const explained: readonly Explained[] = [counters, histograms, gauges].flatMap(group => Object.values(group));

/** What is read when Prometheus asks. */
export interface Observed {
  lags(): StageLag[];
  streamsOpen(): number;
  pending(): number;
}

export interface Prometheus extends Metrics {
  /** Content type of `text`. */
  type: string;
  watch(observed: Observed): void;
  text(): Promise<string>;
}

/** Event-loop delay is sampled this often, ms: finer costs an idle process more. */
const loopSampleMs = 100;

export function createMetrics(): Prometheus {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: loopSampleMs });
  const registers = [registry];
  const count = bind(counters, of => {
    const counter = new Counter({ ...base(of), registers });
    return label => {
      const child = label === undefined ? counter : counter.labels(label);
      return by => child.inc(by);
    };
  });
  const observe = bind(histograms, of => {
    const histogram = new Histogram({ ...base(of), buckets: [...of.buckets], registers });
    return label => {
      const child = label === undefined ? histogram : histogram.labels(label);
      return value => child.observe(value);
    };
  });
  return {
    count: (name, by, label) => count(name, label)(by),
    observe: (name, value, label) => observe(name, label)(value),
    type: registry.contentType,
    watch: observed => watch(observed, registers),
    text: () => registry.metrics(),
  };
}

const base = ({ name, help, label }: Explained) => ({ name, help, labelNames: label === undefined ? [] : [label] });

type Child = (value: number) => void;

/** The child of a name and label, made when it is first needed. */
function bind<N extends string, E extends Explained>(
  table: Record<N, E>,
  make: (of: E) => (label: string | undefined) => Child,
): (name: N, label: string | undefined) => Child {
  const families = new Map<N, (label: string | undefined) => Child>();
  for (const name of Object.keys(table) as N[]) families.set(name, make(table[name]));
  const children = new Map<string, Child>();
  return (name, label) => {
    const id = label === undefined ? name : `${name} ${label}`;
    let child = children.get(id);
    if (!child) {
      child = (families.get(name) as (label: string | undefined) => Child)(label);
      children.set(id, child);
    }
    return child;
  };
}

function watch({ lags, streamsOpen, pending }: Observed, registers: Registry[]): void {
  const byStage = (of: Explained, value: (lag: StageLag) => number) =>
    new Gauge({
      ...of,
      labelNames: ['stage', 'partition'],
      registers,
      collect() {
        this.reset();
        for (const lag of lags()) this.labels(lag.stage, String(lag.partition)).set(value(lag));
      },
    });
  byStage(gauges.lagEntries, lag => lag.lagEntries);
  byStage(gauges.lagMs, lag => lag.lagMs);
  byStage(gauges.retrying, lag => (lag.state === 'retrying' ? 1 : 0));
  byStage(gauges.stopped, lag => (lag.state === 'stopped' ? 1 : 0));
  const single = (of: Explained, read: () => number) =>
    new Gauge({
      ...of,
      registers,
      collect() {
        this.set(read());
      },
    });
  single(gauges.streams, streamsOpen);
  single(gauges.pending, pending);
}
