/** What `GET /metrics` shows, in the Prometheus text format. Labels are operation names, states and counts: never ids. */
import type { AccessLevel } from './contract/operation.ts';
import { KIND } from './domain/kinds.ts';
import { lifecycleOf, lifecycles } from './domain/lifecycles.ts';
import { ServiceError } from './errors.ts';
import type { ViewerMetrics } from './gateway/viewers.ts';
import { Counter, Gauge, Histogram, type Metric, type MetricRegistry, Registry } from './prom-client.ts';
import type { Row, Store } from './store/store.ts';

export interface Metrics {
  readonly answered: (operation: string, status: number, seconds: number) => void;
  readonly moved: (row: Row, before: Row) => void;
  /** Of a session. */
  readonly workstationEnded: () => void;
  /** A call that ended in an error; by nobody where it never became known who called. */
  readonly refused: (error: unknown, access: AccessLevel, isKnown: boolean) => void;
  readonly auditOmitted: (lines: number) => void;
  readonly streams: ViewerMetrics;
  readonly render: () => Promise<{ contentType: string; body: string }>;
}

/** Rows further than this are not counted: the numbers are there to show that something piles up. */
const ROW_COUNT_MAX = 10_000;

export function createMetrics(store: Store, now: () => number, imageBytes: () => Promise<number>): Metrics {
  const registers = [new Registry()];
  const requests = new RequestCounts();
  requests.showIn(registers[0]!);
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
          const query = { kind: lifecycle.kind, state, dueBy: now(), limit: ROW_COUNT_MAX };
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
  const sessions = createSessionMetrics(registers, store, now);
  return {
    answered: requests.answered,
    moved: (row, before) => {
      transitions.inc({ kind: row.kind, state: row.state });
      sessions.moved(row, before);
    },
    workstationEnded: sessions.workstationEnded,
    ...createRefusalCounts(registers),
    streams: createStreamMetrics(registers),
    render: async () => ({ contentType: registers[0]!.contentType, body: await registers[0]!.metrics() }),
  };
}

/** In seconds. */
const START_BUCKETS = [1, 3, 10, 30, 60, 120, 300, 600];

function createSessionMetrics(
  registers: MetricRegistry[],
  store: Store,
  now: () => number,
): Pick<Metrics, 'moved' | 'workstationEnded'> {
  const states = Object.keys(lifecycleOf(KIND.streamingSession).states).filter((state) => state !== 'DELETED');
  new Gauge({
    name: 'backlot_sessions',
    help: 'Streaming sessions by state, those of all servers on one database',
    labelNames: ['state'],
    registers,
    async collect() {
      for (const state of states) {
        this.set({ state }, await store.count({ kind: KIND.streamingSession, state, limit: ROW_COUNT_MAX }));
      }
    },
  });
  const created = new Histogram({
    name: 'backlot_session_create_seconds',
    help: 'Time from the creation of a session to the moment that it was READY',
    buckets: START_BUCKETS,
    registers,
  });
  const ended = new Counter({
    name: 'backlot_workstations_ended_total',
    help: 'Workstations that ended by themselves while their session was READY',
    registers,
  });
  return {
    moved: (row, before) => {
      if (row.kind !== KIND.streamingSession || before.state !== 'CREATE_IN_PROGRESS' || row.state !== 'READY') return;
      created.observe((now() - row.createdAt) / 1_000);
    },
    workstationEnded: () => ended.inc(),
  };
}

/** Labels are names of errors, codes and classes, of which the code has a fixed number each. */
function createRefusalCounts(registers: MetricRegistry[]): Pick<Metrics, 'refused' | 'auditOmitted'> {
  const throttled = new Counter({
    name: 'backlot_throttled_requests_total',
    help: 'Calls that were told to wait, by class (read or write) and code',
    labelNames: ['class', 'code'],
    registers,
  });
  const quotas = new Counter({
    name: 'backlot_quota_refusals_total',
    help: 'Calls that a quota had no room for, by code of the quota',
    labelNames: ['code'],
    registers,
  });
  const strangers = new Counter({
    name: 'backlot_unauthenticated_requests_total',
    help: 'Calls of operations by nobody who is known, by error',
    labelNames: ['error'],
    registers,
  });
  const omitted = new Counter({
    name: 'backlot_audit_omitted_total',
    help: 'Lines of the audit that were left out, because there were too many or the database did not take them',
    registers,
  });
  return {
    refused: (error, access, isKnown) => {
      if (!(error instanceof ServiceError)) return;
      const { name, status, code = '' } = error;
      if (!isKnown && status === 403) strangers.inc({ error: name });
      if (name === 'ServiceQuotaExceededException') quotas.inc({ code });
      if (name === 'ThrottlingException') throttled.inc({ class: access === 'Read' ? 'read' : 'write', code });
    },
    auditOmitted: (lines) => omitted.inc(lines),
  };
}

