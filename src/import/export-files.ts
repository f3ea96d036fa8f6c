/**
 * Reads what was saved of a studio: files of JSON as `aws nimble list-...` and `get-...` print them, in any names and any
 * number, sorted by what stands in them. Nothing in them is believed yet: this file only finds out what each claims to be,
 * and where it came from where only names say that: the studio by a directory, the launch profile of members by the file.
 */
import { constants as fsConstants } from 'node:fs';
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { isSystemError, withFile } from '../files.ts';
import { ImportFailed } from './outcome.ts';

const FILES_MAX = 10_000;
const FILE_BYTES_MAX = 64 * 1024 * 1024;
const DOCUMENTS_MAX = 100_000;
/** A directory of this name holds what one studio has. */
const STUDIO_DIRECTORY = /^(?:[a-z0-9-]+:)?(stid-[a-z0-9]{1,64})$/;

/** A file of this name, or a directory of pages, holds the members of one launch profile. */
const PROFILE_MEMBERS = /^members-([A-Za-z0-9_-]{1,22})(?:\.json)?$/;

/** Members of an output that hold documents: one, or a list of them. */
export interface Names {
  readonly single: string;
  readonly list: string;
  /** Tells documents apart that outputs call the same; every one is of this kind where absent. */
  readonly isOne?: (value: unknown) => boolean;
}

export interface Found<K extends Names> {
  readonly file: string;
  readonly kind: K;
  readonly value: unknown;
  /** The studio's id without its region, where the file lies in a directory of that name. */
  readonly studio: string | undefined;
  /** The launch profile's id, where the file or its directory is named by it. */
  readonly launchProfile: string | undefined;
}

export interface Unknown {
  readonly file: string;
  readonly reason: string;
}

/** @throws ImportFailed when the directory cannot be read, or holds more than anybody exports. */
export async function readExport<K extends Names>(
  directory: string,
  kinds: readonly K[],
): Promise<{ found: Found<K>[]; unknown: Unknown[] }> {
  const found: Found<K>[] = [];
  const unknown: Unknown[] = [];
  for (const path of await jsonFiles(directory)) {
    const file = relative(directory, path);
    const output = parse(await readBounded(path, file));
    if (output === undefined) {
      unknown.push({ file, reason: 'It is no JSON object.' });
      continue;
    }
    const place = { studio: lastNamed(STUDIO_DIRECTORY, file), launchProfile: lastNamed(PROFILE_MEMBERS, file) };
    const here = documentsIn(output, kinds).map((each) => ({ file, ...place, ...each }));
    if (here.length === 0) unknown.push({ file, reason: 'It holds nothing that can be imported.' });
    if (output.nextToken)
      unknown.push({ file, reason: 'It is not the last page of its list: save the others as well.' });
    found.push(...here);
    if (found.length > DOCUMENTS_MAX) throw new ImportFailed(`There are more than ${DOCUMENTS_MAX} documents.`);
  }
  return { found, unknown };
}

/** Links are not followed: an export has none. */
async function jsonFiles(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith('.json'));
    if (files.length > FILES_MAX) throw new ImportFailed(`${directory} holds more than ${FILES_MAX} files.`);
    if (files.length === 0) throw new ImportFailed(`${directory} holds no file whose name ends in .json.`);
    return files.map((entry) => join(entry.parentPath, entry.name)).sort();
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR', 'EACCES'))
      throw new ImportFailed(`The directory ${directory} cannot be read.`);
    throw error;
  }
}

async function readBounded(path: string, file: string): Promise<string> {
  const opening = open(path, fsConstants.O_RDONLY | fsConstants.O_NOFOLLOW | fsConstants.O_NONBLOCK);
  return withFile(opening, async (handle: FileHandle) => {
    const { size } = await handle.stat();
    if (size > FILE_BYTES_MAX) throw new ImportFailed(`${file} is larger than ${FILE_BYTES_MAX} bytes.`);
    return handle.readFile('utf8');
  });
}

function parse(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

function documentsIn<K extends Names>(output: Readonly<Record<string, unknown>>, kinds: readonly K[]) {
  return kinds.flatMap((kind) => {
    const listed = Object.hasOwn(output, kind.list) ? output[kind.list] : undefined;
    const values: unknown[] = Array.isArray(listed) ? [...(listed as unknown[])] : [];
    if (Object.hasOwn(output, kind.single)) values.push(output[kind.single]);
    return values.filter((value) => kind.isOne?.(value) ?? true).map((value) => ({ kind, value }));
  });
}

/** What the innermost name on the path within the export that is of this form says. */
function lastNamed(form: RegExp, path: string): string | undefined {
  return path
    .split('/')
    .flatMap((name) => form.exec(name)?.[1] ?? [])
    .at(-1);
}
