/**
 * Values on their way to PostgreSQL and back: what is written is what is read, whatever it holds. It knows no column, and
 * must never change how texts sort.
 */

/** The type of a bigint, from the system catalogue. */
const INT8 = 20;

/** How values of a type are read. The driver would make texts of whole numbers, as they may not fit. */
export function parserOf(oid: number): (text: string) => unknown {
  return oid === INT8 ? Number : fromText;
}

/** A parameter as the driver takes it: a text, texts for an array of them, or what needs no writing. */
export function toValue(param: unknown): unknown {
  if (typeof param === 'string') return toText(param);
  return Array.isArray(param) ? param.map(toValue) : param;
}

/**
 * PostgreSQL's text has no NUL. It is written as two characters, and the one it begins with as two others, such that texts
 * sort as before; nothing that the API stores holds either.
 */
function toText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
  return /[\0\x01]/.test(text) ? text.replaceAll('\x01', '\x01\x02').replaceAll('\0', '\x01\x01') : text;
}

function fromText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
  return text.includes('\x01') ? text.replace(/\x01[\x01\x02]/g, (two) => (two === '\x01\x01' ? '\0' : '\x01')) : text;
}
