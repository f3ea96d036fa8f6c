/** `backlot machine-image`: the disks that streaming images are made from. */
import { basename, resolve } from 'node:path';
import { wireTime } from '../clock.ts';
import type { StreamingImage } from '../contract/streaming-image.ts';
import { reasonOf } from '../data-directory.ts';
import { commandLine } from '../domain/audit.ts';
import { KIND, newRow, PRESENT } from '../domain/kinds.ts';
import {
  DELETING,
  IMPORTING,
  type MachineImage,
  PLATFORMS,
  type Platform,
  refusalOf,
} from '../domain/machine-image.ts';
import { applyToStreamingImage } from '../domain/streaming-image.ts';
import { ImageFailure } from '../images/images.ts';
import { type DiskDescription, DiskRefused } from '../images/inspect.ts';
import type { Parts } from '../service.ts';
import { GuardFailed, type Row, type Store } from '../store/store.ts';
import { type Arguments, type Command, CommandFailed, type Option } from './command.ts';
import { listDocuments } from './list-documents.ts';
import { progressBar } from './output.ts';
import { provide, providedImagesOf } from './provide.ts';
import { stopSignal } from './stop-signal.ts';
import { withParts } from './with-parts.ts';

const NAME_LENGTH_MAX = 64;
/** More images than one installation has. */
const WAITING_MAX = 100_000;

export const NOTHING_IMPORTED = 'Stopped. Nothing was imported.';

/** What may be said of an image that comes in, whatever it is made of. */
export const WISH_OPTIONS: Readonly<Record<string, Option>> = {
  eula: { value: 'EULA_ID', meaning: 'EULA to accept before sessions start from it', repeatable: true },
  as: { value: 'EC2_IMAGE_ID', meaning: 'Id that it had elsewhere; imported images of it are made now' },
  provided: { meaning: 'Also provide it to every studio, as a streaming image owned by amazon' },
};

export const machineImageCommands: readonly Command[] = [
  {
    name: 'machine-image import',
    summary: 'Brings a disk image in, checks it, and gives it an ec2ImageId for create_streaming_image.',
    positionals: ['FILE'],
    options: {
      platform: { value: PLATFORMS.join('|'), meaning: 'Operating system on the disk', required: true },
      name: { value: 'NAME', meaning: `Name, at most ${NAME_LENGTH_MAX} characters; the file's name by default` },
      ...WISH_OPTIONS,
    },
    note:
      'Formats: raw, qcow2, vmdk, vhdx, vdi; for LINUX also tar, a root file system for BACKLOT_COMPUTE=sandbox. ' +
      'The file is copied; yours is left as it is.',
    run: (given, config) => withParts(config, (parts) => importMachineImage(given, parts)),
  },
  {
    name: 'machine-image list',
    summary: 'Lists machine images.',
    positionals: [],
    options: {},
    run: (_given, config) => withParts(config, ({ store }) => listDocuments<MachineImage>(store, KIND.machineImage)),
  },
  {
    name: 'machine-image delete',
    summary: 'Deletes a machine image, and what --provided made of it. Streaming images of studios stay as they are.',
    positionals: ['EC2_IMAGE_ID'],
    options: {},
    note: 'Sessions of what --provided made go on; its key and disk are destroyed when the last of them is deleted.',
    run: (given, config) => withParts(config, (parts) => deleteMachineImage(given.positionals[0]!, parts)),
  },
];

/** What is wanted of an image that comes in. */
export interface Wish {
  readonly ec2ImageId: string;
  readonly name: string;
  readonly platform: Platform;
  readonly eulaIds: string[];
  readonly provided: boolean;
}

async function importMachineImage(given: Arguments, parts: Parts): Promise<object> {
  const file = resolve(given.positionals[0]!);
  const platform = given.option('platform') as Platform;
  if (!PLATFORMS.includes(platform)) throw new CommandFailed(`--platform must be ${PLATFORMS.join(' or ')}.`);
  const wish = await requireWish(given, { platform, name: basename(file).slice(0, NAME_LENGTH_MAX) }, parts);
  return stoppable(NOTHING_IMPORTED, (signal) => importFile(file, wish, parts, signal));
}

