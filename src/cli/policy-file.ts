/** Reads policies from files, or from what is piped in. */
import { readFileSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import type { PolicySource } from '../domain/stored-policy.ts';
import { CommandFailed } from './command.ts';

/** A file of a size that no policy has is not read. */
const FILE_BYTES_MAX = 1024 * 1024;
const STANDARD_INPUT = 0;

/** Each is called by its file's name. @throws CommandFailed */
export function readPolicies(files: readonly string[]): PolicySource[] {
  return files.map((file) => ({ name: basename(file).replace(/\.json$/, ''), text: readPolicyText(file) }));
}

/** @param file `-` for what is piped in. @throws CommandFailed */
export function readPolicyText(file: string): string {
  try {
    if (file === '-') return readFileSync(STANDARD_INPUT, 'utf8');
    if (statSync(file).size > FILE_BYTES_MAX) throw new CommandFailed(`${file} is too large to be a policy.`);
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof CommandFailed) throw error;
    throw new CommandFailed(`${file} cannot be read: ${(error as NodeJS.ErrnoException).code}.`);
  }
}
