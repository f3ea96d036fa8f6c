/**
 * Decides whether the text descriptor within a VMDK file describes that file and nothing else.
 *
 * Grammar is VMware's "Virtual Disk Format 5.0", The Descriptor File, but each line must be one that is understood: readers
 * of this text disagree (qemu searches it for words, others parse lines), so whatever could be read in two ways is refused.
 * It must never pass a parent, a second extent, or the name of another file, be it in a comment.
 */
import { refuse, refuseCorrupt } from './inspect-reader.ts';

export type VmdkKind = 'monolithicSparse' | 'streamOptimized';

const LINE_END = 0x0a;
const JOIN = 'make one whole file of it with: qemu-img convert -f vmdk -O qcow2 INPUT OUTPUT';

/** Header fields that name no file. `changeTrackPath` does, and whatever is not listed might. */
const HARMLESS_FIELDS = new Set(['version', 'encoding', 'cid', 'parentcid', 'isnativesnapshot', 'createtype']);

const NO_PARENT_CID = 'ffffffff';
const NO_PARENT_UUID = '00000000-0000-0000-0000-000000000000';

interface Descriptor {
  readonly fields: ReadonlyMap<string, string>;
  readonly extents: readonly string[];
}

export function checkVmdkDescriptor(
  bytes: Buffer,
  kind: VmdkKind,
  capacitySectors: number,
  grainSectors: number,
): void {
  const text = readText(bytes);
  // QEMU takes the word wherever it stands, even in a comment, for the name of the parent's file.
  if (/parentfilenamehint/i.test(text)) {
    refuse('BACKING_FILE', `This VMDK image is a snapshot that needs its parent disk; ${JOIN}.`);
  }
  const descriptor = parse(text);
  checkFields(descriptor.fields, kind);
  checkExtents(descriptor.extents, capacitySectors, grainSectors);
}

/**
 * The text up to its first zero byte. Only zeros and line ends may follow, so that a reader that goes on finds nothing:
 * qemu-img leaves a line end behind when it writes a shorter CID over a longer one.
 */
function readText(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  if (end === 0) {
    refuse('EXTERNAL_DATA_FILE', `This is one piece of a VMware disk that is split over several files; ${JOIN}.`);
  }
  if (end === -1 || bytes.subarray(end).some((byte) => byte !== 0 && byte !== LINE_END)) {
    refuseCorrupt('its descriptor has no end');
  }
  return bytes.toString('latin1', 0, end);
}

function parse(text: string): Descriptor {
  const fields = new Map<string, string>();
  const extents: string[] = [];
  for (const raw of text.split(/\r?\n/)) {
    // A lone carriage return ends a line for some readers and hides the next one from others.
    if ([...raw].some((character) => character < ' ' && character !== '\t')) {
      refuseCorrupt('its descriptor holds characters that are not text');
    }
    const line = raw.trim();
    const field = line.match(/^([A-Za-z]+)\s*=\s*("?)([^"]*)\2$/);
    if (line === '' || line.startsWith('#')) {
      continue;
    }
    if (/^ddb\./i.test(line)) {
      checkDatabaseLine(line);
    } else if (/^(?:RW|RDONLY|NOACCESS)\s/i.test(line)) {
      extents.push(line);
    } else if (field !== null) {
      addField(fields, field[1]!.toLowerCase(), field[3]!);
    } else {
      refuseCorrupt('its descriptor holds a line that is not understood');
    }
  }
  return { fields, extents };
}

function addField(fields: Map<string, string>, name: string, value: string): void {
  if (!HARMLESS_FIELDS.has(name)) {
    refuse('UNSUPPORTED_FEATURE', `This VMDK image's descriptor has a field that is not known; ${JOIN}.`);
  }
  if (fields.has(name)) {
    refuseCorrupt('its descriptor says one thing twice');
  }
  fields.set(name, value);
}

/** The disk database describes the virtual hardware. VirtualBox keeps the parent's UUID in it. */
function checkDatabaseLine(line: string): void {
  const parent = line.match(/^ddb\.uuid\.parent\s*=\s*"?([^"]*)"?$/i)?.[1];
  if (parent !== undefined && parent !== NO_PARENT_UUID) {
    refuse('BACKING_FILE', `This VMDK image is a snapshot that needs its parent disk; ${JOIN}.`);
  }
}

function checkFields(fields: ReadonlyMap<string, string>, kind: VmdkKind): void {
  const parent = fields.get('parentcid')?.toLowerCase();
  if (!/^[0-9a-f]{1,8}$/i.test(fields.get('cid') ?? '') || parent === undefined) {
    refuseCorrupt('its descriptor lacks an identifier');
  }
  if (parent !== NO_PARENT_CID) {
    refuse('BACKING_FILE', `This VMDK image is a snapshot that needs its parent disk; ${JOIN}.`);
  }
  const createType = fields.get('createtype');
  if (createType !== 'monolithicSparse' && createType !== 'streamOptimized') {
    refuse('EXTERNAL_DATA_FILE', `This VMDK image is of a kind that keeps its data in other files; ${JOIN}.`);
  }
  if (createType !== kind) {
    refuseCorrupt('its descriptor and its header contradict each other');
  }
}

/** `RW 20480 SPARSE "name.vmdk"`: the extent is this file, whose name when it was written is of no use. */
function checkExtents(extents: readonly string[], capacitySectors: number, grainSectors: number): void {
  const extent = extents[0]?.match(/^(?:RW|RDONLY)\s+(\d{1,15})\s+SPARSE\s+"([^"/\\:]+)"$/i);
  if (extents.length !== 1 || !extent) {
    refuse('EXTERNAL_DATA_FILE', `This VMDK image keeps data in other files; ${JOIN}.`);
  }
  // VMware rounds the capacity in the header up to a whole grain.
  const sectors = Number(extent[1]);
  if (sectors > capacitySectors || capacitySectors - sectors >= grainSectors) {
    refuseCorrupt('its descriptor and its header contradict each other about the size of the disk');
  }
}
