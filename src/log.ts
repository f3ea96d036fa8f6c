/**
 * JSON log lines on standard error. What the API's model calls sensitive (names, descriptions, scripts, addresses) and
 * whatever is secret must never be logged; lines name resources by id, and the list below is the second net.
 */
import { pino } from 'pino';

export type Log = Pick<ReturnType<typeof pino>, 'debug' | 'info' | 'warn' | 'error' | 'isLevelEnabled'>;

/** Members that never reach a log line, at the top or one level down. */
export const SENSITIVE_MEMBERS = [
  'name',
  'description',
  'displayName',
  'computerAttributes',
  'scriptParameters',
  'initializationScripts',
  'script',
  'endpoint',
  'shareName',
  'linuxMountPoint',
  'windowsMountDrive',
  'root',
  'linux',
  'windows',
  'email',
  'userName',
  'groupName',
  'studioComponentName',
  'url',
  'password',
  'secretAccessKey',
  'sessionToken',
  'passphrase',
  'authorization',
] as const;

export function createLog(level: string): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SENSITIVE_MEMBERS.flatMap((member) => [member, `*.${member}`]), censor: '[hidden]' },
    },
    // Written at once: a line about a failure must not be lost in a buffer when the process dies of it.
    pino.destination({ fd: 2, sync: true }),
  );
}