/** What was asked for, with names and ids that can be. @throws CommandFailed */
export async function requireWish(
  given: Arguments,
  byDefault: Pick<Wish, 'platform' | 'name'>,
  parts: Parts,
): Promise<Wish> {
  const name = given.option('name') ?? byDefault.name;
  if ([...name].length > NAME_LENGTH_MAX)
    throw new CommandFailed(`--name must have at most ${NAME_LENGTH_MAX} characters.`);
  const ec2ImageId = given.option('as') ?? parts.ids.machineImage();
  if (!/^ami-([0-9a-f]{8}|[0-9a-f]{17})$/.test(ec2ImageId))
    throw new CommandFailed('--as must be ami- and 8 or 17 hexadecimal digits.');
  const eulaIds = await requireEulas(given.options('eula'), parts.store);
  return { ec2ImageId, name, platform: byDefault.platform, eulaIds, provided: given.has('provided') };
}

/** Lets a Ctrl-C end the work in order, and says in a sentence what failed. */
export async function stoppable<T>(stopped: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { signal, release } = stopSignal();
  try {
    return await work(signal);
  } catch (error) {
    if (error instanceof CommandFailed) throw error;
    if (signal.aborted) throw new CommandFailed(stopped);
    if (error instanceof DiskRefused || error instanceof ImageFailure) throw new CommandFailed(error.message);
    throw error;
  } finally {
    release();
  }
}

/** Brings a file in as it was wished for; what was begun is taken back when it fails. */
export async function importFile(file: string, wish: Wish, parts: Parts, signal: AbortSignal): Promise<object> {
  const { provided, ...described } = wish;
  const machineImage = await copyIn({ ...described, file }, parts, signal);
  if (!provided) return machineImage;
  const takeBack = () => deleteMachineImage(machineImage.ec2ImageId, parts);
  const streamingImageId = await orTakeBack(() => encrypt(machineImage, parts, signal), takeBack, machineImage);
  return { ...machineImage, streamingImageId };
}

function requireFits(platform: Platform, { format }: DiskDescription): void {
  const refusal = refusalOf(platform, format);
  if (refusal !== undefined) throw new CommandFailed(refusal);
}

/** What cannot be taken back after a failure is told together with it: somebody has to know of the disk. */
async function orTakeBack<T>(
  work: () => Promise<T>,
  takeBack: () => Promise<unknown>,
  { ec2ImageId }: Pick<MachineImage, 'ec2ImageId'>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await takeBack().catch((left: unknown) => {
      throw new CommandFailed(
        `${reasonOf(error)} And machine image ${ec2ImageId} is left, because it could not be deleted: ${reasonOf(left)} ` +
          `Delete it later: backlot machine-image delete ${ec2ImageId}`,
      );
    });
    throw error;
  }
}

async function requireEulas(eulaIds: readonly string[], store: Store): Promise<string[]> {
  for (const eulaId of eulaIds) {
    if (!(await store.get(KIND.eula, eulaId)))
      throw new CommandFailed(`There is no EULA ${eulaId}. See: backlot eula list`);
  }
  return [...new Set(eulaIds)];
}

async function copyIn(
  wanted: Omit<Wish, 'provided'> & { file: string },
  parts: Parts,
  signal: AbortSignal,
): Promise<MachineImage> {
  const { images, store, clock } = parts;
  const { ec2ImageId } = wanted;
  const now = clock.now();
  const { file, ...described } = wanted;
  const begun = { ...described, createdAt: wireTime(now) };
  const row = newRow({
    kind: KIND.machineImage,
    id: ec2ImageId,
    createdAt: now,
    state: IMPORTING,
    doc: JSON.stringify({ ...begun, state: IMPORTING }),
  });
  const line = commandLine('machine-image import', row.id, parts);
  await store.write([{ op: 'insert', row }, line]).catch((error) => {
    throw error instanceof GuardFailed ? new CommandFailed(`There is a machine image ${ec2ImageId} already.`) : error;
  });
  const bar = progressBar('Importing', { out: process.stdout, err: process.stderr });
  const admit = (disk: DiskDescription) => requireFits(wanted.platform, disk);
  const copy = async (): Promise<MachineImage> => {
    const disk = await images
      .importMachineImage({ id: ec2ImageId, file, nameHint: basename(file), admit, signal, onProgress: bar.show })
      .finally(bar.end);
    const machineImage: MachineImage = { ...begun, ...disk };
    const present = { ...row, version: row.version + 1, state: PRESENT, doc: JSON.stringify(machineImage) };
    await makePresent(present, parts);
    return machineImage;
  };
  return orTakeBack(copy, () => removeDisk(row.id, { images, store }), begun);
}

