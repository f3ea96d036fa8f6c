/**
 * What a manifest must say for a directory to be a backup: whatever else it lacks, contradicts or repeats, it is neither
 * verified nor restored, and no data directory is made.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { type BackupFile, type Manifest, verifyBackup, writeManifest } from '../../src/backup/manifest.ts';
import { restoreBackup } from '../../src/backup/restore.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const quiet = { signal: new AbortController().signal, onProgress: () => undefined };
const PATHS = ['keys/root.key', 'backlot.db', 'credentials', 'compute/a.json'];
const WORKSTATIONS = [
  'compute/qemu/a.json',
  'compute/qemu/a/volume.qcow2',
  'compute/qemu/a/backup-b.qcow2',
  'compute/sandbox/a.json',
  'compute/sandbox/backups/a/b',
  'compute/sandbox/packed/a.0123456789abcdef',
];
const NO_WORKSTATIONS = [
  'compute/other/a.json',
  'compute/qemu/a/run/monitor',
  'compute/qemu/a/volume.qcow2.partial',
  'compute/qemu/a/backup-../../b.qcow2',
  'compute/qemu/../volume.qcow2',
  'compute/qemu/a/volume.qcow2/../../b.json',
  'compute/sandbox/homes/a.0123456789abcdef/file',
  'compute/sandbox/packed/..',
  'compute/sandbox/packed/../a.0123456789abcdef',
  'compute/sandbox/backups/../b',
  'compute/sandbox/roots/a/b',
];

/** A backup whose files are all as the manifest says. */
function written(t: TestContext, database: string, paths: readonly string[]): { path: string; manifest: Manifest } {
  const path = temporaryDirectory(t);
  const files = paths.map((name): BackupFile => {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), name);
    return { path: name, bytes: name.length, sha256: createHash('sha256').update(name).digest('hex') };
  });
  const manifest = { createdAt: '2026-01-01T00:00:00Z', database, files } as Manifest;
  writeFileSync(join(path, 'backup.json'), JSON.stringify({ format: 1, ...manifest }));
  return { path, manifest };
}

describe('a manifest', () => {
  for (const [database, paths] of [
    ['sqlite', PATHS],
    ['sqlite', ['keys/root.key', 'backlot.db']],
    ['sqlite', [...PATHS, ...WORKSTATIONS]],
    ['postgresql', ['keys/root.key']],
  ] as const) {
    it(`of ${database} with ${paths.join(', ')} is one of a backup`, async (t) => {
      const { path, manifest } = written(t, database, paths);
      assert.deepEqual(await verifyBackup(path, quiet), manifest);
      const dataDirectory = join(temporaryDirectory(t), 'data');
      await restoreBackup(path, dataDirectory, quiet);
      for (const name of paths) assert.equal(readFileSync(join(dataDirectory, name), 'utf8'), name);
    });
  }

  const refused: readonly (readonly [what: string, database: string, paths: readonly string[], says: RegExp])[] = [
    ['no files', 'sqlite', [], /is not whole: keys\/root\.key is not in it\. Use another backup/],
    ['no files and a database elsewhere', 'postgresql', [], /keys\/root\.key is not in it/],
    ['no root key', 'sqlite', PATHS.slice(1), /keys\/root\.key is not in it/],
    ['no database', 'sqlite', PATHS.filter((path) => path !== 'backlot.db'), /backlot\.db is not in it/],
    ['a file twice', 'sqlite', [...PATHS, 'credentials'], /backup\.json is damaged/],
    ['the database twice', 'sqlite', [...PATHS, 'backlot.db'], /backup\.json is damaged/],
    ['a record that leads elsewhere', 'sqlite', [...PATHS, 'compute/../a.json'], /backup\.json is damaged/],
  ];
  for (const path of NO_WORKSTATIONS) {
    it(`with ${path} is none`, async (t) => {
      const file = { path, bytes: 1, sha256: '0'.repeat(64) };
      const directory = temporaryDirectory(t);
      const manifest = { format: 1, createdAt: '2026-01-01T00:00:00Z', database: 'sqlite', files: [file] };
      writeFileSync(join(directory, 'backup.json'), JSON.stringify(manifest));
      await assert.rejects(verifyBackup(directory, quiet), /backup\.json is damaged/);
    });
  }

  for (const [what, database, paths, says] of refused) {
    it(`with ${what} is neither verified nor restored`, async (t) => {
      const { path } = written(t, database, paths);
      await assert.rejects(verifyBackup(path, quiet), says);
      const dataDirectory = join(temporaryDirectory(t), 'data');
      await assert.rejects(restoreBackup(path, dataDirectory, quiet), says);
      assert.equal(existsSync(dataDirectory), false);
    });
  }

  it('that could not be restored is not written', async (t) => {
    const path = temporaryDirectory(t);
    const manifest: Manifest = { createdAt: '2026-01-01T00:00:00Z', database: 'sqlite', files: [] };
    await assert.rejects(writeManifest(path, manifest), /keys\/root\.key is not in it/);
    assert.equal(existsSync(join(path, 'backup.json')), false);
  });
});
