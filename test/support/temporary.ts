/** Directories that a test may fill, gone when it ends. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A test, or the `after` of node:test for a whole file. */
export interface Owner {
  after(clean: () => void | Promise<void>): void;
}

export function temporaryDirectory(t: Owner): string {
  const path = mkdtempSync(join(tmpdir(), 'backlot-test-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
