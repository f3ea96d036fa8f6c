/** `backlot audit`: who changed what, and who was refused, newest first. It only reads, and shows what was written. */
import { systemClock } from '../clock.ts';
import { type AuditDetails, idIn, OUTCOMES } from '../domain/audit.ts';
import type { AuditLine, AuditQuery, Store } from '../store/store.ts';
import { type Arguments, type Command, CommandFailed } from './command.ts';
import { withParts } from './with-parts.ts';

const LIMIT = 100;
const LIMIT_MAX = 100_000;
const LINES_PER_READ = 1_000;

export const auditCommands: readonly Command[] = [
  {
    name: 'audit',
    summary: 'Shows who changed what, and who was refused, newest first.',
    positionals: [],
    options: {
      principal: { value: 'ID', meaning: 'Of this principal or access key; command-line for commands' },
      operation: { value: 'NAME', meaning: 'For example UpdateStreamingImage, or the name of a command' },
      resource: { value: 'ID', meaning: 'About this id or ARN, or in the studio of this id' },
      outcome: { value: OUTCOMES.join('|'), meaning: 'How it ended' },
      since: { value: 'TIME', meaning: 'From then on: 2026-01-31, 2026-01-31T08:00:00Z, or 2h or 7d ago' },
      until: { value: 'TIME', meaning: 'Before then' },
      limit: { value: 'N', meaning: `How many lines at most; ${LIMIT} by default` },
    },
    run: (given, config) =>
      withParts(config, async ({ store, settings }) => {
        const { limit, ...query } = readQuery(given, systemClock.now());
        const resource = query.resource && (idIn(query.resource, settings) ?? query.resource);
        const lines = await readLines(store, { ...query, ...(resource && { resource }) }, limit);
        return lines.map(shown);
      }),
  },
];

/** @throws CommandFailed */
function readQuery(given: Arguments, now: number): AuditQuery {
  const outcome = given.option('outcome');
  if (outcome !== undefined && !OUTCOMES.some((one) => one === outcome)) {
    throw new CommandFailed(`--outcome must be one of ${OUTCOMES.join(', ')}.`);
  }
  const text = given.option('limit') ?? String(LIMIT);
  const limit = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > LIMIT_MAX) throw new CommandFailed(`--limit must be a whole number from 1 to ${LIMIT_MAX}.`);
  const texts = { principal: given.option('principal'), operation: given.option('operation') };
  const times = { since: readTime('since', given, now), until: readTime('until', given, now) };
  const wanted = { ...texts, resource: given.option('resource'), outcome, ...times };
  const present = Object.entries(wanted).filter(([, value]) => value !== undefined);
  return { ...Object.fromEntries(present), limit };
}

const UNIT_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** @throws CommandFailed */
function readTime(name: 'since' | 'until', given: Arguments, now: number): number | undefined {
  const text = given.option(name);
  if (text === undefined) return undefined;
  const [, count, unit] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  if (unit !== undefined) return now - Number(count) * UNIT_MS[unit]!;
  const time = /^\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d))?$/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(time)) return time;
  throw new CommandFailed(`--${name} must be a day (2026-01-31), a time (2026-01-31T08:00:00Z), or 30m, 2h or 7d ago.`);
}

/** In bounded reads, so that a server beside it never waits long. */
async function readLines(store: Store, query: Omit<AuditQuery, 'limit'>, limit: number): Promise<AuditLine[]> {
  const lines: AuditLine[] = [];
  while (lines.length < limit) {
    const wanted = Math.min(LINES_PER_READ, limit - lines.length);
    const before = lines.at(-1);
    const read = await store.audit({ ...query, ...(before && { before }), limit: wanted });
    lines.push(...read);
    if (read.length < wanted) break;
  }
  return lines;
}

/** Members are one text: a table has one cell for them, and a script reads their names and values from it as JSON. */
function shown(line: AuditLine): object {
  const { role, sourceAddress, error, code, members, omitted } = JSON.parse(line.doc) as AuditDetails;
  return {
    time: new Date(line.at).toISOString(),
    outcome: line.outcome,
    operation: line.operation,
    resourceId: line.resourceId,
    principalId: line.principalId,
    error: error && code ? `${error} ${code}` : (error ?? ''),
    members: members ? JSON.stringify(members) : '',
    accessKeyId: line.accessKeyId,
    role: role ?? '',
    studioId: line.studioId,
    sourceAddress: sourceAddress ?? '',
    requestId: line.id,
    ...(omitted !== undefined && { omitted }),
  };
}
