/**
 * Why the connection of a viewer ends: the code that closes it, and the words that go with it, which the page shows as they
 * are. From 4100 on, and for what the protocol itself has codes for, the page comes back by itself; from 4000 to 4099 it
 * does not, as it would only be refused.
 */
import { endInWords, type ViewerEnd } from '../domain/viewer.ts';

export interface Ending {
  readonly name: string;
  readonly code: number;
  /** 123 bytes at the most, as RFC 6455 has it. */
  readonly words: string;
}

const CODES: Readonly<Record<ViewerEnd, number>> = {
  replaced: 4001,
  'session-ended': 4002,
  'not-allowed': 4003,
  'too-late': 4004,
};

export function endingOf(end: ViewerEnd): Ending {
  return { name: end, code: CODES[end], words: endInWords(end) };
}

const ending = (name: string, code: number, words: string): Ending => ({ name, code, words });

/** The viewer went by itself, or its network did. */
export const LEFT = ending('left', 1000, '');
export const STOPPING = ending('server-stops', 1001, 'The server is being restarted.');
export const NOT_BINARY = ending('not-binary', 1003, 'The browser sent text, where the desktop takes none.');
export const BAD_MESSAGE = ending('bad-message', 1008, 'The browser sent something that the desktop does not take.');
export const DESKTOP_GONE = ending('desktop-gone', 4101, 'The desktop does not answer.');
export const NOT_READING = ending('not-reading', 4102, 'The connection was too slow for the picture.');
export const SILENT = ending('silent', 4103, 'The browser was not heard of for too long.');
export const UNCHECKED = ending('unchecked', 4104, 'The server could not look whether the session still runs.');

export const ENDINGS: readonly Ending[] = [
  ...(Object.keys(CODES) as ViewerEnd[]).map(endingOf),
  LEFT,
  STOPPING,
  NOT_BINARY,
  BAD_MESSAGE,
  DESKTOP_GONE,
  NOT_READING,
  SILENT,
  UNCHECKED,
];
