/** What happens to a row happens to what is part of it: every child that may take an event takes it. */
import type { Clock } from '../clock.ts';
import { apply, type Lifecycle, type LifecycleEvent } from '../domain/lifecycle.ts';
import { GuardFailed, type Row, type Store } from '../store/store.ts';

interface Ports {
  readonly store: Store;
  readonly clock: Clock;
  readonly settings: { readonly tombstoneMs: number };
}

const ROWS_PER_LOOK = 100;

/** Resolves when no child is left in a state in which the table lists the event. */
export async function moveChildren(
  parentId: string,
  lifecycle: Lifecycle,
  event: LifecycleEvent,
  ports: Ports,
): Promise<void> {
  const states = Object.keys(lifecycle.states).filter((state) => lifecycle.states[state]!.on[event.type]);
  for (const state of states) {
    const query = { kind: lifecycle.kind, parentId, state, limit: ROWS_PER_LOOK };
    for (let rows = await ports.store.list(query); rows.length > 0; rows = await ports.store.list(query)) {
      for (const row of rows) await moveChild(row, lifecycle, event, ports);
    }
  }
}

/** A child that someone else has changed since is left as it is. @returns whether the event was written. */
export async function moveChild(
  row: Row,
  lifecycle: Lifecycle,
  event: LifecycleEvent,
  { store, clock, settings }: Ports,
): Promise<boolean> {
  const next = apply(lifecycle, row, event, { now: clock.now(), tombstoneMs: settings.tombstoneMs });
  try {
    await store.write([{ op: 'update', row: next }]);
    return true;
  } catch (error) {
    if (error instanceof GuardFailed) return false;
    throw error;
  }
}
