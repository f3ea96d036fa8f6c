/**
 * How the studio's scripts are run by the agent of a guest, and what is told of one that failed. A script's text goes in
 * over standard input and its parameters in the environment, so that neither is in any list of processes; what it writes is
 * kept inside the guest, which answers with the end of it alone. Output comes from the guest and may hold secrets: the log
 * gets the end of it, the session's owner its last line without control characters.
 */
import type { Platform, WorkstationScript } from './compute.ts';
import type { GuestCommand } from './guest-agent.ts';

export const OUTPUT_BYTES_MAX = 4_096;
const LAST_LINE_LENGTH_MAX = 200;
/** The user whose desktop it is: the first that a Linux system makes. */
const DESKTOP_USER_ID = 1_000;

/**
 * Reads the script, runs it by the interpreter that it names, and prints the end of what it wrote. It is run by its
 * interpreter and not by itself because directories for temporary files are often mounted without execution.
 */
const LINUX_WRAPPER = `umask 077
directory=$(mktemp -d) || exit 126
trap 'rm -rf "$directory"' EXIT
cat > "$directory/script" || exit 126
IFS= read -r first < "$directory/script"
case $first in '#!'*) interpreter=\${first#??} ;; *) interpreter='/bin/sh -e' ;; esac
owner=
if [ "$1" = user ]; then
  while IFS=: read -r name _ id _ _ home _; do
    if [ "$id" = "${DESKTOP_USER_ID}" ]; then owner=$name; HOME=$home; export HOME; break; fi
  done < /etc/passwd
fi
set -f
set -- $interpreter "$directory/script"
if [ -n "$owner" ]; then
  # The directory stays root's: who owned it could put a link in the place of what root writes and reads.
  chmod 711 "$directory"
  chown "$owner" "$directory/script"
  if command -v runuser > /dev/null; then set -- runuser -u "$owner" -- "$@"
  else set -- su -p -s /bin/sh -c 'exec "$@"' -- "$owner" sh "$@"; fi
fi
( cd "\${HOME:-/}" 2> /dev/null || cd /; exec "$@" ) > "$directory/output" 2>&1 < /dev/null
code=$?
tail -c ${OUTPUT_BYTES_MAX} "$directory/output"
exit $code
`;

/** The agent of a Windows guest is a service: its scripts run as the system, whoever they are for. */
const WINDOWS_WRAPPER = `$ErrorActionPreference = 'Stop'
$file = Join-Path $env:TEMP ('backlot-' + [guid]::NewGuid() + '.ps1')
[IO.File]::WriteAllText($file, [Console]::In.ReadToEnd(), (New-Object Text.UTF8Encoding $true))
$ErrorActionPreference = 'Continue'
try {
  $output = & powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -File $file 2>&1 | Out-String
  $code = $LASTEXITCODE
} finally { Remove-Item -Force $file }
[Console]::Out.Write($output.Substring([Math]::Max(0, $output.Length - ${OUTPUT_BYTES_MAX})))
exit $code
`;

export function scriptCommand(platform: Platform, script: WorkstationScript): GuestCommand {
  const { text, runAs, parameters } = script;
  const given = Object.entries(parameters).map(([name, value]) => `${name}=${value}`);
  if (platform === 'WINDOWS') {
    const encoded = Buffer.from(WINDOWS_WRAPPER, 'utf16le').toString('base64');
    return {
      path: 'powershell.exe',
      arguments: ['-NoProfile', '-NonInteractive', '-ExecutionPolicy', 'Bypass', '-EncodedCommand', encoded],
      // Without these a program of Windows does not start: what the agent is given replaces its own environment.
      environment: ['SystemRoot=C:\\Windows', 'TEMP=C:\\Windows\\Temp', `PATH=${WINDOWS_PATH}`, ...given],
      input: text,
    };
  }
  return {
    path: '/bin/sh',
    arguments: ['-c', LINUX_WRAPPER, 'backlot', runAs],
    environment: [`PATH=${LINUX_PATH}`, 'HOME=/root', 'LANG=C.UTF-8', ...given],
    input: text,
  };
}

const LINUX_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const WINDOWS_PATH = 'C:\\Windows\\System32;C:\\Windows;C:\\Windows\\System32\\WindowsPowerShell\\v1.0';

/** The end of what a script wrote, for a line of the log. */
export function endOfOutput(output: string): string {
  return printable(output.slice(-OUTPUT_BYTES_MAX), true);
}

/** The last line that holds anything, for a message. */
export function lastLine(output: string): string {
  const lines = output.split(/[\r\n]+/).map((line) => printable(line, false).trim());
  const last = lines.findLast((line) => line !== '') ?? '';
  return last.length > LAST_LINE_LENGTH_MAX ? `${last.slice(0, LAST_LINE_LENGTH_MAX)}…` : last;
}

/** Without what a terminal would obey, or what turns the direction of text. */
export function printable(text: string, keepsLines: boolean): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\u2028\u2029]/gu, (found) =>
    keepsLines && found === '\n' ? found : '',
  );
}
