/**
 * Reads the text of a policy as JSON, and refuses more than JSON itself does: a text that is too long, nests too deep, or
 * names a member twice, where JSON would silently keep the last and drop, say, a condition.
 */

/** A policy that is refused. The message is a sentence that names the place. */
export class PolicyRefused extends Error {
  override readonly name = 'PolicyRefused';
}

/** White space included; a limit on what is looked at. */
const TEXT_LENGTH_MAX = 65_536;
/** Without white space, as IAM counts: its limit for policies of a role, the largest that it has. */
const DOCUMENT_LENGTH_MAX = 10_240;
/** A policy needs five. */
const DEPTH_MAX = 10;

/** @throws PolicyRefused */
export function parsePolicyJson(text: string): unknown {
  if (text.length > TEXT_LENGTH_MAX)
    throw new PolicyRefused(`The document is longer than ${TEXT_LENGTH_MAX} characters.`);
  if (text.replaceAll(/\s/g, '').length > DOCUMENT_LENGTH_MAX) {
    throw new PolicyRefused(`The document has more than ${DOCUMENT_LENGTH_MAX} characters, white space not counted.`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const problem = (error as Error).message.replaceAll(/\s+/g, ' ');
    throw new PolicyRefused(`The document is not valid JSON: ${problem}.`);
  }
  requireOnce(text);
  return value;
}

/** What stands out in a valid JSON text: strings, and the characters that build objects and lists. */
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],]/g;

/** @throws PolicyRefused when a member stands twice in one object, or when objects and lists nest too deep. */
function requireOnce(text: string): void {
  /** The names seen in each object that is open; undefined for a list. */
  const open: (Set<string> | undefined)[] = [];
  let isNameNext = false;
  for (const [token] of text.matchAll(TOKEN)) {
    const names = open.at(-1);
    if (token === '{' || token === '[') {
      open.push(token === '{' ? new Set() : undefined);
      if (open.length > DEPTH_MAX) throw new PolicyRefused(`The document nests deeper than ${DEPTH_MAX} levels.`);
    } else if (token === '}' || token === ']') {
      open.pop();
    } else if (token !== ',' && isNameNext && names) {
      const name = JSON.parse(token) as string;
      if (names.has(name)) throw new PolicyRefused(`The member ${JSON.stringify(name)} stands twice in one object.`);
      names.add(name);
    }
    isNameNext = token === '{' || (token === ',' && open.at(-1) !== undefined);
  }
}
