/**
 * The page of a stream and the files that it is made of: our own few, and noVNC. Which there are is found once, when the
 * first is asked for; a request then names one of them exactly, and no path is ever put together from what a request says.
 * Files stand under a digest of them all, so that browsers may keep them for ever; the page itself is asked for each time.
 */
import { createHash, hash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

export interface Asset {
  readonly contentType: string;
  readonly bytes: Buffer;
  readonly gzipped: Buffer;
  readonly etag: string;
}

export interface Assets {
  readonly page: Asset;
  /** By path. */
  readonly files: ReadonlyMap<string, Asset>;
}

export const ASSETS_PATH = '/streams/assets/';

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
};

const PAGE_DIRECTORY = resolve(import.meta.dirname, 'page');
const OWN_FILES = ['stream.css', 'stream.js', 'ticket.js', 'connection.js', 'desktop.js'];
/** In the page, where the place of the files and those to be loaded at once come in. */
const PLACE = '{{assets}}';
const PRELOADS = '<!-- preloads -->';

export function readAssets(): Assets {
  const found = [...ownFiles(), ...vncFiles()];
  const digest = createHash('sha256');
  for (const [name, bytes] of found) digest.update(`${name}\0${bytes.length}\0`).update(bytes);
  const place = `${ASSETS_PATH}${digest.digest('hex').slice(0, 16)}`;
  const files = new Map(found.map(([name, bytes]) => [`${place}/${name}`, asset(name, bytes)]));
  const preloads = found
    .filter(([name]) => name.endsWith('.js'))
    .map(([name]) => `<link rel="modulepreload" href="${place}/${name}">`);
  const html = readFileSync(join(PAGE_DIRECTORY, 'stream.html'), 'utf8')
    .replaceAll(PLACE, place)
    .replace(PRELOADS, preloads.join('\n'));
  return { page: asset('stream.html', Buffer.from(html)), files };
}

type File = readonly [name: string, bytes: Buffer];

function ownFiles(): File[] {
  return OWN_FILES.map((name) => [name, readFileSync(join(PAGE_DIRECTORY, name))]);
}

/** The modules of noVNC as they are published; its applications and translations are not among them. */
function vncFiles(): File[] {
  const core = dirname(fileURLToPath(import.meta.resolve('@novnc/novnc')));
  const root = dirname(core);
  const names = [core, join(root, 'vendor')].flatMap((directory) =>
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.js'))
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  return names.sort().map((path) => [`novnc/${relative(root, path)}`, readFileSync(path)]);
}

function asset(name: string, bytes: Buffer): Asset {
  const contentType = CONTENT_TYPES[name.slice(name.lastIndexOf('.') + 1)]!;
  return { contentType, bytes, gzipped: gzipSync(bytes), etag: `"${hash('sha256', bytes).slice(0, 32)}"` };
}
