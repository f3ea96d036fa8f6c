/**
 * Decides whether a tar archive is the whole root file system of a Linux system, and nothing else.
 *
 * Every name in it must stay inside the directory that it is unpacked to, whoever unpacks it and in whatever order things
 * then lie there: no absolute name, none with `..`, no hard link to outside, nothing that is reached through a symbolic
 * link of the archive. Where symbolic links point is for the system inside to follow, which sees only its own root; one
 * that climbs above that root is refused all the same. Devices are taken only below /dev, which no system inside ever gets
 * to see. It must never keep more in memory than `LINK_BYTES_MAX` says.
 */
import { type DiskReader, refuse, refuseCorrupt, requireVirtualBytes, SECTOR_BYTES } from './inspect-reader.ts';
import { type TarEntry, TarHeaders } from './inspect-tar-header.ts';

/** Ten times what a large workstation has. */
const ENTRIES_MAX = 5_000_000;
/** Of the names of all symbolic links together. */
const LINK_BYTES_MAX = 64 * 2 ** 20;
/** What a root file system has at its top: settings, and programs. */
const SETTINGS = 'etc';
const PROGRAMS: readonly string[] = ['bin', 'usr'];
const DEVICES = 'dev/';

export async function inspectTar(reader: DiskReader, virtualBytesMax: number): Promise<number> {
  if (reader.fileBytes % SECTOR_BYTES !== 0) refuseCorrupt('its length is not a whole number of blocks');
  requireVirtualBytes(reader.fileBytes, virtualBytesMax);
  const headers = new TarHeaders(reader);
  const tree = new Tree();
  for (let entries = 0; ; entries += 1) {
    const entry = await headers.next();
    if (entry === undefined) break;
    if (entries === ENTRIES_MAX)
      refuse('TOO_LARGE', 'The tar archive has too many entries; leave out what is not needed.');
    tree.add(entry);
  }
  await requireNothingBehind(reader, headers.offset);
  tree.requireSystem();
  return reader.fileBytes;
}

/** Writers fill their last record up with empty blocks; anything else there is hidden from whoever unpacks it. */
async function requireNothingBehind(reader: DiskReader, offset: number): Promise<void> {
  for await (const chunk of reader.chunks(offset, reader.fileBytes - offset, 'its last block')) {
    if (chunk.some((byte) => byte !== 0)) refuseCorrupt('there is something behind its end');
  }
}

/** What is known of the entries so far. */
class Tree {
  readonly #symbolicLinks = new Set<string>();
  readonly #top = new Set<string>();
  #linkBytes = 0;

  add({ kind, name, linkName }: TarEntry): void {
    const parts = partsOf(name);
    const path = parts.join('/');
    if (/\.ovf$/i.test(path)) {
      refuse(
        'UNSUPPORTED_FORMAT',
        'This is an OVA file, which is an archive; unpack it and give the disk image inside.',
      );
    }
    // An entry for the root itself, which most archives begin with.
    if (parts.length === 0) {
      if (kind !== 'directory') refuseOutside();
      return;
    }
    this.#requireReal(parts);
    this.#top.add(parts[0]!);
    if (kind === 'symbolicLink') this.#addLink(parts, path, linkName);
    if (kind === 'hardLink') this.#requireReal(partsOf(linkName));
    if (kind === 'device' && !path.startsWith(DEVICES)) {
      refuse('UNSUPPORTED_FEATURE', 'The tar archive holds a device outside of /dev; make it again without.');
    }
  }

  requireSystem(): void {
    if (this.#top.has(SETTINGS) && PROGRAMS.some((name) => this.#top.has(name))) return;
    refuse(
      'UNSUPPORTED_FORMAT',
      'This is a tar archive, but not of a root file system: it has no /etc, or neither /usr nor /bin. ' +
        'If a disk image is inside, unpack it and give that.',
    );
  }

  #addLink(parts: readonly string[], path: string, target: string): void {
    this.#linkBytes += path.length;
    if (this.#linkBytes > LINK_BYTES_MAX) refuse('TOO_LARGE', 'The tar archive has too many symbolic links.');
    this.#symbolicLinks.add(path);
    let depth = target.startsWith('/') ? 0 : parts.length - 1;
    for (const part of target.split('/')) {
      if (part === '..') depth -= 1;
      else if (part !== '' && part !== '.') depth += 1;
      if (depth < 0) refuseOutside();
    }
  }

  /** Neither the place itself nor any directory on the way to it is a symbolic link of the archive. */
  #requireReal(parts: readonly string[]): void {
    let path = '';
    for (const part of parts) {
      path = path === '' ? part : `${path}/${part}`;
      if (this.#symbolicLinks.has(path)) refuseCorrupt('something in it lies behind one of its symbolic links');
    }
  }
}

/** The directories on the way, and what is in the last one. */
function partsOf(name: string): string[] {
  if (name.startsWith('/')) refuseOutside();
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) refuseOutside();
  return parts;
}

function refuseOutside(): never {
  refuse(
    'EXTERNAL_REFERENCE',
    'The tar archive names something outside of itself; make it again from within the root file system: tar -C ROOT -cf FILE .',
  );
}
