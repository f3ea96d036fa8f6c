/**
 * The viewers that are connected to this server. Twice a second each is looked at in the database, whatever happens to it
 * elsewhere: the session stopped, somebody disabled, another viewer come in its place, on this server or another. One that
 * could not be looked at for too long is closed: it is never left open because nobody could say that it must not be.
 */
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { lookAtViewer, type Standing, type ViewerServices } from '../domain/viewer.ts';
import type { Log } from '../log.ts';
import { DESKTOP_GONE, type Ending, endingOf, STOPPING, UNCHECKED } from './endings.ts';
import { Relay, type RelayLimits } from './relay.ts';

export interface ViewersOptions {
  readonly services: ViewerServices;
  readonly log: Log;
  readonly relayLimits: RelayLimits;
  readonly metrics: ViewerMetrics;
  /** A new connection to the desktop of a session. */
  readonly connect: (sessionId: string, signal: AbortSignal) => Promise<Duplex>;
}

export interface ViewerMetrics {
  readonly connected: () => void;
  /** @param reason of which there is a fixed number. */
  readonly ended: (reason: string) => void;
  readonly toViewer: (bytes: number, seconds: number) => void;
  readonly fromViewer: (bytes: number) => void;
}

const LOOK_MS = 500;
const UNCHECKED_MS_MAX = 30_000;
const CONNECT_MS_MAX = 10_000;

interface Viewer {
  readonly streamId: string;
  readonly connectionId: string;
  readonly relay: Relay;
  /** When it was last found to stand, by the monotonic clock. */
  checkedAt: number;
  /** Whether text may pass, as the page was told. */
  clipboard: boolean;
  isLookedAt: boolean;
}

export class Viewers {
  readonly #options: ViewersOptions;
  readonly #live = new Set<Viewer>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ViewersOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#live.size;
  }

  /** Takes a websocket over and connects it to the desktop of its session. Resolves when that is done, or has failed. */
  async add(socket: WebSocket, streamId: string, connectionId: string, standing: Standing): Promise<void> {
    const { relayLimits, connect, log } = this.#options;
    const { sessionId, clipboard } = standing;
    const gone = new AbortController();
    const relay = new Relay(socket, clipboard, relayLimits, {
      ...this.#counted(streamId, sessionId, () => {
        gone.abort();
        this.#remove(viewer);
      }),
    });
    const viewer: Viewer = {
      streamId,
      connectionId,
      relay,
      checkedAt: performance.now(),
      clipboard,
      isLookedAt: false,
    };
    this.#live.add(viewer);
    this.#options.metrics.connected();
    this.#timer ??= setInterval(() => this.#tick(), LOOK_MS).unref();
    relay.tell({ clipboard });
    try {
      const signal = AbortSignal.any([gone.signal, AbortSignal.timeout(CONNECT_MS_MAX)]);
      relay.start(await connect(sessionId, signal));
      log.info({ streamId, sessionId }, 'viewer connected');
    } catch (error) {
      if (!relay.isEnded) log.warn({ err: error, streamId, sessionId }, 'the desktop of a viewer was not reached');
      relay.end(DESKTOP_GONE);
    }
  }

  /** Looks at all of them now: something has changed that may end one. */
  look(): void {
    for (const viewer of this.#live) void this.#look(viewer);
  }

  /** Ends them; their pages come back when there is a server again. */
  close(): void {
    for (const { relay } of this.#live) relay.end(STOPPING);
  }

  #counted(streamId: string, sessionId: string, onEnd: () => void) {
    const { metrics, log } = this.#options;
    const beganAt = performance.now();
    let bytesToViewer = 0;
    let bytesFromViewer = 0;
    return {
      toViewer: (bytes: number, seconds: number) => {
        bytesToViewer += bytes;
        metrics.toViewer(bytes, seconds);
      },
      fromViewer: (bytes: number) => {
        bytesFromViewer += bytes;
        metrics.fromViewer(bytes);
      },
      ended: ({ name: reason }: Ending) => {
        onEnd();
        metrics.ended(reason);
        const seconds = Math.round((performance.now() - beganAt) / 1_000);
        log.info({ streamId, sessionId, reason, seconds, bytesToViewer, bytesFromViewer }, 'viewer ended');
      },
    };
  }

  #remove(viewer: Viewer): void {
    this.#live.delete(viewer);
    if (this.#live.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #tick(): void {
    const now = performance.now();
    for (const { relay, checkedAt } of this.#live) {
      if (now - checkedAt > UNCHECKED_MS_MAX) relay.end(UNCHECKED);
      else relay.tick();
    }
    this.look();
  }

  async #look(viewer: Viewer): Promise<void> {
    // A database that hangs is not asked again and again.
    if (viewer.isLookedAt) return;
    viewer.isLookedAt = true;
    try {
      const found = await lookAtViewer(viewer.streamId, viewer.connectionId, this.#options.services);
      if (typeof found === 'string') viewer.relay.end(endingOf(found));
      else stillStands(viewer, found);
    } catch (error) {
      this.#options.log.debug({ err: error, streamId: viewer.streamId }, 'a viewer could not be looked at');
    } finally {
      viewer.isLookedAt = false;
    }
  }
}

function stillStands(viewer: Viewer, { clipboard }: Standing): void {
  viewer.checkedAt = performance.now();
  if (viewer.clipboard === clipboard) return;
  viewer.clipboard = clipboard;
  viewer.relay.clipboard = clipboard;
  viewer.relay.tell({ clipboard });
}
