/**
 * Every setting of Backlot, once: its variable, its flag, its default, what it means and which values it takes. This is
 * the only file that reads the environment; everything else is handed the frozen result. The README's table is made from
 * the same list.
 */
import { resolve } from 'node:path';
import { type InstanceTypes, parseInstanceTypes } from './compute/instance-types.ts';
import { STREAMING_SESSION_FAILURES, type StreamingSessionFailure } from './contract/streaming-session.ts';

const ENGINES = ['auto', 'qemu', 'sandbox', 'simulated', 'none'] as const;

export interface Settings {
  /** Absolute path. */
  readonly dataDir: string;
  /** May hold a password. Undefined: SQLite in the data directory. */
  readonly databaseUrl: string | undefined;
  readonly databaseConnectionsMax: number;
  readonly host: string;
  readonly port: number;
  readonly region: string;
  readonly accountId: string;
  /** No trailing slash; undefined: the address that the server listens on. */
  readonly publicUrl: string | undefined;
  /** Absolute paths, set both or neither. */
  readonly tlsCertFile: string | undefined;
  readonly tlsKeyFile: string | undefined;
  readonly tombstoneMs: number;
  readonly tokenMs: number;
  readonly loginMs: number;
  readonly streamingImagesMax: number;
  readonly studioComponentsMax: number;
  readonly sharedFileSystemsMax: number;
  readonly streamingSessionsMax: number;
  readonly g5SessionsMax: number;
  /** Undefined: as many as the studio may have. */
  readonly sessionsPerOwnerMax: number | undefined;
  readonly launchProfilesMax: number;
  readonly throttle: boolean;
  readonly throttleReadsPerSecond: number;
  readonly throttleWritesPerSecond: number;
  readonly auditMs: number;
  readonly bodyBytesMax: number;
  readonly headerBytesMax: number;
  readonly requestMs: number;
  readonly connectionsMax: number;
  readonly clockSkewMs: number;
  readonly importsMax: number;
  readonly compute: (typeof ENGINES)[number];
  /** Those that are changed or added. */
  readonly instanceTypes: InstanceTypes;
  /** Undefined: what the host has, less a reserve. */
  readonly computeMemoryMib: number | undefined;
  readonly computeNetwork: 'none' | 'nat';
  readonly accelerator: 'auto' | 'kvm' | 'tcg';
  readonly bootMs: number;
  readonly stopMs: number;
  readonly screenshots: boolean;
  readonly simulatedStartMs: number;
  /** Undefined: every start ends well. */
  readonly simulatedFailure: StreamingSessionFailure | undefined;
  readonly sessionStartsMax: number;
  readonly streamViewersMax: number;
  readonly leaseMs: number;
  readonly diskReserveBytes: number;
  readonly logLevel: string;
}

export interface Config extends Settings {
  /** Names of the settings that were set, and not left at their default. */
  readonly given: ReadonlySet<string>;
}

interface Setting<T> {
  readonly env: string;
  /** Absent where the value is a secret, which a command line would show to everyone on the machine. */
  readonly flag?: string;
  readonly default: string;
  readonly meaning: string;
  /** The value, or a sentence fragment that says what it must be. */
  readonly parse: (text: string) => { value: T } | { must: string };
}

/** A setting that is missing or has a value it cannot have. The message is one line that names it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

type Parse<T> = Setting<T>['parse'];

/** A whole number between two others, times `unit`. */
function whole(min: number, max: number, unit = 1): Parse<number> {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return { value: value * unit };
    return { must: `be a whole number from ${min} to ${max}` };
  };
}

/** A number between two others, times `unit`; fractions are fine. */
function amount(min: number, max: number, unit: number): Parse<number> {
  return (text) => {
    const value = /^\d{1,9}(\.\d{1,6})?$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return { value: Math.round(value * unit) };
    return { must: `be a number from ${min} to ${max}` };
  };
}

