/** Tests about the sources themselves: who may import whom, what may stand where, and that nothing is stale or dead. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = resolve(fileURLToPath(import.meta.url), '../..');
const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(resolve(root, file)));
const sources = tracked.filter((file) => /^src\/.*\.ts$/.test(file));
const read = (file: string) => readFileSync(resolve(root, file), 'utf8');

interface Import {
  readonly target: string;
  readonly typeOnly: boolean;
}

function importsOf(file: string): Import[] {
  const pattern = /(?:^|\n)(import|export) (type )?[^'"]*?from '([^']+)'|import\('([^']+)'\)|import '([^']+)'/g;
  return [...read(file).matchAll(pattern)].map((match) => {
    const specifier = (match[3] ?? match[4] ?? match[5])!;
    const target = specifier.startsWith('.') ? relative(root, resolve(root, dirname(file), specifier)) : specifier;
    return { target, typeOnly: match[2] !== undefined };
  });
}

/** What each part may import besides itself. A part is a folder of src; a file of src itself is its own part. */
const MAY_IMPORT: Readonly<Record<string, readonly RegExp[]>> = {
  contract: [],
  wire: [/^src\/contract\//, /^src\/(errors|clock)\.ts$/],
  domain: [
    /^src\/contract\//,
    /^src\/(errors|clock|ids)\.ts$/,
    /^src\/store\/store\.ts$/,
    /^src\/keys\/keys\.ts$/,
    /^src\/images\/(images|inspect)\.ts$/,
  ],
  store: [/^src\/errors\.ts$/],
  keys: [/^src\/(clock|files)\.ts$/],
  images: [/^src\/(clock|files)\.ts$/],
  backup: [
    /^src\/domain\/(kinds|streaming-image|streaming-image-use)\.ts$/,
    /^src\/(clock|files)\.ts$/,
    /^src\/store\//,
    /^src\/images\/(directory|hash)\.ts$/,
    /^src\/keys\/(keys|key-files)\.ts$/,
    /^src\/compute\/(records|copies)\.ts$/,
  ],
  compute: [
    /^src\/contract\/streaming-session\.ts$/,
    /^src\/(clock|files|log)\.ts$/,
    /^src\/keys\/keys\.ts$/,
    /^src\/images\/(images|confined|encrypted-disk|progress)\.ts$/,
  ],
  gateway: [
    /^src\/domain\/(viewer|buckets)\.ts$/,
    /^src\/(errors|log)\.ts$/,
    /^src\/compute\/compute\.ts$/,
    /^src\/wire\/(plain|upgrade)\.ts$/,
  ],
  import: [
    /^src\/(contract|domain)\//,
    /^src\/(settings|errors|files)\.ts$/,
    /^src\/wire\/validate\.ts$/,
    /^src\/store\/store\.ts$/,
  ],
  worker: [
    /^src\/(contract|domain)\//,
    /^src\/(clock|log|errors|ids)\.ts$/,
    /^src\/store\/store\.ts$/,
    /^src\/keys\/keys\.ts$/,
    /^src\/images\/images\.ts$/,
    /^src\/compute\/compute\.ts$/,
  ],
};

test('imports go one way', () => {
  for (const file of sources) {
    const part = /^src\/([^/]+)\//.exec(file)?.[1];
    const allowed = part && MAY_IMPORT[part];
    if (!allowed) continue;
    for (const { target } of importsOf(file)) {
      if (!target.startsWith('src/') || target.startsWith(`src/${part}/`)) continue;
      assert.ok(
        allowed.some((pattern) => pattern.test(target)),
        `${file} must not import ${target}`,
      );
    }
  }
});

test('every source file is used', () => {
  const seen = new Set<string>();
  const visit = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const { target } of importsOf(file)) if (target.startsWith('src/')) visit(target);
  };
  visit('src/main.ts');
  assert.deepEqual(
    sources.filter((file) => !seen.has(file)),
    [],
  );
});

test('every source file opens with what it is', () => {
  for (const file of sources) assert.match(read(file), /^\/\*\*/, file);
});

/** What may stand in some files and in no others. */
const ONLY_IN: readonly { what: string; pattern: RegExp; files: RegExp }[] = [
  { what: 'the time of day', pattern: /Date\.now\(|new Date\(\)/, files: /^src\/clock\.ts$/ },
  { what: 'the environment', pattern: /process\.env/, files: /^src\/(config|cli\/run)\.ts$/ },
  {
    what: 'SQL',
    pattern: /\b(SELECT [\w*,( ]+ FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE)\b/,
    files: /^src\/store\//,
  },
  {
    what: 'child processes',
    pattern: /node:child_process/,
    files: /^src\/(images\/(confined|build-program)|compute\/(detached|sandbox-process))\.ts$/,
  },
  {
    what: 'comparing signatures',
    pattern: /timingSafeEqual/,
    files: /^src\/(wire\/sigv4|domain\/(password|viewer))\.ts$/,
  },
  { what: 'work left open', pattern: /\b(TODO|FIXME|XXX|HACK)\b/, files: /^$/ },
];

for (const { what, pattern, files } of ONLY_IN) {
  test(`${what} stands only where it belongs`, () => {
    for (const file of sources.filter((source) => !files.test(source))) {
      const line = read(file)
        .split('\n')
        .findIndex((text) => pattern.test(text));
      assert.equal(line, -1, `${file}:${line + 1}`);
    }
  });
}

test('a resource has the same file name in contract and domain', () => {
  const helpers = ['shape', 'operation', 'common', 'index'];
  for (const file of sources.filter((source) => source.startsWith('src/contract/'))) {
    const name = file.slice('src/contract/'.length, -'.ts'.length);
    if (!helpers.includes(name)) assert.ok(sources.includes(`src/domain/${name}.ts`), name);
  }
});

test('no test is left out', () => {
  const pattern = /\b(?:it|test|describe)\.(?:skip|todo|only)\b|\{ *(?:skip|todo|only):/;
  for (const file of tracked.filter((name) => name.startsWith('test/') && name !== 'test/tidy.test.ts')) {
    assert.doesNotMatch(read(file), pattern, file);
  }
});

test('no tracked file names a place on one machine or a registry host', () => {
  const places = ['work', 'root', 'farm'].map((name) => `/${name}/`);
  const hosts = ['registry.npm' + 'js.org', 'deb.debian' + '.org'];
  for (const file of tracked.filter((name) => /\.(ts|md|json|sh|py|yml|sql)$|\/run$|^bin\//.test(name))) {
    for (const text of [...places, ...hosts]) assert.ok(!read(file).includes(text), `${file} holds ${text}`);
  }
});

test('documents made from code are fresh', () => {
  execFileSync(process.execPath, ['scripts/docs.ts', '--check'], { cwd: root });
});

test('links between documents lead somewhere', () => {
  for (const file of tracked.filter((name) => name.endsWith('.md'))) {
    for (const [, link] of read(file).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      assert.ok(existsSync(resolve(root, dirname(file), link!)), `${file}: ${link}`);
    }
  }
});
