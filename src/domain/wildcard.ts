/**
 * Patterns with `*` (any characters, or none) and `?` (exactly one), as policies write them.
 *
 * A match must take time in proportion to the text, whatever a caller sends: there is no regular expression and no going
 * back over a `*`. The text between two `*` is taken where it first fits, which is never worse than a later place.
 */

/** One character; ANY_ONE fits any. */
type Piece = string | typeof ANY_ONE;

export const ANY_ONE = Symbol('?');
export const ANY_RUN = Symbol('*');

/** A pattern in pieces: text, ANY_ONE and ANY_RUN. What stands in a text is never a wildcard. */
export type Pieces = readonly (string | typeof ANY_ONE | typeof ANY_RUN)[];

/** A stretch of a pattern without `*`. */
interface Stretch {
  readonly pieces: readonly Piece[];
  /** The whole stretch, where no `?` stands in it. */
  readonly text: string | undefined;
  /** Where to go on after a mismatch (Knuth, Morris and Pratt); for long texts only. */
  readonly fallback: readonly number[] | undefined;
}

/** Without a `?`, everything is in code units; with one, in characters, which it counts. */
export interface Wildcard {
  /** The stretches between the `*`; one alone where there is no `*`. */
  readonly stretches: readonly Stretch[];
  readonly hasQuestionMark: boolean;
}

/** A text by characters: strings without surrogates are so already. */
type Characters = string | readonly string[];

const SURROGATE = /[\ud800-\udfff]/;
/** Shorter texts are looked for place by place, which is faster than it sounds. */
const LONG = 32;

export function compileWildcard(pieces: Pieces): Wildcard {
  const hasQuestionMark = pieces.includes(ANY_ONE);
  const stretches: Piece[][] = [[]];
  for (const piece of pieces) {
    if (piece === ANY_RUN) stretches.push([]);
    else if (piece === ANY_ONE) stretches.at(-1)!.push(piece);
    else stretches.at(-1)!.push(...(hasQuestionMark ? Array.from(piece) : piece.split('')));
  }
  const last = stretches.length - 1;
  // Of several `*` in a row, one is enough.
  const needed = stretches.filter((stretch, index) => index === 0 || index === last || stretch.length > 0);
  return { stretches: needed.map(stretchOf), hasQuestionMark };
}

function stretchOf(pieces: readonly Piece[]): Stretch {
  const text = pieces.includes(ANY_ONE) ? undefined : pieces.join('');
  return { pieces, text, fallback: text !== undefined && pieces.length > LONG ? fallbackOf(pieces) : undefined };
}

/** The longest searched stretch in which a `?` stands: there, each place costs its length. */
export function searchedWithQuestionMark({ stretches }: Wildcard): number {
  const searched = stretches.slice(1, -1).filter(({ text }) => text === undefined);
  return Math.max(0, ...searched.map(({ pieces }) => pieces.length));
}

export function matches({ stretches, hasQuestionMark }: Wildcard, given: string): boolean {
  const text: Characters = hasQuestionMark && SURROGATE.test(given) ? Array.from(given) : given;
  const first = stretches[0]!;
  if (stretches.length === 1) return text.length === first.pieces.length && fitsAt(first, text, 0);
  const last = stretches.at(-1)!;
  const end = text.length - last.pieces.length;
  let at = first.pieces.length;
  if (at > end || !fitsAt(first, text, 0) || !fitsAt(last, text, end)) return false;
  for (let index = 1; index < stretches.length - 1; index += 1) {
    at = endOf(stretches[index]!, text, at, end);
    if (at < 0) return false;
  }
  return true;
}

function fitsAt({ pieces, text: plain }: Stretch, text: Characters, at: number): boolean {
  // What ends in a `*` ends in an empty stretch, and most patterns do.
  if (plain === '') return true;
  if (plain !== undefined && typeof text === 'string') return text.startsWith(plain, at);
  for (let index = 0; index < pieces.length; index += 1) {
    const piece = pieces[index];
    if (piece !== ANY_ONE && piece !== text[at + index]) return false;
  }
  return true;
}

/** Behind the first place from `from` at which the stretch fits and ends by `end`; -1 when there is none. */
function endOf(stretch: Stretch, text: Characters, from: number, end: number): number {
  const { pieces, text: plain, fallback } = stretch;
  if (fallback) return endOfLong(pieces, fallback, text, from, end);
  if (plain !== undefined && typeof text === 'string') {
    const at = text.indexOf(plain, from);
    return at < 0 || at + plain.length > end ? -1 : at + plain.length;
  }
  for (let at = from; at + pieces.length <= end; at += 1) if (fitsAt(stretch, text, at)) return at + pieces.length;
  return -1;
}

function endOfLong(pieces: readonly Piece[], fallback: readonly number[], text: Characters, from: number, end: number) {
  let fitting = 0;
  for (let at = from; at < end; at += 1) {
    while (fitting > 0 && pieces[fitting] !== text[at]) fitting = fallback[fitting - 1]!;
    if (pieces[fitting] === text[at]) fitting += 1;
    if (fitting === pieces.length) return at + 1;
  }
  return -1;
}

/** For each beginning of the stretch, how much of its end is a beginning again. */
function fallbackOf(pieces: readonly Piece[]): number[] {
  const fallback = [0];
  let fitting = 0;
  for (let index = 1; index < pieces.length; index += 1) {
    while (fitting > 0 && pieces[fitting] !== pieces[index]) fitting = fallback[fitting - 1]!;
    if (pieces[fitting] === pieces[index]) fitting += 1;
    fallback.push(fitting);
  }
  return fallback;
}
