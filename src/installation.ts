/**
 * What a data directory remembers of itself: that its keys are its own, which region and account its ids name, which
 * identity store its users are in, and that its first access key was made. A start with the wrong root key or without the right database must end before it makes
 * or destroys anything.
 */
import { existsSync } from 'node:fs';
import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import { type DataDirectory, StartError } from './data-directory.ts';
import { newAccessKey } from './domain/access-key.ts';
import { commandLine } from './domain/audit.ts';
import type { Services } from './domain/context.ts';
import { KIND, newRow } from './domain/kinds.ts';
import { identityStoreOf, newIdentityStore } from './domain/user.ts';
import { destroyDurably, writeDurably } from './files.ts';
import type { Images } from './images/images.ts';
import type { Keys } from './keys/keys.ts';
import type { Log } from './log.ts';
import { SETTINGS } from './settings.ts';
import { GuardFailed, type Row, type Store } from './store/store.ts';

const ROOT_KEY = 'root-key';
const PLACE = 'place';
const FIRST_ACCESS_KEY = 'first-access-key';
const NO_CREDENTIALS = 'there is no credentials file; make a key with: backlot access-key create';

interface Parts {
  readonly store: Store;
  readonly keys: Keys;
  readonly images: Images;
  readonly clock: Clock;
}

/** @throws StartError when the database and the keys, or the database and the images, do not belong together. */
export async function requireOwnKeys({ store, keys, images, clock }: Parts): Promise<void> {
  const row = await store.get(KIND.installation, ROOT_KEY);
  if (row) {
    requireRootKeyOf(row, keys);
    return;
  }
  const { length } = await images.list();
  if (length > 0) {
    throw new StartError(
      `The database is new, but there are ${length} encrypted images that it does not know. ` +
        'Restore the database from a backup, or move the directory images away.',
    );
  }
  const mark = JSON.stringify({ sealed: keys.seal(ROOT_KEY, ROOT_KEY) });
  await insertOnce(store, { ...markRow(ROOT_KEY, clock), private: mark });
  // The mark may be another server's that starts at the same time, and has keys of its own where none are shared.
  requireRootKeyOf((await store.get(KIND.installation, ROOT_KEY))!, keys);
}

function requireRootKeyOf(row: Row, keys: Keys): void {
  try {
    keys.open((JSON.parse(row.private) as { sealed: string }).sealed, ROOT_KEY);
  } catch {
    throw new StartError(
      'keys/root.key in the data directory is not the key that the database was made with. ' +
        'Restore it from a backup; servers that share a database must share keys and images as well.',
    );
  }
}

/** What ids and ARNs name. */
type Place = Pick<Config, 'region' | 'accountId'>;

/**
 * The region and account of the data directory, or those that are set while nothing names any.
 * @throws StartError when others are set than it has.
 */
export async function placeOf(config: Config, store: Store): Promise<Place> {
  const { region, accountId, given } = config;
  const row = await store.get(KIND.installation, PLACE);
  if (!row) return { region, accountId };
  const place = JSON.parse(row.doc) as Place;
  for (const name of ['region', 'accountId'] as const) {
    if (!given.has(name) || config[name] === place[name]) continue;
    throw new StartError(
      `The ids and ARNs of the data directory ${config.dataDir} name ${place[name]}, not ${config[name]}: ` +
        `leave out ${SETTINGS[name].env} and --${SETTINGS[name].flag}, or take another data directory`,
    );
  }
  return place;
}

/** Before the first id or ARN is made, which will name them for good. @throws StartError when others were faster. */
export async function keepPlace({ config, store, clock }: Pick<Parts, 'store' | 'clock'> & { config: Config }) {
  const { region, accountId } = config;
  const doc = JSON.stringify({ region, accountId });
  await insertOnce(store, { ...markRow(PLACE, clock), doc });
  await placeOf({ ...config, given: new Set(['region', 'accountId']) }, store);
}

/** The id of the identity store, made with the first user or group and never again. */
export async function ensureIdentityStore({
  store,
  clock,
  ids,
}: Pick<Parts, 'store' | 'clock'> & Pick<Services, 'ids'>): Promise<string> {
  const before = await identityStoreOf(store);
  if (before !== undefined) return before;
  await insertOnce(store, newIdentityStore(ids.identityStore(), { clock }));
  return (await identityStoreOf(store))!;
}

export interface FirstAccessKeyParts extends Parts, Pick<Services, 'ids'> {
  readonly directory: DataDirectory;
  readonly config: { readonly region: string };
  readonly log: Pick<Log, 'info'>;
}

/**
 * On the first start, an access key for the administrator, in a file that AWS tools read. Once only: an administrator who
 * deletes every key wants none. The file comes first, so that a crash in between is mended by the next start.
 */
export async function makeFirstAccessKey(parts: FirstAccessKeyParts): Promise<void> {
  const { store, keys, directory, config, clock, log } = parts;
  if (await store.get(KIND.installation, FIRST_ACCESS_KEY)) {
    if (!existsSync(directory.credentials)) log.info({}, NO_CREDENTIALS);
    return;
  }
  const { row, secretAccessKey } = newAccessKey('first start', keys, parts);
  const file = credentialsFile(row.id, secretAccessKey, config.region);
  await writeDurably(directory.credentials, Buffer.from(file));
  try {
    await store.write([
      { op: 'insert', row },
      { op: 'insert', row: markRow(FIRST_ACCESS_KEY, clock) },
      commandLine('first start', row.id, parts),
    ]);
  } catch (error) {
    if (!(error instanceof GuardFailed)) throw error;
    // Another server of the same database was faster: the key is in its data directory, and this file names none.
    await destroyDurably(directory.credentials);
    log.info({}, NO_CREDENTIALS);
  }
}

/** AWS shared-credentials format. */
function credentialsFile(accessKeyId: string, secretAccessKey: string, region: string): string {
  return `[default]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\nregion = ${region}\n`;
}

function markRow(id: string, clock: Clock): Row {
  return newRow({ kind: KIND.installation, id, createdAt: clock.now(), doc: '{}' });
}

/** Another process that starts at the same time may be faster. */
async function insertOnce(store: Store, row: Row): Promise<void> {
  try {
    await store.write([{ op: 'insert', row }]);
  } catch (error) {
    if (!(error instanceof GuardFailed)) throw error;
  }
}
