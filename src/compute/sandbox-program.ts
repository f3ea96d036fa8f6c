/**
 * What the shell of a sandbox is told to do, as text for its standard input, and what it tells of it. Pure.
 *
 * It starts the display, runs the studio's scripts, and then keeps a desktop open for as long as the display lives. Scripts
 * and their parameters are part of the text, quoted, and so in no list of processes and in no file outside. What it tells
 * comes from a guest: anything may stand there, and no more may follow from it than how this one workstation is seen.
 */
import type { WorkstationScript } from './compute.ts';
import { DISPLAY_PATH } from './sandbox-command.ts';

/** What a script may have printed, at its end, to be told. */
export const OUTPUT_BYTES_MAX = 4_096;

export type ProgramReport =
  | { readonly what: 'begun' | 'ready' | 'no-display' | 'display-ended' }
  | { readonly what: 'script'; readonly index: number; readonly exitCode: number };

/** One line that the program has told; undefined where it is not of its own. */
export function parseReport(line: string): ProgramReport | undefined {
  const [, index, exitCode] = /^script (\d{1,4}) (\d{1,3})$/.exec(line) ?? [];
  if (index !== undefined) return { what: 'script', index: Number(index), exitCode: Number(exitCode) };
  if (line === 'begun' || line === 'ready' || line === 'no-display' || line === 'display-ended') return { what: line };
  return undefined;
}

const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

/** Why this script cannot be run; undefined where it can. */
export function whyNotRunnable({ text, parameters }: WorkstationScript): string | undefined {
  if (text.includes('\0')) return 'its text holds a character of code 0';
  for (const [name, value] of Object.entries(parameters)) {
    if (!VARIABLE.test(name)) return 'a parameter has a name that is none of an environment variable';
    if (value.includes('\0')) return 'a parameter holds a character of code 0';
  }
  return undefined;
}

/** What comes before the program: the shell is there, and waits. */
export const GREETING = "printf 'begun\\n' >&3\n";

/** The program for these scripts, each of which `whyNotRunnable` has been asked about. */
export function sandboxProgram(scripts: readonly WorkstationScript[], clipboard: boolean): string {
  return `
tell() { printf '%s\\n' "$1" >&3; }

end() {
  trap '' TERM
  kill -TERM -1 2>/dev/null
  while set -- /proc/[0-9]*; [ "$#" -gt 1 ]; do sleep 0.1; done
  exit 0
}

display() {
  ${[...DISPLAY, ...(clipboard ? CLIPBOARD : NO_CLIPBOARD)].join(' ')} \\
    </dev/null >/tmp/.display.log 2>&1 3>&-
  tail -n 5 /tmp/.display.log
  tell display-ended
}

desktop() {
  while :; do
    if [ -x /etc/backlot/desktop ]; then /etc/backlot/desktop
    elif command -v openbox-session >/dev/null; then openbox-session
    elif command -v xterm >/dev/null; then xterm -maximized
    else sleep 60
    fi
    sleep 1
  done
}

run() {
  case "$(head -n 1 /tmp/.script)" in
    '#!'*) chmod 700 /tmp/.script && exec /tmp/.script ;;
    *) exec /bin/sh -e /tmp/.script ;;
  esac
}

ended() {
  tail -c ${OUTPUT_BYTES_MAX} /tmp/.output
  rm -f /tmp/.script /tmp/.output
  tell "script $1 $2"
  [ "$2" = 0 ] || exit 1
}

main() {
  umask 022
  command -v Xtigervnc >/dev/null || { tell no-display; exit 1; }
  [ -n "$(ls -A "$HOME")" ] || cp -R /etc/skel/. "$HOME" 2>/dev/null
  display </dev/null &
  display=$!
  while [ ! -S /tmp/.X11-unix/X1 ]; do
    kill -0 "$display" 2>/dev/null || exit 1
    sleep 0.05
  done
${scripts.map(runScript).join('')}  trap end TERM
  tell ready
  exec </dev/null >/dev/null 2>&1 3>&-
  desktop &
  wait "$display"
}

main
`;
}

const DISPLAY = [
  'Xtigervnc :1',
  `-rfbunixpath ${DISPLAY_PATH}`,
  '-rfbunixmode 0600',
  '-rfbport -1',
  '-nolisten tcp',
  '-noreset',
  '-SecurityTypes None',
  // Each look at whether it answers would count as an attempt to break in.
  '-BlacklistThreshold 1000000000',
  '-desktop workstation',
  '-geometry 1920x1080 -depth 24',
];

const CLIPBOARD = ['-AcceptCutText=1', '-SendCutText=1'];
/** The last keeps programs inside from setting it back. */
const NO_CLIPBOARD = ['-AcceptCutText=0', '-SendCutText=0', '-noclipboard'];

/** The status of a subshell is taken with its name before: `set -e` is off, and a failure is told rather than met. */
function runScript({ text, parameters }: WorkstationScript, index: number): string {
  const exports = Object.entries(parameters).map(([name, value]) => `    export ${name}=${quoted(value)}\n`);
  return `  printf '%s' ${quoted(text)} >/tmp/.script
  (
${exports.join('')}    run
  ) </dev/null >/tmp/.output 2>&1 3>&-
  ended ${index} "$?"
`;
}

/** As one word of the shell, whatever it holds. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
