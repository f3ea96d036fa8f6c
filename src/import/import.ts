/**
 * Brings an export in, one row at a time: validated as the API validates, refused where it does not fit, and never written
 * over anything. Each row remembers the document it was made of, so that a second run finds its own work, whatever has
 * been done with the row since. Without `apply` the same is worked out and nothing is written.
 */
import { createHash } from 'node:crypto';
import { commandLine } from '../domain/audit.ts';
import type { Services } from '../domain/context.ts';
import { KIND, PRESENT } from '../domain/kinds.ts';
import { requireSettledLaunchProfile } from '../domain/launch-profile-lifecycle.ts';
import { requireOpen } from '../domain/studio.ts';
import { ServiceError } from '../errors.ts';
import { GuardFailed, type Row, type Write } from '../store/store.ts';
import { readMembers, Violations } from '../wire/validate.ts';
import { type Found, readExport } from './export-files.ts';
import type { ImportContext, ImportKind } from './import-kind.ts';
import { IMPORT_KINDS } from './kinds.ts';
import { NotImported, type Outcome } from './outcome.ts';

/** Ids become names of files. */
const ID = /^[A-Za-z0-9_:-]{1,100}$/;

type Document = Record<string, unknown>;

/** @throws ImportFailed when the directory cannot be read. */
export async function importExport(directory: string, services: Services, apply: boolean): Promise<Outcome[]> {
  const { found, unknown } = await readExport(directory, IMPORT_KINDS);
  const outcomes: Outcome[] = unknown.map(({ file, reason }) => ({
    file,
    kind: '',
    id: '',
    result: 'left out',
    note: reason,
  }));
  const run = new Import(services, apply, found);
  for (const kind of IMPORT_KINDS)
    for (const each of found.filter((one) => one.kind === kind)) outcomes.push(await run.bring(each));
  return outcomes;
}

/** What must be true of a row for another to lean on it, beyond its not being deleted. @throws ServiceError, NotImported */
const MUST_BE: Readonly<Record<string, (row: Row) => void>> = {
  [KIND.studio]: requireOpen,
  [KIND.launchProfile]: requireSettledLaunchProfile,
  [KIND.user]: ({ id, state }) => {
    if (state === PRESENT) return;
    throw new NotImported('refused', `User ${id} is disabled. To let it be a member: backlot user enable ${id}`);
  },
  [KIND.group]: ({ id, state }) => {
    if (state !== PRESENT) throw new NotImported('refused', `The group ${id} is being deleted.`);
  },
};

class Import {
  readonly #services: Services;
  readonly #apply: boolean;
  /** By kind and id, what this run has made or would have made. */
  readonly #made = new Map<string, Row>();
  readonly #studioIds: readonly string[];

  constructor(services: Services, apply: boolean, found: readonly Found<ImportKind>[]) {
    this.#services = services;
    this.#apply = apply;
    const ids = found
      .filter(({ kind }) => kind.kind === KIND.studio)
      .map(({ value }) => (value as { studioId?: unknown } | null)?.studioId);
    this.#studioIds = [...new Set(ids)].filter((id) => typeof id === 'string');
  }

  async bring(from: Found<ImportKind>): Promise<Outcome> {
    const { file, kind, value } = from;
    const claimed = (value as Document | null)?.[kind.id];
    let id = typeof claimed === 'string' && ID.test(claimed) ? claimed : '';
    const outcome = (result: Outcome['result'], note = ''): Outcome => ({ file, kind: kind.kind, id, result, note });
    try {
      const document = readDocument(from, id);
      const digest = createHash('sha256').update(JSON.stringify(document)).digest('hex');
      const guards: Write[] = [];
      const context = this.#contextOf(from, guards);
      id = kind.rowId?.(id, context) ?? id;
      const before = await this.#find(kind.kind, id);
      if (before && madeOf(before) === digest) return outcome('there');
      if (before)
        throw new NotImported(
          'refused',
          'There is one of this id already, made of something else. It is left as it is.',
        );
      const { row, also = [], note } = await kind.toRow(document as never, context);
      await this.#write(guards, [...also, marked(row, digest)]);
      return outcome('new', note);
    } catch (error) {
      if (error instanceof NotImported) return outcome(error.result, error.message);
      if (error instanceof ServiceError && error.status < 500) return outcome('refused', error.message);
      if (error instanceof GuardFailed)
        return outcome('refused', 'Something that it needs, or has the name of, changed in between. Try again.');
      throw error;
    }
  }

  /** @param guards what is required is added to. */
  #contextOf(from: Found<ImportKind>, guards: Write[]): ImportContext {
    return {
      services: this.#services,
      studioId: () => this.#studioIdOf(from),
      launchProfileId: from.launchProfile,
      find: (kind, id) => this.#find(kind, id),
      require: async (kind, id) => {
        const row = await this.#require(kind, id);
        guards.push({ op: 'require', kind, id, state: row.state });
        return row;
      },
    };
  }

  async #find(kind: string, id: string): Promise<Row | undefined> {
    const row = await this.#services.store.get(kind, id);
    return row ?? (this.#apply ? undefined : this.#made.get(`${kind}/${id}`));
  }

  async #require(kind: string, id: string): Promise<Row> {
    const row = await this.#find(kind, id);
    if (!row || row.state === 'DELETED')
      throw new NotImported('refused', `Its ${kind} ${ID.test(id) ? id : ''} is neither here nor in what is imported.`);
    MUST_BE[kind]?.(row);
    return row;
  }

  async #write(guards: readonly Write[], rows: readonly Row[]): Promise<void> {
    for (const row of rows) this.#made.set(`${row.kind}/${row.id}`, row);
    if (!this.#apply) return;
    const inserts = rows.map((row): Write => ({ op: 'insert', row }));
    const lines = rows.map(({ id }) => commandLine('import', id, this.#services));
    await this.#services.store.write([...guards, ...inserts, ...lines]);
  }

  #studioIdOf({ studio }: Found<ImportKind>): string {
    if (studio !== undefined) return `${this.#services.settings.region}:${studio}`;
    if (this.#studioIds.length === 1) return this.#studioIds[0]!;
    throw new NotImported(
      'refused',
      'It does not say which studio it belongs to: put the file into a directory named by the studio, such as stid-abc.',
    );
  }
}

/** The digest of the document that the row was made of; empty when it was made in another way. */
function madeOf(row: Row): string {
  return (JSON.parse(row.private) as { imported?: string }).imported ?? '';
}

function marked(row: Row, digest: string): Row {
  return { ...row, private: JSON.stringify({ ...(JSON.parse(row.private) as object), imported: digest }) };
}

/** @throws NotImported, ServiceError that names what is wrong with it. */
function readDocument({ kind, value }: Found<ImportKind>, id: string): Document {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new NotImported('refused', `What stands under ${kind.single} or ${kind.list} is no object.`);
  if (id === '') throw new NotImported('refused', `Its ${kind.id} is missing, or is no id.`);
  const violations = new Violations();
  const document: Document = {};
  readMembers(kind.shape.members, value as Document, '', document, violations);
  for (const member of kind.needs)
    if (document[member] === undefined) violations.add(`/${member}`, 'Member must not be null');
  if (violations.any) throw violations.toError();
  return document;
}