/** The disk is here: with the same write, images that were imported without it are handed to the worker. */
async function makePresent(present: Row, parts: Parts): Promise<void> {
  for (;;) {
    const waiting = await imagesWithoutDisk(present.id, parts.store);
    const begun = waiting.map((row) => applyToStreamingImage(row, { type: 'diskArrived' }, parts));
    try {
      await parts.store.write([present, ...begun].map((row) => ({ op: 'update', row })));
      return;
    } catch (error) {
      if (!(error instanceof GuardFailed)) throw error;
      if ((await parts.store.get(present.kind, present.id))?.version !== present.version - 1)
        throw new CommandFailed('It was deleted while it was imported.');
      // One of the images was changed or deleted meanwhile: look again.
    }
  }
}

async function imagesWithoutDisk(ec2ImageId: string, store: Store): Promise<Row[]> {
  const rows = await store.list({ kind: KIND.streamingImage, state: 'CREATE_FAILED', limit: WAITING_MAX });
  const isImported = (row: Row) => (JSON.parse(row.private) as { imported?: string }).imported !== undefined;
  return rows.filter((row) => isImported(row) && (JSON.parse(row.doc) as StreamingImage).ec2ImageId === ec2ImageId);
}

function encrypt(machineImage: MachineImage, parts: Parts, signal: AbortSignal): Promise<string> {
  const bar = progressBar('Encrypting', { out: process.stdout, err: process.stderr });
  return provide(machineImage, parts, signal, bar.show).finally(bar.end);
}

async function deleteMachineImage(ec2ImageId: string, parts: Parts): Promise<object> {
  const { store } = parts;
  const row = await store.get(KIND.machineImage, ec2ImageId);
  if (!row) throw new CommandFailed(`There is no machine image ${ec2ImageId}.`);
  const busy = await store.list({ kind: KIND.streamingImage, state: 'CREATE_IN_PROGRESS', limit: 1_000 });
  const user = busy.find(({ doc }) => (JSON.parse(doc) as StreamingImage).ec2ImageId === ec2ImageId);
  if (user) {
    throw new CommandFailed(
      `Streaming image ${user.id} is being made from it. Wait until that has ended; without a server it never does.`,
    );
  }
  const provided = await providedImagesOf(ec2ImageId, store);
  const deleted = (image: Row) => applyToStreamingImage(image, { type: 'delete' }, parts);
  const doc = JSON.stringify({ ...JSON.parse(row.doc), state: DELETING });
  await store.write([
    ...provided.map((image) => ({ op: 'update', row: deleted(image) }) as const),
    { op: 'update', row: { ...row, version: row.version + 1, state: DELETING, doc } },
    commandLine('machine-image delete', row.id, parts),
  ]);
  await removeDisk(ec2ImageId, parts);
  return { deleted: ec2ImageId, streamingImageIds: provided.map(({ id }) => id) };
}

/** The row goes last: as long as there is anything of the disk, it can be found and deleted again. */
async function removeDisk(ec2ImageId: string, { images, store }: Pick<Parts, 'images' | 'store'>): Promise<void> {
  try {
    await images.removeMachineImage(ec2ImageId);
  } catch (error) {
    throw new CommandFailed(`The disk could not be removed (${reasonOf(error)}). Delete it again when that is mended.`);
  }
  const row = await store.get(KIND.machineImage, ec2ImageId);
  if (row) await store.write([{ op: 'delete', kind: row.kind, id: row.id, version: row.version }]);
}
