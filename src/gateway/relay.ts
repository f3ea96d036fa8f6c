/**
 * Carries bytes between a viewer's websocket and a desktop, both ways, as they come: buffers are handed on and not copied.
 * Whoever does not take what it is sent holds the other side up, so that what waits here is bounded; a viewer that takes
 * nothing for too long, or is not heard of, is cut off. Neither side is believed: the viewer's messages go through the
 * filter, and what the desktop sends is only passed on.
 */
import type { Duplex } from 'node:stream';
import type { RawData, WebSocket } from 'ws';
import { BAD_MESSAGE, DESKTOP_GONE, type Ending, LEFT, NOT_BINARY, NOT_READING, SILENT } from './endings.ts';
import { RfbFilter } from './rfb-filter.ts';

export interface RelayLimits {
  /** What may wait for a viewer before the desktop is held up. */
  readonly bufferBytesMax: number;
  /** A viewer that takes nothing of what waits for it for so long is cut off. */
  readonly stallMs: number;
  /** So is one that was not heard of for so long. */
  readonly silenceMs: number;
  readonly pingMs: number;
}

export const RELAY_LIMITS: RelayLimits = {
  bufferBytesMax: 1024 * 1024,
  stallMs: 20_000,
  silenceMs: 30_000,
  pingMs: 5_000,
};

export interface RelayEvents {
  /** A piece of picture was handed to the network, so long after it came from the desktop. */
  readonly toViewer: (bytes: number, seconds: number) => void;
  readonly fromViewer: (bytes: number) => void;
  /** Once. */
  readonly ended: (ending: Ending) => void;
}

/** For a viewer to answer that it has understood why it was closed. */
const FAREWELL_MS = 1_000;

export class Relay {
  readonly #socket: WebSocket;
  readonly #filter: RfbFilter;
  readonly #limits: RelayLimits;
  readonly #events: RelayEvents;
  #desktop: Duplex | undefined;
  #ending: Ending | undefined;
  /** When the viewer last took something or was last heard of, by the monotonic clock. */
  #aliveAt = performance.now();
  #pingedAt = performance.now();
  #isPingOut = false;
  /** Since when the desktop is held up for the viewer. */
  #heldSince: number | undefined;
  #isViewerHeld = true;

  /** Nothing is read from the viewer before there is a desktop. */
  constructor(socket: WebSocket, clipboard: boolean, limits: RelayLimits, events: RelayEvents) {
    this.#socket = socket;
    this.#filter = new RfbFilter(clipboard);
    this.#limits = limits;
    this.#events = events;
    socket.pause();
    socket.on('message', (data, isBinary) => this.#fromViewer(data, isBinary));
    socket.on('pong', () => this.#heard());
    // The library closes it with the code of the mistake.
    socket.on('error', () => this.end(BAD_MESSAGE));
    socket.on('close', () => this.end(LEFT));
  }

  get isEnded(): boolean {
    return this.#ending !== undefined;
  }

  /** Whether text may pass from the viewer to the desktop. */
  set clipboard(isAllowed: boolean) {
    this.#filter.clipboard = isAllowed;
  }

  start(desktop: Duplex): void {
    desktop.on('error', () => this.end(DESKTOP_GONE));
    if (this.#ending) {
      desktop.destroy();
      return;
    }
    this.#desktop = desktop;
    desktop.on('data', (piece: Buffer) => this.#toViewer(piece));
    desktop.on('drain', () => this.#holdViewer(false));
    desktop.on('close', () => this.end(DESKTOP_GONE));
    desktop.on('end', () => this.end(DESKTOP_GONE));
    this.#aliveAt = performance.now();
    this.#holdViewer(false);
  }

  /** Text for the page, which is not the desktop's. */
  tell(message: object): void {
    if (!this.#ending) this.#socket.send(JSON.stringify(message));
  }

  /** To be called a few times a second: cuts off who does not answer, and asks whether the viewer is there. */
  tick(): void {
    if (this.#ending) return;
    const now = performance.now();
    const { stallMs, silenceMs, pingMs } = this.#limits;
    if (this.#heldSince !== undefined && now - this.#heldSince > stallMs) this.end(NOT_READING);
    else if (!this.#isViewerHeld && now - this.#aliveAt > silenceMs) this.end(SILENT);
    else if (!this.#isPingOut && now - this.#pingedAt >= pingMs) {
      this.#isPingOut = true;
      this.#pingedAt = now;
      this.#socket.ping();
    }
  }

  end(ending: Ending): void {
    if (this.#ending) return;
    this.#ending = ending;
    this.#desktop?.destroy();
    // What it still sends is read and thrown away, so that its farewell arrives.
    this.#socket.resume();
    this.#socket.close(ending.code, ending.words);
    setTimeout(() => this.#socket.terminate(), FAREWELL_MS).unref();
    this.#events.ended(ending);
  }

  #toViewer(piece: Buffer): void {
    const cameAt = performance.now();
    this.#socket.send(piece, { binary: true }, (error) => {
      if (error || this.#ending) return;
      const now = performance.now();
      this.#aliveAt = now;
      this.#events.toViewer(piece.length, (now - cameAt) / 1_000);
      if (this.#heldSince === undefined) return;
      this.#heldSince = now;
      if (this.#socket.bufferedAmount > this.#limits.bufferBytesMax / 2) return;
      this.#heldSince = undefined;
      this.#desktop?.resume();
    });
    if (this.#heldSince !== undefined || this.#socket.bufferedAmount < this.#limits.bufferBytesMax) return;
    this.#heldSince = cameAt;
    this.#desktop?.pause();
  }

  #fromViewer(data: RawData, isBinary: boolean): void {
    if (this.#ending) return;
    if (!isBinary) {
      this.end(NOT_BINARY);
      return;
    }
    this.#aliveAt = performance.now();
    const bytes = data as Buffer;
    this.#events.fromViewer(bytes.length);
    const parts = this.#filter.pass(bytes);
    if (this.#filter.refusal !== undefined) {
      this.end(BAD_MESSAGE);
      return;
    }
    for (const part of parts) if (!this.#desktop!.write(part)) this.#holdViewer(true);
  }

  #holdViewer(isHeld: boolean): void {
    if (this.#isViewerHeld === isHeld) return;
    this.#isViewerHeld = isHeld;
    if (isHeld) this.#socket.pause();
    else {
      this.#aliveAt = performance.now();
      this.#socket.resume();
    }
  }

  /** The way there and back, as the viewer's network has it now. */
  #heard(): void {
    const now = performance.now();
    this.#aliveAt = now;
    if (!this.#isPingOut) return;
    this.#isPingOut = false;
    this.tell({ roundTripMs: Math.round(now - this.#pingedAt) });
  }
}
