/** Prints answers: a table for a person at a terminal, JSON for a program. It must never print a secret by itself. */
import type { Output } from './command.ts';

export interface Streams {
  readonly out: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly err: NodeJS.WritableStream & { readonly isTTY?: boolean };
}

const WIDTH_MAX = 60;

export function print(output: Output, asJson: boolean, { out }: Streams): void {
  if (output === undefined) return;
  if (asJson || !out.isTTY) out.write(`${JSON.stringify(output, null, 2)}\n`);
  else if (Array.isArray(output)) out.write(table(output as Record<string, unknown>[]));
  else out.write(sheet(output as Record<string, unknown>));
}

/** One line a row, under the names of the columns. */
function table(rows: readonly Record<string, unknown>[]): string {
  if (rows.length === 0) return 'None.\n';
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const lines = [columns, ...rows.map((row) => columns.map((column) => clipped(cell(row[column]))))];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => line[index]!.length)));
  const text = lines.map((line) =>
    line
      .map((value, index) => value.padEnd(widths[index]!))
      .join('  ')
      .trimEnd(),
  );
  return `${text.join('\n')}\n`;
}

/** One line a member. */
function sheet(object: Readonly<Record<string, unknown>>): string {
  const width = Math.max(...Object.keys(object).map((name) => name.length));
  return Object.entries(object)
    .map(([name, value]) => `${name.padEnd(width)}  ${cell(value)}\n`)
    .join('');
}

function cell(value: unknown): string {
  if (value === undefined || value === null) return '';
  const text = Array.isArray(value) ? value.join(', ') : String(value);
  // Names come from people: what could move the cursor of the terminal is taken out.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what is meant
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}

function clipped(text: string): string {
  return text.length > WIDTH_MAX ? `${text.slice(0, WIDTH_MAX - 1)}…` : text;
}

/** A bar on a terminal; silence elsewhere. */
export function progressBar(label: string, { err }: Streams): { show: (percent: number) => void; end: () => void } {
  if (!err.isTTY) return { show: () => undefined, end: () => undefined };
  const cells = 30;
  return {
    show: (percent) => {
      const full = Math.round((Math.min(100, percent) / 100) * cells);
      const bar = '█'.repeat(full) + '░'.repeat(cells - full);
      err.write(`\r${label} ${bar} ${String(Math.floor(percent)).padStart(3)} %`);
    },
    end: () => err.write('\r\x1b[2K'),
  };
}
