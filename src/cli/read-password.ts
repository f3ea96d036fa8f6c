/**
 * Reads a password: typed at the terminal without being shown, from a file that nobody else may read, or piped in. It must
 * never come from the command line, which everyone on a machine can see, and never be printed.
 */
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { CommandFailed, type Option } from './command.ts';

export const PASSWORD_OPTIONS: Readonly<Record<string, Option>> = {
  'password-file': {
    value: 'FILE',
    meaning: 'File that holds the password, which only you may read; else it is asked for',
  },
};

/** More than any password has. */
const BYTES_MAX = 4_096;
/** Others of the group, and all others. */
const OTHERS = 0o077;

/** @param questions one each time it is typed; what is typed must be the same. @throws CommandFailed */
export async function readPassword(file: string | undefined, questions: readonly string[]): Promise<string> {
  if (file !== undefined) return fromFile(file);
  if (!process.stdin.isTTY) return firstLine(await readAll(process.stdin), 'what was piped in');
  const [typed, ...again] = await askAll(questions);
  if (again.some((other) => other !== typed)) throw new CommandFailed('The two are not the same. Nothing was changed.');
  return typed!;
}

async function fromFile(file: string): Promise<string> {
  try {
    await using handle = await open(file);
    if ((await handle.stat()).mode & OTHERS) throw new CommandFailed(`Others may read ${file}; say: chmod 600 ${file}`);
    return firstLine(await readAll(handle.createReadStream()), file);
  } catch (error) {
    if (error instanceof CommandFailed) throw error;
    throw new CommandFailed(`${file} cannot be read: ${(error as NodeJS.ErrnoException).code}.`);
  }
}

async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    chunks.push(chunk as Buffer);
    length += chunk.length;
    if (length > BYTES_MAX) break;
  }
  return Buffer.concat(chunks).toString('utf8');
}

function firstLine(text: string, where: string): string {
  const [line = ''] = text.split(/\r?\n/);
  if (line === '') throw new CommandFailed(`There is no password in ${where}.`);
  return line;
}

/** Questions go to where errors go: what is printed is often read by a program. */
async function askAll(questions: readonly string[]): Promise<string[]> {
  const answers: string[] = [];
  // The interface edits the line itself, so the terminal shows nothing of it; and it has nowhere to show it.
  const lines = createInterface({ input: process.stdin, terminal: true });
  lines.once('SIGINT', () => lines.close());
  const typed = lines[Symbol.asyncIterator]();
  try {
    for (const question of questions) {
      process.stderr.write(question);
      const { value, done } = await typed.next();
      process.stderr.write('\n');
      if (done || value === '') throw new CommandFailed('No password was typed. Nothing was done.');
      answers.push(value);
    }
    return answers;
  } finally {
    lines.close();
  }
}
