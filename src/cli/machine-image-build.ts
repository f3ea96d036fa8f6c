/** `backlot machine-image build`: an image to begin with, made here out of packages, and brought in at once. */
import { rename, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Config } from '../config.ts';
import { type DesktopRequest, withDesktop } from '../images/build-desktop.ts';
import { type Arguments, type Command, CommandFailed } from './command.ts';
import { importFile, NOTHING_IMPORTED, requireWish, stoppable, WISH_OPTIONS } from './machine-image.ts';
import { progressBar } from './output.ts';
import { withParts } from './with-parts.ts';

const DESKTOP = 'debian-desktop';
const SUITE_BY_DEFAULT = 'bookworm';
const SIZE_GIBIBYTES = { byDefault: 8, min: 4, max: 2_048 };
/** Debian Policy 5.6.1; and of a release, which becomes part of an address. */
const PACKAGE_NAME = /^[a-z0-9][a-z0-9+.-]+$/;
const SUITE_NAME = /^[a-z][a-z0-9-]*$/;

export const machineImageBuildCommands: readonly Command[] = [
  {
    name: 'machine-image build',
    summary: `Makes an image to begin with out of Debian's packages, and brings it in. RECIPE is ${DESKTOP}.`,
    positionals: ['RECIPE'],
    options: {
      package: { value: 'NAME', meaning: 'Package of Debian to install as well', repeatable: true },
      opengl: { meaning: 'With OpenGL drawn by the processor, which Blender and the like need; much larger' },
      size: { value: 'GIB', meaning: `Size of the disk in GiB; ${SIZE_GIBIBYTES.byDefault} by default` },
      suite: { value: 'NAME', meaning: `Release of Debian; ${SUITE_BY_DEFAULT} by default` },
      mirror: { value: 'URL', meaning: "Where packages come from; where this machine's come from by default" },
      output: { value: 'FILE', meaning: 'Keep the disk as this file, a qcow2 image, and do not bring it in' },
      name: { value: 'NAME', meaning: `Name of the image; ${DESKTOP} by default` },
      ...WISH_OPTIONS,
    },
    note:
      'It has a small desktop, a guest agent, and the user artist. It takes some minutes and 4 GiB in /var/tmp, and\n' +
      'needs mmdebstrap, grub-pc-bin and e2fsprogs; it says what is missing. See docs/machine-images.md.',
    run: build,
  },
];

async function build(given: Arguments, config: Config): Promise<object> {
  const [recipe] = given.positionals;
  if (recipe !== DESKTOP) throw new CommandFailed(`There is no recipe ${recipe}. There is: ${DESKTOP}`);
  const desktop = requireDesktop(given);
  const output = given.option('output');
  if (output !== undefined)
    return stoppable('Stopped. Nothing was made.', (signal) => buildFile(resolve(output), given, desktop, signal));
  return withParts(config, async (parts) => {
    const wish = await requireWish(given, { platform: 'LINUX', name: DESKTOP }, parts);
    return stoppable(NOTHING_IMPORTED, (signal) =>
      withProgress((onProgress, end) =>
        withDesktop({ ...desktop, compressed: false, signal, onProgress }, (disk) => {
          end();
          return importFile(disk, wish, parts, signal);
        }),
      ),
    );
  });
}

async function buildFile(
  file: string,
  given: Arguments,
  desktop: Desktop,
  signal: AbortSignal,
): Promise<{ file: string; sizeBytes: number }> {
  const pointless = ['name', ...Object.keys(WISH_OPTIONS)].find((name) => given.option(name) !== undefined);
  if (pointless !== undefined) {
    throw new CommandFailed(
      `--${pointless} is for an image that is brought in, which --output leaves to you. Say one of both.`,
    );
  }
  if (await exists(file)) throw new CommandFailed(`${file} exists already. Say another name, or delete it.`);
  const place = dirname(file);
  if (!(await exists(place))) throw new CommandFailed(`There is no directory ${place}.`);
  return withProgress((onProgress) =>
    withDesktop({ ...desktop, compressed: true, place, signal, onProgress }, async (disk) => {
      await rename(disk, file);
      return { file, sizeBytes: (await stat(file)).size };
    }),
  );
}

type Desktop = Pick<DesktopRequest, 'suite' | 'mirror' | 'packages' | 'openGl' | 'diskGibibytes'>;

/** @throws CommandFailed */
function requireDesktop(given: Arguments): Desktop {
  const packages = given.options('package');
  const wrong = packages.find((name) => !PACKAGE_NAME.test(name));
  if (wrong !== undefined) throw new CommandFailed(`--package ${wrong} cannot be the name of a package of Debian.`);
  const suite = given.option('suite') ?? SUITE_BY_DEFAULT;
  if (!SUITE_NAME.test(suite)) throw new CommandFailed('--suite must be the name of a release, such as bookworm.');
  const mirror = given.option('mirror');
  if (mirror !== undefined && !/^(https?|file):\/\/\S+$/.test(mirror))
    throw new CommandFailed('--mirror must be an address that begins with http://, https:// or file://.');
  const { byDefault, min, max } = SIZE_GIBIBYTES;
  const size = given.option('size') ?? String(byDefault);
  if (!/^\d{1,4}$/.test(size) || Number(size) < min || Number(size) > max)
    throw new CommandFailed(`--size must be a whole number of GiB from ${min} to ${max}.`);
  return {
    suite,
    ...(mirror !== undefined && { mirror }),
    packages,
    openGl: given.has('opengl'),
    diskGibibytes: Number(size),
  };
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** One bar for each stage of the work, on a terminal. */
async function withProgress<T>(
  work: (onProgress: DesktopRequest['onProgress'], end: () => void) => Promise<T>,
): Promise<T> {
  let shown: { stage: string; bar: ReturnType<typeof progressBar> } | undefined;
  const end = () => {
    shown?.bar.end();
    shown = undefined;
  };
  const onProgress = (stage: string, percent: number) => {
    if (shown?.stage !== stage) {
      end();
      shown = { stage, bar: progressBar(stage, { out: process.stdout, err: process.stderr }) };
    }
    shown.bar.show(percent);
  };
  try {
    return await work(onProgress, end);
  } finally {
    end();
  }
}
