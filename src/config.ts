/**
 * What this process is set to: from flags, the environment and the defaults of settings.ts. This is the only file that
 * reads the environment; everything else is handed the frozen result. A refusal must never show a value that may hold a
 * password.
 */
import { parseDatabaseUrl } from './setting-values.ts';
import { SETTINGS, type Setting, type Settings } from './settings.ts';

export interface Config extends Settings {
  /** Names of the settings that were set, and not left at their default. */
  readonly given: ReadonlySet<string>;
}

/** A setting that is missing or has a value it cannot have. The message is one line that names it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** The address of a PostgreSQL database in a variable that a command names. @throws ConfigError */
export function readDatabaseUrl(
  name: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): string {
  const parsed = parseDatabaseUrl(environment[name] ?? '');
  if ('must' in parsed) throw new ConfigError(`${name} must ${parsed.must}`);
  if (parsed.value === undefined) throw new ConfigError(`${name} is not set: it must hold the address of a database`);
  return parsed.value;
}

/**
 * The settings from flags, then the environment, then the defaults.
 * @param flags by flag name without dashes.
 * @throws ConfigError with one line that names the setting.
 */
export function readConfig(
  environment: Readonly<Record<string, string | undefined>> = process.env,
  flags: Readonly<Record<string, string | undefined>> = {},
): Config {
  const given = new Set<string>();
  const entries = Object.entries(SETTINGS).map(([name, setting]) => {
    const flag = setting.flag === undefined ? undefined : flags[setting.flag];
    const text = flag ?? (environment[setting.env] || undefined);
    if (text !== undefined) given.add(name);
    const parsed = (setting as Setting<unknown>).parse(text ?? setting.default);
    if ('value' in parsed) return [name, parsed.value];
    const source = flag === undefined ? setting.env : `--${setting.flag}`;
    const shown = setting.flag === undefined ? '' : `; it is ${JSON.stringify(text ?? setting.default)}`;
    throw new ConfigError(`${source} must ${parsed.must}${shown}`);
  });
  return Object.freeze({ ...(Object.fromEntries(entries) as unknown as Settings), given });
}
