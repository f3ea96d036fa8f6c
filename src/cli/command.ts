/** What a command of the command line is, and the ways in which it may answer. */
import type { Config } from '../config.ts';

export interface Option {
  /** What stands for the value in the help; absent for a switch. */
  readonly value?: string;
  readonly meaning: string;
  readonly required?: boolean;
  readonly repeatable?: boolean;
}

export interface Arguments {
  readonly positionals: readonly string[];
  /** The value of an option that was given, by its name. */
  readonly option: (name: string) => string | undefined;
  readonly options: (name: string) => readonly string[];
  readonly has: (name: string) => boolean;
}

export interface Command {
  /** One or two words, for example `machine-image import`. */
  readonly name: string;
  readonly summary: string;
  /** Names of the arguments that must follow. */
  readonly positionals: readonly string[];
  readonly options: Readonly<Record<string, Option>>;
  /** Whether every setting may be given as a flag; otherwise only those of the data directory. */
  readonly allSettings?: boolean;
  /** A line under the summary in the help, for what a newcomer would not guess. */
  readonly note?: string;
  /** @returns what to print: an object, or a list for a table; nothing when the command has printed by itself. */
  readonly run: (given: Arguments, config: Config) => Promise<Output>;
  /** For a command that answers a question: the exit code tells the answer as well. */
  readonly exitCode?: (output: Output) => 0 | 1;
}

export type Output = object | readonly object[] | undefined;

/** A command that cannot do what was asked. The message is a sentence; the exit code is 1. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
}

/** A command line that makes no sense. The exit code is 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
