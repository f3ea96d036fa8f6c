/**
 * Makes the encrypted copy of a disk: what qemu-img is told, and what its end means.
 *
 * The copy is a qcow2 file whose every guest byte is LUKS ciphertext. The source's format is always said and never left to
 * be guessed, and references out of the source are switched off, although inspection has refused those already. The
 * passphrase goes through a file without a name. What the tool says must not reach the image's owner: it names files.
 */
import type { FileHandle } from 'node:fs/promises';
import { type ConfinedOutcome, type Confinement, closeSecret, inheritedPath, openSecret } from './confined.ts';
import { encryptedDiskBytes } from './encrypted-disk.ts';
import { ImageFailure } from './images.ts';
import type { DiskFormat } from './inspect.ts';

/** The slowest disks in use write about 10 MiB a second; a conversion that is slower still is taken for hung. */
const TIME_LIMIT_BASE_MS = 600_000;
const TIME_LIMIT_PER_GIBIBYTE_MS = 120_000;

export interface EncryptRequest {
  /** Accepted by inspection as a disk of `sourceFormat`. */
  readonly source: FileHandle;
  readonly sourceFormat: DiskFormat;
  /** Size of the disk as a guest sees it. */
  readonly virtualBytes: number;
  /** An empty file. */
  readonly target: FileHandle;
  readonly targetBytesMax: number;
  readonly passphrase: Uint8Array;
  /** A private directory on the disk, for machines without memory to keep a secret in. */
  readonly scratch: string;
  readonly qemuImg: string;
  readonly signal: AbortSignal;
  /** 0 to 1. */
  readonly onFraction: (fraction: number) => void;
}

/** Fills the target and syncs it. @throws ImageFailure; the signal's reason. */
export async function encryptDisk(confinement: Confinement, request: EncryptRequest): Promise<void> {
  const { source, target, signal, onFraction } = request;
  const secret = await openSecret(request.passphrase, request.scratch);
  try {
    const outcome = await confinement.run({
      tool: request.qemuImg,
      arguments: convertArguments(request.sourceFormat),
      files: [
        { handle: source, access: 'read' },
        { handle: target, access: 'write' },
        { handle: secret, access: 'read' },
      ],
      fileBytesMax: request.targetBytesMax,
      timeLimitMs: TIME_LIMIT_BASE_MS + Math.ceil(request.virtualBytes / 2 ** 30) * TIME_LIMIT_PER_GIBIBYTE_MS,
      signal,
      onOutput: (text) => onFraction(lastFraction(text)),
    });
    requireSuccess(outcome);
  } finally {
    await closeSecret(secret);
  }
  await target.sync();
  await requireEncrypted(target, request.virtualBytes);
}

function convertArguments(sourceFormat: DiskFormat): string[] {
  // A tar goes onto the copy as it is, byte for byte.
  const driver = sourceFormat === 'tar' ? 'raw' : sourceFormat;
  const source = { driver, backing: null, file: { driver: 'file', filename: inheritedPath(0) } };
  const options = [
    'encrypt.format=luks',
    'encrypt.key-secret=passphrase',
    // Making a guess at the passphrase slow is for passphrases that people choose; ours holds 256 random bits.
    'encrypt.iter-time=10',
  ];
  return [
    'convert',
    '-p',
    // Out of order lets it encrypt on several cores; where a cluster lies in the file means nothing to a reader.
    '-W',
    '--object',
    `secret,id=passphrase,file=${inheritedPath(2)}`,
    '-O',
    'qcow2',
    '-o',
    options.join(','),
    `json:${JSON.stringify(source)}`,
    inheritedPath(1),
  ];
}

/** From what qemu-img prints: `    (12.34/100%)` and a carriage return, again and again. */
function lastFraction(text: string): number {
  const percent = [...text.matchAll(/\((\d+(?:\.\d+)?)\/100%\)/g)].at(-1)?.[1];
  return percent === undefined ? 0 : Number(percent) / 100;
}

function requireSuccess({ exitCode, exitSignal, timedOut, errors }: ConfinedOutcome): void {
  if (exitCode === 0) return;
  const lastLine = errors.trim().split('\n').at(-1) ?? '';
  const inward = `qemu-img ended with ${exitSignal ?? exitCode}${lastLine ? `: ${lastLine}` : ''}`;
  if (exitSignal === 'SIGXFSZ' || /No space left on device|File too large|Disk quota exceeded/.test(errors)) {
    throw noSpace(inward);
  }
  if (timedOut) {
    throw new ImageFailure('TOOL_FAILED', 'Converting the disk took too long and was given up.', {
      retryable: true,
      inward,
    });
  }
  if (exitSignal !== null) {
    throw new ImageFailure('TOOL_FAILED', 'Converting the disk was interrupted.', { retryable: true, inward });
  }
  // Another process of the service has just finished with the same source, and closed it to the tool's user.
  const retryable = /qemu-img: .*Permission denied/.test(errors);
  throw new ImageFailure(
    'TOOL_FAILED',
    'The disk could not be converted. The administrator finds the reason in the log of the service.',
    { retryable, inward },
  );
}

export function noSpace(inward: string, cause?: unknown): ImageFailure {
  return new ImageFailure(
    'NO_SPACE',
    'There is not enough disk space left for this image. Have the administrator make room, then try again.',
    { inward, cause },
  );
}

/** A tool that forgot to encrypt must not go unnoticed. */
async function requireEncrypted(target: FileHandle, virtualBytes: number): Promise<void> {
  if ((await encryptedDiskBytes(target)) === virtualBytes) return;
  throw new ImageFailure(
    'TOOL_FAILED',
    'The disk could not be encrypted. The administrator finds the reason in the log.',
    {
      inward: 'the header of the copy is not that of a complete, encrypted disk of the right size',
    },
  );
}