/** In seconds: a piece of picture that waits longer than a screen takes to be drawn is one that is seen to be late. */
const RELAY_BUCKETS = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 1];

function createStreamMetrics(registers: MetricRegistry[]): ViewerMetrics {
  const now = new Gauge({ name: 'backlot_viewers', help: 'Windows that show a desktop', registers });
  const endings = new Counter({
    name: 'backlot_viewers_ended_total',
    help: 'Windows that no longer show a desktop, by reason',
    labelNames: ['reason'],
    registers,
  });
  const bytes = new Counter({
    name: 'backlot_stream_bytes_total',
    help: 'Bytes between desktops and viewers, by direction',
    labelNames: ['direction'],
    registers,
  });
  const relay = new Histogram({
    name: 'backlot_relay_seconds',
    help: 'Time from the arrival of a piece of picture to its being handed to the network',
    buckets: RELAY_BUCKETS,
    registers,
  });
  return {
    connected: () => now.inc(),
    ended: (reason) => {
      now.dec();
      endings.inc({ reason });
    },
    toViewer: (count, seconds) => {
      bytes.inc({ direction: 'to_viewer' }, count);
      relay.observe(seconds);
    },
    fromViewer: (count) => bytes.inc({ direction: 'from_viewer' }, count),
  };
}

/** In seconds; what takes longer than the last is counted beyond it. */
const DURATION_BUCKETS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3];

interface OperationCounts {
  readonly byStatus: Map<number, number>;
  /** Answers within each of DURATION_BUCKETS and not within the one before it; at the end those beyond. */
  readonly byDuration: number[];
  seconds: number;
}

/**
 * Answers by operation, status and duration. Every request is counted, so counting is three additions, and only a scrape
 * pays for labels: prom-client's own counter and histogram look their labels up again for each observation.
 */
class RequestCounts {
  readonly #operations = new Map<string, OperationCounts>();

  readonly answered = (operation: string, status: number, seconds: number): void => {
    let counts = this.#operations.get(operation);
    if (!counts) {
      counts = { byStatus: new Map(), byDuration: new Array(DURATION_BUCKETS.length + 1).fill(0), seconds: 0 };
      this.#operations.set(operation, counts);
    }
    counts.byStatus.set(status, (counts.byStatus.get(status) ?? 0) + 1);
    let bucket = 0;
    while (bucket < DURATION_BUCKETS.length && seconds > DURATION_BUCKETS[bucket]!) bucket += 1;
    counts.byDuration[bucket]! += 1;
    counts.seconds += seconds;
  };

  showIn(registry: MetricRegistry): void {
    const operations = this.#operations;
    new Counter({
      name: 'backlot_requests_total',
      help: 'Answered requests',
      labelNames: ['operation', 'status'],
      registers: [registry],
      collect() {
        this.reset();
        for (const [operation, { byStatus }] of operations) {
          for (const [status, count] of byStatus) this.inc({ operation, status: String(status) }, count);
        }
      },
    });
    const name = 'backlot_request_duration_seconds';
    const about = { name, help: 'Time from a request to its answer', type: 'histogram', aggregator: 'sum' };
    const histogram = {
      ...about,
      get: async () => ({
        ...about,
        values: [...operations].flatMap(([operation, counts]) => histogramOf(name, operation, counts)),
      }),
    };
    // The registry asks no more of a metric than its name and `get`; the type wants one of prom-client's own classes.
    registry.registerMetric(histogram as unknown as Metric);
  }
}

/** The series of one operation, in which each bucket holds those before it as well. */
function histogramOf(name: string, operation: string, { byDuration, seconds }: OperationCounts) {
  let count = 0;
  const buckets = byDuration.map((more, index) => {
    count += more;
    const le = DURATION_BUCKETS[index] ?? '+Inf';
    return { metricName: `${name}_bucket`, labels: { le, operation }, value: count };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels: { operation }, value: seconds },
    { metricName: `${name}_count`, labels: { operation }, value: count },
  ];
}
