/**
 * Brings an export in, one row at a time: validated as the API validates, refused where it does not fit, and never written
 * over anything. Each row remembers the document it was made of, so that a second run finds its own work, whatever has
 * been done with the row since. Without `apply` the same is worked out and nothing is written.
 */
import { createHash } from 'node:crypto';
import type { Services } from '../domain/context.ts';
import { KIND } from '../domain/kinds.ts';
import { ServiceError } from '../errors.ts';
import { GuardFailed, type Row, type Write } from '../store/store.ts';
import { readMembers, Violations } from '../wire/validate.ts';
import { type Found, readExport } from './export-files.ts';
import { IMPORT_KINDS, type ImportContext, type ImportKind } from './kinds.ts';
import { NotImported, type Outcome } from './outcome.ts';

/** Ids become names of files. */
const ID = /^[A-Za-z0-9_:-]{1,100}$/;

type Document = Record<string, unknown>;

/** A document that is of the right shape. */
interface Read {
  readonly from: Found<ImportKind>;
  readonly id: string;
  readonly document: Document;
  readonly digest: string;
}

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

class Import {
  readonly #services: Services;
  readonly #apply: boolean;
  /** Digest by kind and id, of what has been brought in by this run or would have been. */
  readonly #seen = new Map<string, string>();
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
    const id = typeof claimed === 'string' && ID.test(claimed) ? claimed : '';
    const outcome = (result: Outcome['result'], note = ''): Outcome => ({ file, kind: kind.kind, id, result, note });
    try {
      const read = readDocument(from, id);
      const key = `${kind.kind}/${id}`;
      const digest = this.#seen.get(key) ?? (await this.#digestOf(kind.kind, id));
      if (digest === read.digest) return outcome('there');
      if (digest !== undefined)
        throw new NotImported(
          'refused',
          'There is one of this id already, made of something else. It is left as it is.',
        );
      const note = await this.#make(read);
      this.#seen.set(key, read.digest);
      return outcome('new', note);
    } catch (error) {
      if (error instanceof NotImported) return outcome(error.result, error.message);
      if (error instanceof ServiceError && error.status < 500) return outcome('refused', error.message);
      if (error instanceof GuardFailed)
        return outcome('refused', 'Something of the same name came in between. Try again.');
      throw error;
    }
  }

  /** Of the document that the row was made of; empty when it was made in another way, undefined when there is none. */
  async #digestOf(kind: string, id: string): Promise<string | undefined> {
    const row = await this.#services.store.get(kind, id);
    if (!row) return undefined;
    return (JSON.parse(row.private) as { imported?: string }).imported ?? '';
  }

  async #make(read: Read): Promise<string | undefined> {
    const guards: Write[] = [];
    const context: ImportContext = {
      services: this.#services,
      studioId: () => this.#studioIdOf(read.from),
      require: async (kind, id) => void guards.push(...(await this.#guard(kind, id))),
    };
    const { row, note } = await read.from.kind.toRow(read.document as never, context);
    if (this.#apply) await this.#services.store.write([...guards, { op: 'insert', row: marked(row, read.digest) }]);
    return note;
  }

  async #guard(kind: string, id: string): Promise<Write[]> {
    const row = await this.#services.store.get(kind, id);
    if (row && row.state !== 'DELETED') return [{ op: 'require', kind, id, state: row.state }];
    if (!this.#apply && this.#seen.has(`${kind}/${id}`)) return [];
    throw new NotImported('refused', `Its ${kind} ${ID.test(id) ? id : ''} is neither here nor in what is imported.`);
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

function marked(row: Row, digest: string): Row {
  return { ...row, private: JSON.stringify({ ...(JSON.parse(row.private) as object), imported: digest }) };
}

/** @throws NotImported, ServiceError that names what is wrong with it. */
function readDocument(from: Found<ImportKind>, id: string): Read {
  const { kind, value } = from;
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new NotImported('refused', `What stands under ${kind.single} or ${kind.list} is no object.`);
  if (id === '') throw new NotImported('refused', `Its ${kind.id} is missing, or is no id.`);
  const violations = new Violations();
  const document: Document = {};
  readMembers(kind.shape.members, value as Document, '', document, violations);
  for (const member of kind.needs)
    if (document[member] === undefined) violations.add(`/${member}`, 'Member must not be null');
  if (violations.any) throw violations.toError();
  const digest = createHash('sha256').update(JSON.stringify(document)).digest('hex');
  return { from, id, document, digest };
}
