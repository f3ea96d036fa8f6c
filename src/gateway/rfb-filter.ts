/**
 * Reads what a viewer sends to a desktop (RFC 6143 and its registered extensions), message by message, and lets through what
 * is known and allowed. What comes in any other form ends the viewer: a desktop's own parser must never meet it. Text for
 * the clipboard is taken out where it is not allowed.
 *
 * The stream may be cut anywhere. Nothing is kept of it but the place in the message and the first bytes of that, and what
 * is let through are parts of the buffers that came: bytes are changed in place, and never copied.
 *
 * It must agree with the desktop about where each message ends, or one could be hidden in another. So an extension that
 * changes the length of a message which others know as well is taken out of what the viewer says it can.
 */

/** Longest text that may be pasted at once, in bytes. */
export const CUT_TEXT_BYTES_MAX = 1024 * 1024;
const ENCODINGS_MAX = 1_024;
const SCREENS_MAX = 16;
const FENCE_BYTES_MAX = 64;

const VERSIONS = ['RFB 003.003\n', 'RFB 003.007\n', 'RFB 003.008\n'];
const VERSION_LENGTH = 12;
const WITHOUT_PASSWORD = 1;
const SHARED = 1;

const SET_ENCODINGS = 2;
const SET_ENCODINGS_HEAD = 4;
const CUT_TEXT = 6;
const CUT_TEXT_HEAD = 8;

/** Extended clipboard, by which text passes in both directions. */
const EXTENDED_CLIPBOARD = 0xc0a1e5ce;
/** Makes pointer events with their highest bit set longer by one byte, for desktops that know it, and for no others. */
const EXTENDED_MOUSE_BUTTONS = -316 >>> 0;
/** In place of the last byte of these: encodings that nobody has registered, and that desktops pass over. */
const NO_CLIPBOARD_BYTE = 0x00;
const NO_MOUSE_BUTTONS_BYTE = 0xc0;

/** How long a message is, told from its first `head` bytes; undefined where it is longer than any may be. */
interface MessageForm {
  readonly head: number;
  readonly length: (head: Uint8Array) => number | undefined;
}

const fixed = (length: number): MessageForm => ({ head: 1, length: () => length });
const atMost = (length: number, max: number) => (length <= max ? length : undefined);
const u16 = (head: Uint8Array, at: number) => (head[at]! << 8) | head[at + 1]!;
const u32 = (head: Uint8Array, at: number) => ((u16(head, at) << 16) | u16(head, at + 2)) >>> 0;

/** By the first byte of a message. */
const FORMS = new Map<number, MessageForm>([
  // SetPixelFormat
  [0, fixed(20)],
  [
    SET_ENCODINGS,
    {
      head: SET_ENCODINGS_HEAD,
      length: (head) => atMost(4 + 4 * u16(head, 2), SET_ENCODINGS_HEAD + 4 * ENCODINGS_MAX),
    },
  ],
  // FramebufferUpdateRequest, KeyEvent, PointerEvent
  [3, fixed(10)],
  [4, fixed(8)],
  [5, fixed(6)],
  [
    CUT_TEXT,
    {
      head: CUT_TEXT_HEAD,
      length: (head) => atMost(CUT_TEXT_HEAD + cutTextBytes(head), CUT_TEXT_HEAD + CUT_TEXT_BYTES_MAX),
    },
  ],
  // EnableContinuousUpdates
  [150, fixed(10)],
  // ClientFence
  [248, { head: 9, length: (head) => atMost(9 + head[8]!, 9 + FENCE_BYTES_MAX) }],
  // xvp
  [250, fixed(4)],
  // SetDesktopSize
  [251, { head: 8, length: (head) => atMost(8 + 16 * head[6]!, 8 + 16 * SCREENS_MAX) }],
  // QEMU's own: key events with scan codes are the only ones, there is no sound.
  [255, { head: 2, length: (head) => (head[1] === 0 ? 12 : undefined) }],
]);
const LONGEST_HEAD = VERSION_LENGTH;

/** A length below zero is the extended form, of as many bytes. */
function cutTextBytes(head: Uint8Array): number {
  const length = u32(head, 4) | 0;
  return length < 0 ? -length : length;
}

const HANDSHAKE = {
  version: { head: VERSION_LENGTH, length: () => VERSION_LENGTH },
  security: { head: 1, length: () => 1 },
  init: { head: 1, length: () => 1 },
} satisfies Record<string, MessageForm>;

type Phase = keyof typeof HANDSHAKE | 'messages';

const NOTHING: readonly Buffer[] = [];

