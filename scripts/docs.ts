/**
 * Writes the documents that are made from code: docs/api.md from the contract, docs/states.md from the lifecycle tables, the
 * README's table of settings from src/settings.ts, and that of personas in docs/permissions.md from what decides for them.
 * With --check it writes nothing and fails when one is stale.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { operations } from '../src/contract/index.ts';
import { API_PREFIX, type Operation } from '../src/contract/operation.ts';
import type { ListShape, Members, Shape, StructureShape, UnionShape } from '../src/contract/shape.ts';
import type { Lifecycle } from '../src/domain/lifecycle.ts';
import { lifecycles } from '../src/domain/lifecycles.ts';
import { PERSONAS, type Persona } from '../src/domain/persona.ts';
import { statementsAbout } from '../src/domain/policy.ts';
import { ERROR_STATUS } from '../src/errors.ts';
import { SETTINGS } from '../src/settings.ts';

const root = new URL('../', import.meta.url);
const GENERATED = '<!-- Made by `npm run docs`: change the code it is made from, not this file. -->';

/** What may stand in a cell of a Markdown table. */
const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
const code = (text: string) => `\`${cell(text)}\``;

function limitsOf(shape: Shape): string {
  switch (shape.kind) {
    case 'string': {
      const { minLength, maxLength, pattern, values } = shape;
      const length =
        maxLength === undefined
          ? minLength && `at least ${minLength} characters`
          : `${minLength ?? 0} to ${maxLength} characters`;
      const rules = [values?.map(code).join(', '), length, pattern && code(pattern.source)];
      return ['string', ...rules.filter(Boolean)].join('; ');
    }
    case 'integer':
      return `integer; ${shape.min} to ${shape.max}`;
    case 'list':
      return `list of${entriesOf(shape)}: ${limitsOf(shape.member)}`;
    case 'map':
      return 'map of strings';
    case 'structure':
    case 'union':
      return shape.name;
    case 'timestamp':
      return 'time, as `2022-01-27T21:18:59Z`';
  }
}

function entriesOf({ minLength, maxLength }: ListShape): string {
  if (maxLength !== undefined) return ` ${minLength ?? 0} to ${maxLength}`;
  return minLength === undefined ? '' : ` at least ${minLength}`;
}

function memberRows(members: Members, place: string): string[] {
  return Object.entries(members).map(
    ([name, { shape, required }]) => `| ${code(name)} | ${place} | ${required ? 'yes' : ''} | ${limitsOf(shape)} |`,
  );
}

function structuresIn(members: Members, found: Map<string, StructureShape | UnionShape>): void {
  for (const { shape } of Object.values(members)) {
    const inner = shape.kind === 'list' ? shape.member : shape;
    if ((inner.kind !== 'structure' && inner.kind !== 'union') || found.has(inner.name)) continue;
    found.set(inner.name, inner);
    structuresIn(inner.members, found);
  }
}

function operationSection(operation: Operation): string {
  const rows = [
    ...memberRows(operation.labels, 'path'),
    ...memberRows(operation.query, 'query'),
    ...memberRows(operation.body, 'body'),
    ...(operation.clientToken
      ? [`| \`clientToken\` | header \`X-Amz-Client-Token\` | | string; 1 to 64 characters |`]
      : []),
  ];
  const output =
    Object.keys(operation.output?.members ?? {})
      .map(code)
      .join(', ') || 'nothing in it';
  const facts = [
    `answers ${operation.status} with ${output}`,
    `access level ${operation.access}`,
    operation.pagination && `pages of ${operation.pagination.pageLength}`,
    operation.waiter && `wait with ${code(operation.waiter)}`,
  ];
  return [
    `### ${operation.name}`,
    '',
    operation.summary,
    '',
    `${code(`${operation.method} ${API_PREFIX}${operation.uri}`)}: ${facts.filter(Boolean).join('; ')}.`,
    '',
    ...(rows.length > 0 ? ['| member | where | required | limits |', '|---|---|---|---|', ...rows, ''] : []),
  ].join('\n');
}

function apiDocument(): string {
  const structures = new Map<string, StructureShape | UnionShape>();
  for (const operation of operations as readonly Operation[]) {
    structuresIn(operation.body, structures);
    if (operation.output) structuresIn(operation.output.members, structures);
  }
  return [
    GENERATED,
    '# The API',
    '',
    `The ${operations.length} operations that this version answers; any other is 404 \`UnknownOperationException\`. ` +
      'Requests are signed with AWS Signature Version 4 for the service `nimble`; bodies are JSON. ' +
      'A member that the API does not know is ignored; `null` is the same as absent.',
    '',
    ...(operations as readonly Operation[]).map(operationSection),
    '## Structures',
    '',
    ...[...structures].flatMap(([name, { kind, members }]) => [
      `### ${name}`,
      '',
      ...(kind === 'union' ? ['Exactly one of its members.', ''] : []),
      '| member | always | limits |',
      '|---|---|---|',
      ...Object.entries(members).map(
        ([member, { shape, required }]) => `| ${code(member)} | ${required ? 'yes' : ''} | ${limitsOf(shape)} |`,
      ),
      '',
    ]),
    '## Errors',
    '',
    'The name stands in the header `x-amzn-ErrorType`; the body has `message`, and often a finer word for scripts and ' +
      '`context` (a 404 carries `resourceId`). The finer word is `code` for the first seven, which the API knows, and ' +
      '`reason` for the others: clients would take a `code` there for the name of the error.',
    '',
    '| name | status |',
    '|---|---|',
    ...Object.entries(ERROR_STATUS).map(([name, status]) => `| ${code(name)} | ${status} |`),
    '',
  ].join('\n');
}

