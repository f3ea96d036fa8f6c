/**
 * What the states of a stream ask for: it gets an address when its desktop can be reached, and loses it when its time is
 * over. The ticket in the address is made here and leaves as a digest and sealed, never as it is.
 */
import { hash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { type Compute, ComputeFailure } from '../compute/compute.ts';
import { KIND } from '../domain/kinds.ts';
import type { Lifecycle } from '../domain/lifecycle.ts';
import {
  NO_TICKET,
  type StreamingSessionStreamPrivate,
  streamingSessionStreamLifecycle,
} from '../domain/streaming-session-stream.ts';
import type { Ids } from '../ids.ts';
import type { Keys } from '../keys/keys.ts';
import type { Row, Store } from '../store/store.ts';
import { isRetryable } from './compute-failure.ts';
import type { Job, JobContext, Outcome } from './worker.ts';

export interface StreamingSessionStreamPorts {
  readonly store: Store;
  readonly compute: Compute;
  readonly keys: Keys;
  readonly clock: Clock;
  readonly ids: Ids;
}

const OPENINGS_MAX = 16;
const ENDINGS_MAX = 50;

const EXPIRED = { type: 'expired', privateChanges: NO_TICKET } as const;

export function streamingSessionStreamJobs(ports: StreamingSessionStreamPorts): Job[] {
  const job = (state: string, concurrency: number, run: Job['run']): Job => ({
    lifecycle: streamingSessionStreamLifecycle as Lifecycle,
    state,
    concurrency,
    run,
    retryable: isRetryable,
  });
  return [
    {
      ...job('CREATE_IN_PROGRESS', OPENINGS_MAX, (row, context) => openStream(row, context, ports)),
      giveUp: (error) => ({ type: 'openFailed', statusCode: statusCodeOf(error) }),
    },
    job('READY', ENDINGS_MAX, async () => ({ event: EXPIRED })),
    job('CREATE_FAILED', ENDINGS_MAX, async () => ({ purge: true })),
    job('DELETED', ENDINGS_MAX, async () => ({ purge: true })),
  ];
}

async function openStream(row: Row, { signal }: JobContext, ports: StreamingSessionStreamPorts): Promise<Outcome> {
  const { store, compute, keys, clock, ids } = ports;
  const { expiresAt } = JSON.parse(row.private) as StreamingSessionStreamPrivate;
  if (expiresAt <= clock.now()) return { event: EXPIRED };
  const session = await store.get(KIND.streamingSession, row.parentId!);
  if (session?.state !== 'READY') throw new ComputeFailure('NETWORK_CONNECTION_ERROR', 'The session does not run');
  await compute.open(session.id, signal);
  const ticket = ids.ticket();
  const privateChanges = { ticketSha256: hash('sha256', ticket), sealedTicket: keys.seal(ticket, row.id) };
  return { event: { type: 'opened', privateChanges, dueAt: expiresAt } };
}

function statusCodeOf(error: unknown): string {
  return error instanceof ComputeFailure && error.code === 'NETWORK_CONNECTION_ERROR' ? error.code : 'INTERNAL_ERROR';
}
