/** The data directory: where it cannot be made, the reason is one line and comes at once. */
import assert from 'node:assert/strict';
import { chmodSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lockDataDirectory, openDataDirectory, StartError } from '../src/data-directory.ts';
import { temporaryDirectory } from './support/temporary.ts';

test('it is made for its owner alone, with whatever it lacks above it', (t) => {
  const path = join(temporaryDirectory(t), 'a', 'b');
  openDataDirectory(path);
  assert.equal(statSync(path).mode & 0o777, 0o700);
  assert.equal(statSync(join(path, '..')).mode & 0o777, 0o700);
});

test('where nothing can be made, or a file is in the way, the start ends with one line', (t) => {
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  for (const path of ['/proc/backlot/data', file, join(file, 'data')]) {
    assert.throws(
      () => openDataDirectory(path),
      (error) => error instanceof StartError && !error.message.includes('\n') && error.message.includes(path),
    );
  }
});

test('a directory with other things in it is refused, and stays open to others', (t) => {
  const path = temporaryDirectory(t);
  chmodSync(path, 0o755);
  writeFileSync(join(path, 'film.mov'), '');
  assert.throws(() => openDataDirectory(path), /it holds other things \("film.mov"\); name one that is empty/);
  assert.equal(statSync(path).mode & 0o777, 0o755);
  assert.deepEqual(readdirSync(path), ['film.mov']);
});

test('one server has it at a time', (t) => {
  const directory = openDataDirectory(temporaryDirectory(t));
  const unlock = lockDataDirectory(directory);
  assert.throws(() => lockDataDirectory(directory), /Another Backlot server/);
  unlock();
  lockDataDirectory(directory)();
});