function diagram(lifecycle: Lifecycle): string[] {
  const lines = Object.entries(lifecycle.states).flatMap(([state, { on }]) =>
    Object.entries(on)
      .filter(([, move]) => move!.to !== state)
      .map(([event, move]) => `  ${state} --> ${move!.to}: ${event}`),
  );
  const purged = Object.entries(lifecycle.states).filter(([, { work }]) => work === 'purge');
  return [
    '```mermaid',
    'stateDiagram-v2',
    `  [*] --> ${lifecycle.initial}`,
    ...lines,
    ...purged.map(([state]) => `  ${state} --> [*]`),
    '```',
  ];
}

function lifecycleSection(lifecycle: Lifecycle): string {
  const requests = lifecycle.requests;
  const rows = Object.entries(lifecycle.states).map(([state, entry]) => {
    const answers = requests.map((request) => {
      const move = entry.on[request];
      if (move) return move.to === state ? 'allowed' : `→ ${code(move.to)}`;
      return state === 'DELETED' ? '404' : '409';
    });
    return `| ${code(state)} | ${entry.meaning} | ${entry.statusCodes.map(code).join(', ')} | ${answers.join(' | ')} |`;
  });
  return [
    `## ${lifecycle.noun}`,
    '',
    ...diagram(lifecycle),
    '',
    `| state | what it means | status codes | ${requests.join(' | ')} |`,
    `|---|---|---|${requests.map(() => '---|').join('')}`,
    ...rows,
    '',
  ].join('\n');
}

function statesDocument(): string {
  return [
    GENERATED,
    '# States',
    '',
    'What the states of each resource mean, and what a caller may do in them. Arrows are labelled with what happens: ' +
      'a call, or the end of background work.',
    '',
    ...lifecycles.map(lifecycleSection),
  ].join('\n');
}

/** A document written by hand, with the lines between two markers made anew. */
function withTable(path: string, marker: string, lines: readonly string[]): string {
  const text = readFileSync(new URL(path, root), 'utf8');
  const opening = `<!-- ${marker} -->\n`;
  const start = text.indexOf(opening) + opening.length;
  const end = text.indexOf(`<!-- /${marker} -->`);
  if (start < opening.length || end < start) throw new Error(`${path} has lost its markers of ${marker}`);
  return `${text.slice(0, start)}${lines.join('\n')}\n${text.slice(end)}`;
}

function settingsTable(): string[] {
  const rows = Object.values(SETTINGS).map(
    ({ env, flag, default: byDefault, meaning }) =>
      `| ${code(env)} | ${flag === undefined ? '' : code(`--${flag}`)} | ${byDefault === '' ? '' : code(byDefault)} | ${cell(meaning)} |`,
  );
  return ['| variable | flag | default | meaning |', '|---|---|---|---|', ...rows];
}

/** What a persona may, as its policy says it: with conditions, only what they are about, which is the user's own. */
function allowedTo({ policies }: Persona, operation: string): string {
  const allows = statementsAbout(policies, `nimble:${operation}`).filter(({ effect }) => effect === 'Allow');
  if (allows.length === 0) return '';
  return allows.some(({ conditions }) => conditions.length === 0) ? 'yes' : 'own';
}

function personasTable(): string[] {
  const rows = (operations as readonly Operation[]).map(({ name }) => {
    const cells = PERSONAS.map((persona) => allowedTo(persona, name));
    return `| ${code(name)} ${cells.map((text) => (text ? `| ${text} ` : '| ')).join('')}|`;
  });
  const names = PERSONAS.map(({ name }) => name);
  return [`| operation | ${names.join(' | ')} |`, `|---|${names.map(() => '---|').join('')}`, ...rows];
}

const documents: readonly [string, string][] = [
  ['docs/api.md', apiDocument()],
  ['docs/states.md', statesDocument()],
  ['docs/permissions.md', withTable('docs/permissions.md', 'personas', personasTable())],
  ['README.md', withTable('README.md', 'settings', settingsTable())],
];

const check = process.argv.includes('--check');
for (const [path, text] of documents) {
  const url = new URL(path, root);
  if (!check) {
    writeFileSync(url, text);
  } else if (readFileSync(url, 'utf8') !== text) {
    process.stderr.write(`${path} is stale: run npm run docs\n`);
    process.exitCode = 1;
  }
}