export class RfbFilter {
  /** Whether text for the clipboard is let through; of a message that has begun it is decided. */
  clipboard: boolean;
  #phase: Phase = 'version';
  #form: MessageForm | undefined;
  readonly #head = new Uint8Array(LONGEST_HEAD);
  /** Bytes of the present message that were read. */
  #at = 0;
  /** Its length, once that is known. */
  #length = 0;
  #isDropped = false;
  /** The last four bytes of what is read of a list of encodings. */
  #encoding = 0;
  #refusal: string | undefined;

  constructor(clipboard: boolean) {
    this.clipboard = clipboard;
  }

  /** Why nothing is let through any more; undefined while all is well. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** The parts of the buffer that may go on to the desktop, in order. The buffer's bytes may be changed. */
  pass(bytes: Buffer): readonly Buffer[] {
    const parts: Buffer[] = [];
    let from = 0;
    let at = 0;
    while (at < bytes.length && this.#refusal === undefined) {
      const begin = at;
      const wasBegun = this.#at > 0;
      at = this.#read(bytes, at);
      if (!this.#isDropped) continue;
      // The first byte tells, so that nothing of it was let through before.
      if (!wasBegun && begin > from) parts.push(bytes.subarray(from, begin));
      from = at;
      if (this.#at === 0) this.#isDropped = false;
    }
    if (this.#refusal !== undefined) return NOTHING;
    if (from === 0) return [bytes];
    if (from < bytes.length) parts.push(bytes.subarray(from));
    return parts;
  }

  /** Reads no further than to the end of the present message. @returns where it stopped. */
  #read(bytes: Buffer, start: number): number {
    let at = start;
    if (this.#at === 0) this.#begin(bytes[at]!);
    const form = this.#form;
    if (!form) return at;
    while (this.#at < form.head && at < bytes.length) {
      this.#head[this.#at] = bytes[at]!;
      this.#at += 1;
      at += 1;
      if (this.#at === form.head) this.#measure(form, bytes, at - 1);
    }
    if (this.#at < form.head || this.#refusal !== undefined) return at;
    const count = Math.min(this.#length - this.#at, bytes.length - at);
    if (this.#phase === 'messages' && this.#head[0] === SET_ENCODINGS) this.#readEncodings(bytes, at, count);
    this.#at += count;
    if (this.#at === this.#length) this.#at = 0;
    return at + count;
  }

  #begin(first: number): void {
    if (this.#phase !== 'messages') {
      this.#form = HANDSHAKE[this.#phase];
      return;
    }
    this.#form = FORMS.get(first);
    if (!this.#form) this.#refuse(`There is no message ${first}`);
    this.#isDropped = first === CUT_TEXT && !this.clipboard;
  }

  /** The head is there; its last byte stands at `last`. */
  #measure(form: MessageForm, bytes: Buffer, last: number): void {
    if (this.#phase !== 'messages') {
      this.#length = form.head;
      this.#shakeHands(bytes, last);
      return;
    }
    const length = form.length(this.#head);
    if (length === undefined) this.#refuse(`A message ${this.#head[0]} is longer than it may be, or of no known form`);
    else this.#length = length;
  }

  #shakeHands(bytes: Buffer, last: number): void {
    if (this.#phase === 'version') {
      const version = Buffer.from(this.#head).toString('latin1');
      if (!VERSIONS.includes(version)) this.#refuse('This is no version of RFB');
      // In the oldest, the desktop alone decides on security.
      this.#phase = version === VERSIONS[0] ? 'init' : 'security';
    } else if (this.#phase === 'security') {
      if (this.#head[0] !== WITHOUT_PASSWORD) this.#refuse('A desktop is reached without a password');
      this.#phase = 'init';
    } else {
      // Who may see a desktop is decided here, and not by who asks for it alone.
      bytes[last] = SHARED;
      this.#phase = 'messages';
    }
  }

  #readEncodings(bytes: Buffer, start: number, count: number): void {
    for (let index = 0; index < count; index += 1) {
      this.#encoding = ((this.#encoding << 8) | bytes[start + index]!) >>> 0;
      if ((this.#at + index - SET_ENCODINGS_HEAD) % 4 !== 3) continue;
      if (this.#encoding === EXTENDED_MOUSE_BUTTONS) bytes[start + index] = NO_MOUSE_BUTTONS_BYTE;
      if (this.#encoding === EXTENDED_CLIPBOARD && !this.clipboard) bytes[start + index] = NO_CLIPBOARD_BYTE;
    }
  }

  #refuse(reason: string): void {
    this.#refusal = reason;
  }
}
