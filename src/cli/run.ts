/** Finds the command that a command line names, checks what was given, runs it, and turns failures into exit codes. */
import { parseArgs } from 'node:util';
import { readConfig } from '../config.ts';
import { ServiceError } from '../errors.ts';
import { SETTINGS, type Settings } from '../settings.ts';
import { type Arguments, type Command, UsageError } from './command.ts';
import { commands } from './index.ts';
import { print, type Streams } from './output.ts';

/** Settings that commands beside `serve` need: where the data is, and what ARNs in it name. */
const DATA_SETTINGS: readonly (keyof Settings)[] = [
  'dataDir',
  'databaseUrl',
  'region',
  'accountId',
  'diskReserveBytes',
  'logLevel',
];

const HELP_FLAGS = ['--help', '-h'];

/** By name: the files they come from open parts that a command line with a mistake in it does not need. */
const TOLD_ERRORS = [
  'CommandFailed',
  'UsageError',
  'ConfigError',
  'StartError',
  'KeyUnavailable',
  'ImageFailure',
  'PolicyRefused',
  'BackupFailed',
  'CopyFailed',
  'ImportFailed',
];

/** Whether the message is a sentence for the person at the terminal; any other error is a mistake in this program. */
function isTold(error: unknown): error is Error {
  return error instanceof ServiceError || (error instanceof Error && TOLD_ERRORS.includes(error.name));
}

/** @returns the exit code: 0 done, 1 could not be done, 2 not understood. */
export async function run(argv: readonly string[], streams: Streams): Promise<number> {
  try {
    return await runCommand(argv, streams);
  } catch (error) {
    if (!isTold(error)) throw error;
    streams.err.write(`backlot: ${error.message}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}

async function runCommand(argv: readonly string[], streams: Streams): Promise<number> {
  const allWords = wordsOf(argv);
  if (argv.includes('--version')) {
    streams.out.write(`${await version()}\n`);
    return 0;
  }
  const wantsHelp = allWords[0] === 'help' || allWords.length === 0 || HELP_FLAGS.some((flag) => argv.includes(flag));
  const words = allWords[0] === 'help' ? allWords.slice(1) : allWords;
  const command = commands.find(({ name }) => name === words.slice(0, name.split(' ').length).join(' '));
  if (!command) {
    const [group] = words;
    if (group !== undefined && !isGroup(group))
      throw new UsageError(`there is no command ${group}. See: backlot --help`);
    streams[wantsHelp ? 'out' : 'err'].write(overview(group));
    return wantsHelp ? 0 : 2;
  }
  if (wantsHelp) {
    streams.out.write(help(command));
    return 0;
  }
  const { given, flags, asJson } = parse(command, argv);
  const output = await command.run(given, readConfig(process.env, flags));
  print(output, asJson, streams);
  return command.exitCode?.(output) ?? 0;
}

/** The words that are no flags and no values of flags, wherever those stand. */
function wordsOf(argv: readonly string[]): string[] {
  const options = Object.assign({}, ...commands.map(optionsOf)) as ReturnType<typeof optionsOf>;
  return parseArgs({ args: [...argv], options, allowPositionals: true, strict: false }).positionals;
}

function isGroup(word: string): boolean {
  return commands.some(({ name }) => name.startsWith(`${word} `));
}

async function version(): Promise<string> {
  const { readFileSync } = await import('node:fs');
  return (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string })
    .version;
}

function settingsOf(command: Command): (keyof Settings)[] {
  return command.allSettings ? (Object.keys(SETTINGS) as (keyof Settings)[]) : [...DATA_SETTINGS];
}

function flagsOf(command: Command): string[] {
  return settingsOf(command).flatMap((name) => SETTINGS[name].flag ?? []);
}

/** @throws UsageError */
function parse(command: Command, argv: readonly string[]) {
  const { values, positionals } = parsed(command, argv);
  const rest = positionals.slice(command.name.split(' ').length);
  if (rest.length !== command.positionals.length) throw usage(command, `${command.name} takes ${expected(command)}`);
  for (const [name, option] of Object.entries(command.options)) {
    if (option.required && values[name] === undefined) throw usage(command, `--${name} is missing`);
  }
  const given: Arguments = {
    positionals: rest,
    option: (name) => values[name] as string | undefined,
    options: (name) => (values[name] as string[] | undefined) ?? [],
    has: (name) => values[name] === true,
  };
  const flagNames = flagsOf(command);
  const flags = Object.fromEntries(flagNames.map((flag) => [flag, values[flag] as string | undefined]));
  return { given, flags, asJson: values.json === true };
}

type ParseOptions = Record<string, { type: 'string' | 'boolean'; multiple: boolean }>;

function optionsOf(command: Command): ParseOptions {
  const options: ParseOptions = { json: { type: 'boolean', multiple: false } };
  for (const flag of flagsOf(command)) options[flag] = { type: 'string', multiple: false };
  for (const [name, option] of Object.entries(command.options)) {
    options[name] = { type: option.value ? 'string' : 'boolean', multiple: option.repeatable ?? false };
  }
  return options;
}

function parsed(command: Command, argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: optionsOf(command), allowPositionals: true, strict: true });
  } catch (error) {
    throw usage(command, (error as Error).message.split(/\. |\n/)[0]!);
  }
}

function expected({ positionals }: Command): string {
  return positionals.length === 0 ? 'no arguments' : positionals.join(' ');
}

function usage(command: Command, problem: string): UsageError {
  return new UsageError(`${problem}. See: backlot ${command.name} --help`);
}

function overview(group: string | undefined): string {
  const listed = commands.filter(({ name }) => group === undefined || name.startsWith(`${group} `));
  const width = Math.max(...listed.map(({ name }) => name.length));
  const lines = listed.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`);
  return `Usage: backlot COMMAND [OPTIONS]\n\n${lines.join('\n')}\n\nbacklot COMMAND --help tells more. Every command prints a table on a terminal, JSON on a pipe.\n`;
}

function help(command: Command): string {
  const rows: [string, string][] = Object.entries(command.options).map(([name, option]) => [
    `--${name}${option.value ? ` ${option.value}` : ''}`,
    `${option.meaning}${option.required ? ' (required)' : ''}${option.repeatable ? ' (may repeat)' : ''}`,
  ]);
  const settings = settingsOf(command).map((name): [string, string] => {
    const { flag, env, meaning, default: byDefault } = SETTINGS[name];
    if (flag === undefined) return [env, meaning];
    return [`--${flag} VALUE`, `${meaning} (${env}${byDefault ? `, default ${byDefault}` : ''})`];
  });
  rows.push(['--json', 'Print JSON on a terminal too'], ...settings);
  const width = Math.max(...rows.map(([left]) => left.length));
  const usageLine = ['backlot', command.name, ...command.positionals, '[OPTIONS]'].join(' ');
  const note = command.note ? `${command.note}\n\n` : '';
  return `Usage: ${usageLine}\n\n${command.summary}\n\n${note}${rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join('')}`;
}