function matching(pattern: RegExp, must: string): Parse<string> {
  return (text) => (pattern.test(text) ? { value: text } : { must });
}

/** One of these words. */
function oneOf<const T extends string>(words: readonly T[]): Parse<T> {
  return (text) => {
    const value = words.find((word) => word === text);
    return value === undefined ? { must: `be one of ${words.join(', ')}` } : { value };
  };
}

/** Empty, or what another setting of this kind may be. */
function optional<T>(parse: Parse<T>): Parse<T | undefined> {
  return (text) => (text === '' ? { value: undefined } : parse(text));
}

const onOrOff: Parse<boolean> = (text) =>
  text === 'on' || text === 'off' ? { value: text === 'on' } : { must: 'be on or off' };

function parseTypes(text: string): { value: InstanceTypes } | { must: string } {
  const value = parseInstanceTypes(text);
  return value ? { value } : { must: 'look like g4dn.xlarge=2:4096,g5.xlarge=4:8192: processors, and memory in MiB' };
}

function parseSimulatedFailure(text: string): { value: StreamingSessionFailure | undefined } | { must: string } {
  const value = STREAMING_SESSION_FAILURES.find((code) => code === text);
  return text === '' || value ? { value } : { must: `be empty or one of ${STREAMING_SESSION_FAILURES.join(', ')}` };
}

/** A host may be the directory of a socket: postgres:///database?host=/run/postgresql */
function parseDatabaseUrl(text: string): { value: string | undefined } | { must: string } {
  if (text === '') return { value: undefined };
  const must =
    'be an address such as postgresql://user:password@host:5432/database, where what is no letter and no digit of the ' +
    'password is percent-encoded';
  if (!URL.canParse(text)) return { must };
  const { protocol, hostname, pathname, searchParams } = new URL(text);
  if (!/^postgres(ql)?:$/.test(protocol) || !/^\/[^/]+$/.test(pathname) || !(hostname || searchParams.get('host')))
    return { must };
  return { value: text };
}

const HOUR_MS = 3_600_000;
const SECOND_MS = 1_000;
const MIB = 1024 * 1024;

function parsePublicUrl(text: string): { value: string | undefined } | { must: string } {
  if (text === '') return { value: undefined };
  const must = 'be an http:// or https:// address without a path, for example https://backlot.example.org';
  if (!URL.canParse(text)) return { must };
  const url = new URL(text);
  if (!/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search || url.hash || url.username)
    return { must };
  return { value: url.origin };
}

function parseFile(text: string): { value: string | undefined } | { must: string } {
  if (text === '') return { value: undefined };
  return text.endsWith('/') ? { must: 'be a file' } : { value: resolve(text) };
}

