/** What `GET /metrics` shows, in the Prometheus text format. Labels are operation names, states and counts: never ids. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { lifecycles } from './domain/lifecycles.ts';
import type { Store } from './store/store.ts';

export interface Metrics {
  readonly answered: (operation: string, status: number, seconds: number) => void;
  readonly moved: (kind: string, state: string) => void;
  readonly render: () => Promise<{ contentType: string; body: string }>;
}

/** Rows further than this are not counted: the number is there to show that work piles up. */
const QUEUE_COUNT_MAX = 10_000;

export function createMetrics(store: Store, now: () => number, imageBytes: () => Promise<number>): Metrics {
  const registers = [new Registry()];
  const requests = new Counter({
    name: 'backlot_requests_total',
    help: 'Answered requests',
    labelNames: ['operation', 'status'],
    registers,
  });
  const durations = new Histogram({
    name: 'backlot_request_duration_seconds',
    help: 'Time from a request to its answer',
    labelNames: ['operation'],
    buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],
    registers,
  });
  const transitions = new Counter({
    name: 'backlot_transitions_total',
    help: 'Moves of resources into a state by background work',
    labelNames: ['kind', 'state'],
    registers,
  });
  new Gauge({
    name: 'backlot_queue_depth',
    help: 'Rows whose background work is due',
    labelNames: ['kind', 'state'],
    registers,
    async collect() {
      for (const lifecycle of lifecycles) {
        for (const [state, { work }] of Object.entries(lifecycle.states)) {
          if (!work) continue;
          const query = { kind: lifecycle.kind, state, dueBy: now(), limit: QUEUE_COUNT_MAX };
          this.set({ kind: lifecycle.kind, state }, await store.count(query));
        }
      }
    },
  });
  new Gauge({
    name: 'backlot_image_bytes',
    help: 'Bytes that encrypted copies of images take on disk',
    registers,
    async collect() {
      this.set(await imageBytes());
    },
  });
  new Gauge({
    name: 'backlot_resident_bytes',
    help: 'Memory of this process',
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  return {
    answered: recorder(requests, durations),
    moved: (kind, state) => transitions.inc({ kind, state }),
    render: async () => ({ contentType: registers[0]!.contentType, body: await registers[0]!.metrics() }),
  };
}

/** Looks each label set up once: doing so for every request would cost more than the counting. */
function recorder(requests: Counter<'operation' | 'status'>, durations: Histogram<'operation'>): Metrics['answered'] {
  const counters = new Map<string, Map<number, ReturnType<typeof requests.labels>>>();
  const histograms = new Map<string, ReturnType<typeof durations.labels>>();
  return (operation, status, seconds) => {
    let byStatus = counters.get(operation);
    if (!byStatus) {
      byStatus = new Map();
      counters.set(operation, byStatus);
      histograms.set(operation, durations.labels({ operation }));
    }
    let counter = byStatus.get(status);
    if (!counter) {
      counter = requests.labels({ operation, status: String(status) });
      byStatus.set(status, counter);
    }
    counter.inc();
    histograms.get(operation)!.observe(seconds);
  };
}