export const SETTINGS: { readonly [K in keyof Settings]: Setting<Settings[K]> } = {
  dataDir: {
    env: 'BACKLOT_DATA_DIR',
    flag: 'data-dir',
    default: './data',
    meaning: 'Directory that holds everything: database, keys, images, credentials',
    parse: (text) => (text === '' ? { must: 'be a directory' } : { value: resolve(text) }),
  },
  databaseUrl: {
    env: 'BACKLOT_DATABASE_URL',
    default: '',
    meaning:
      'PostgreSQL database to use in place of the one in the data directory; has no flag, as it may hold a password',
    parse: parseDatabaseUrl,
  },
  databaseConnectionsMax: {
    env: 'BACKLOT_DATABASE_CONNECTIONS_MAX',
    flag: 'database-connections-max',
    default: '10',
    meaning: 'Connections to PostgreSQL that this process may have at once, beside one to listen on',
    parse: whole(1, 1_000),
  },
  host: {
    env: 'BACKLOT_HOST',
    flag: 'host',
    default: '127.0.0.1',
    meaning: 'Address to listen on',
    parse: matching(/^[\w.:-]+$/, 'be a host name or an IP address'),
  },
  port: {
    env: 'BACKLOT_PORT',
    flag: 'port',
    default: '8642',
    meaning: 'Port to listen on; 0 takes any free one',
    parse: whole(0, 65_535),
  },
  region: {
    env: 'BACKLOT_REGION',
    flag: 'region',
    default: 'us-west-2',
    meaning: 'Region that requests are signed for and that ids and ARNs name; a data directory keeps its first',
    parse: matching(/^[a-z]{2}(-[a-z]+)+-\d$/, 'look like us-west-2'),
  },
  accountId: {
    env: 'BACKLOT_ACCOUNT_ID',
    flag: 'account-id',
    default: '000000000000',
    meaning: 'Account that ARNs name; a data directory keeps its first',
    parse: matching(/^\d{12}$/, 'be 12 digits'),
  },
  publicUrl: {
    env: 'BACKLOT_PUBLIC_URL',
    flag: 'public-url',
    default: '',
    meaning: 'Address that clients use, where a proxy stands in between; requests are signed for its host',
    parse: parsePublicUrl,
  },
  tlsCertFile: {
    env: 'BACKLOT_TLS_CERT_FILE',
    flag: 'tls-cert-file',
    default: '',
    meaning: 'Certificate for TLS in PEM form, those it depends on behind it; SIGHUP has it read again',
    parse: parseFile,
  },
  tlsKeyFile: {
    env: 'BACKLOT_TLS_KEY_FILE',
    flag: 'tls-key-file',
    default: '',
    meaning: "The certificate's private key in PEM form, without a passphrase",
    parse: parseFile,
  },
  tombstoneMs: {
    env: 'BACKLOT_TOMBSTONE_HOURS',
    flag: 'tombstone-hours',
    default: '24',
    meaning: 'Hours that something deleted stays readable as DELETED; under 0.25, waiters of clients may fail',
    parse: amount(0, 24 * 365, HOUR_MS),
  },
  tokenMs: {
    env: 'BACKLOT_CLIENT_TOKEN_HOURS',
    flag: 'client-token-hours',
    default: '24',
    meaning: 'Hours that a client token is remembered',
    parse: amount(0, 24 * 365, HOUR_MS),
  },
  loginMs: {
    env: 'BACKLOT_LOGIN_HOURS',
    flag: 'login-hours',
    default: '12',
    meaning: 'Hours that a log-in is good for, 36 at most',
    parse: amount(0.25, 36, HOUR_MS),
  },
  streamingImagesMax: {
    env: 'BACKLOT_QUOTA_STREAMING_IMAGES',
    flag: 'quota-streaming-images',
    default: '10',
    meaning: 'Streaming images that a studio may have',
    parse: whole(0, 10_000_000),
  },
  studioComponentsMax: {
    env: 'BACKLOT_QUOTA_STUDIO_COMPONENTS',
    flag: 'quota-studio-components',
    default: '500',
    meaning: 'Studio components that a studio may have',
    parse: whole(0, 10_000),
  },
  sharedFileSystemsMax: {
    env: 'BACKLOT_QUOTA_SHARED_FILE_SYSTEMS',
    flag: 'quota-shared-file-systems',
    default: '10',
    meaning: 'Studio components of type SHARED_FILE_SYSTEM that a studio may have',
    parse: whole(0, 10_000),
  },
  streamingSessionsMax: {
    env: 'BACKLOT_QUOTA_STREAMING_SESSIONS',
    flag: 'quota-streaming-sessions',
    default: '500',
    meaning: 'Streaming sessions that a studio may have, stopped ones included',
    parse: whole(0, 10_000),
  },
  g5SessionsMax: {
    env: 'BACKLOT_QUOTA_G5_SESSIONS',
    flag: 'quota-g5-sessions',
    default: '500',
    meaning: 'Streaming sessions of the g5 instance types that a studio may have',
    parse: whole(0, 10_000),
  },
  sessionsPerOwnerMax: {
    env: 'BACKLOT_QUOTA_STREAMING_SESSIONS_PER_OWNER',
    flag: 'quota-streaming-sessions-per-owner',
    default: '',
    meaning: 'Streaming sessions of a studio that one person may own, stopped ones included; all of them if left out',
    parse: optional(whole(0, 10_000)),
  },
  launchProfilesMax: {
    env: 'BACKLOT_QUOTA_LAUNCH_PROFILES',
    flag: 'quota-launch-profiles',
    default: '50',
    meaning: 'Launch profiles that a studio may have',
    parse: whole(0, 10_000),
  },
  throttle: {
    env: 'BACKLOT_THROTTLE',
    flag: 'throttle',
    default: 'on',
    meaning: 'Whether who calls too fast is told to wait, with ThrottlingException; on or off',
    parse: onOrOff,
  },
  throttleReadsPerSecond: {
    env: 'BACKLOT_THROTTLE_READS_PER_SECOND',
    flag: 'throttle-reads-per-second',
    default: '1000',
    meaning:
      "Reads that each user or service may make in a second, with all its keys; five seconds' worth may come at once",
    parse: whole(1, 1_000_000),
  },
  throttleWritesPerSecond: {
    env: 'BACKLOT_THROTTLE_WRITES_PER_SECOND',
    flag: 'throttle-writes-per-second',
    default: '200',
    meaning:
      "Changes that each user or service may make in a second, with all its keys; five seconds' worth may come at once",
    parse: whole(1, 1_000_000),
  },
  auditMs: {
    env: 'BACKLOT_AUDIT_DAYS',
    flag: 'audit-days',
    default: '90',
    meaning: 'Days that the lines of backlot audit are kept',
    parse: amount(0, 36_500, 24 * HOUR_MS),
  },
  bodyBytesMax: {
    env: 'BACKLOT_BODY_BYTES_MAX',
    flag: 'body-bytes-max',
    default: '1048576',
    meaning: 'Largest request body, in bytes',
    parse: whole(1_024, 64 * MIB),
  },
  headerBytesMax: {
    env: 'BACKLOT_HEADER_BYTES_MAX',
    flag: 'header-bytes-max',
    default: '16384',
    meaning: 'Largest request line and headers together, in bytes',
    parse: whole(4_096, MIB),
  },
  requestMs: {
    env: 'BACKLOT_REQUEST_SECONDS',
    flag: 'request-seconds',
    default: '30',
    meaning: 'Seconds within which a request must have arrived whole',
    parse: amount(0.1, 3_600, SECOND_MS),
  },
  connectionsMax: {
    env: 'BACKLOT_CONNECTIONS_MAX',
    flag: 'connections-max',
    default: '1024',
    meaning: 'Connections that may be open at once',
    parse: whole(1, 100_000),
  },
  clockSkewMs: {
    env: 'BACKLOT_CLOCK_SKEW_MINUTES',
    flag: 'clock-skew-minutes',
    default: '5',
    meaning: "Minutes that a client's clock may be off",
    parse: amount(0, 24 * 60, 60 * SECOND_MS),
  },
  importsMax: {
    env: 'BACKLOT_IMPORTS_MAX',
    flag: 'imports-max',
    default: '2',
    meaning: 'Streaming images that are copied and encrypted at once',
    parse: whole(1, 64),
  },
  compute: {
    env: 'BACKLOT_COMPUTE',
    flag: 'compute',
    default: 'auto',
    meaning:
      'What workstations run on: qemu, sandbox, simulated (records only) or none (another server has them); auto takes qemu where it is installed',
    parse: oneOf(ENGINES),
  },
  instanceTypes: {
    env: 'BACKLOT_INSTANCE_TYPES',
    flag: 'instance-types',
    default: '',
    meaning: 'Sizes of instance types that are changed or added: name=processors:MiB,…',
    parse: parseTypes,
  },
  computeMemoryMib: {
    env: 'BACKLOT_COMPUTE_MEMORY_MIB',
    flag: 'compute-memory-mib',
    default: '',
    meaning: 'Memory that workstations may take together, in MiB; what the host has less a reserve if left out',
    parse: optional(whole(64, 100_000_000)),
  },
  computeNetwork: {
    env: 'BACKLOT_COMPUTE_NETWORK',
    flag: 'compute-network',
    default: 'none',
    meaning: 'What workstations reach: none, or nat: whatever this server reaches, its own network included',
    parse: oneOf(['none', 'nat']),
  },
  accelerator: {
    env: 'BACKLOT_COMPUTE_ACCELERATOR',
    flag: 'compute-accelerator',
    default: 'auto',
    meaning:
      'What runs virtual machines: kvm, tcg (imitates the processor, slower by far), or auto: KVM where a machine runs on it',
    parse: oneOf(['auto', 'kvm', 'tcg']),
  },
  bootMs: {
    env: 'BACKLOT_COMPUTE_BOOT_SECONDS',
    flag: 'compute-boot-seconds',
    default: '300',
    meaning: 'Seconds within which a workstation must have started and be usable',
    parse: amount(1, 86_400, SECOND_MS),
  },
  stopMs: {
    env: 'BACKLOT_COMPUTE_STOP_SECONDS',
    flag: 'compute-stop-seconds',
    default: '60',
    meaning: 'Seconds that a workstation has to shut itself down, before it is ended by force',
    parse: amount(1, 3_600, SECOND_MS),
  },
  screenshots: {
    env: 'BACKLOT_SCREENSHOTS',
    flag: 'screenshots',
    default: 'off',
    meaning: "Whether `backlot session picture` may take a picture of somebody's screen; on or off",
    parse: onOrOff,
  },
  simulatedStartMs: {
    env: 'BACKLOT_SIMULATED_START_SECONDS',
    flag: 'simulated-start-seconds',
    default: '0',
    meaning: 'Seconds that a simulated workstation takes to start',
    parse: amount(0, 3_600, SECOND_MS),
  },
  simulatedFailure: {
    env: 'BACKLOT_SIMULATED_FAILURE',
    flag: 'simulated-failure',
    default: '',
    meaning: 'Status code that every start of a simulated workstation fails with, such as INSUFFICIENT_CAPACITY',
    parse: parseSimulatedFailure,
  },
  sessionStartsMax: {
    env: 'BACKLOT_SESSION_STARTS_MAX',
    flag: 'session-starts-max',
    default: '4',
    meaning: 'Sessions that are created at once; as many again are started again at once',
    parse: whole(1, 256),
  },
  streamViewersMax: {
    env: 'BACKLOT_STREAM_VIEWERS',
    flag: 'stream-viewers',
    default: '1',
    meaning: 'Windows that may show the desktop of one session at once; the newest take the place of older ones',
    parse: whole(1, 100),
  },
  leaseMs: {
    env: 'BACKLOT_LEASE_SECONDS',
    flag: 'lease-seconds',
    default: '15',
    meaning: 'Seconds after which work of a process that died is taken up again',
    parse: amount(0.5, 3_600, SECOND_MS),
  },
  diskReserveBytes: {
    env: 'BACKLOT_DISK_RESERVE_MB',
    flag: 'disk-reserve-mb',
    default: '64',
    meaning: 'Free space in MiB that copies of images leave for the database',
    parse: whole(0, 1_000_000_000, MIB),
  },
  logLevel: {
    env: 'BACKLOT_LOG_LEVEL',
    flag: 'log-level',
    default: 'info',
    meaning: 'One of debug, info, warn, error, silent',
    parse: matching(/^(debug|info|warn|error|silent)$/, 'be debug, info, warn, error or silent'),
  },
};

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
