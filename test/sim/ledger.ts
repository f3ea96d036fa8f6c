/**
 * Every call that was made, beside every line that the audit has of it: a change has its line in the same write, and no
 * line tells of a change that was not made. What a call has changed is known by the call in which it was written, not by
 * the line.
 */
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { COMMAND_LINE } from '../../src/domain/audit.ts';
import type { AuditLine, Store, Write } from '../../src/store/store.ts';
import type { Outcome } from './cluster.ts';
import type { AskedCall } from './oracle.ts';

interface Entry {
  readonly call: AskedCall;
  /** The line in the write that changed something. */
  line?: AuditLine;
  outcome?: Outcome;
}

/** They may find that there is nothing to change. */
const MAY_CHANGE_NOTHING = [
  'AcceptEulas',
  'PutLaunchProfileMembers',
  'PutStudioMembers',
  'TagResource',
  'UntagResource',
  'UpdateLaunchProfileMember',
];
/** What updates set. */
const CHANGED_MEMBERS = ['name', 'description', 'displayName', 'type', 'streamConfiguration'];
const LINES_PER_LOOK = 1_000;

export class Ledger {
  readonly #entries = new Map<string, Entry>();
  readonly #current = new AsyncLocalStorage<Entry>();
  readonly #onChange: (call: AskedCall) => void;

  /** @param onChange called when a call has changed something, answered or not. */
  constructor(onChange: (call: AskedCall) => void) {
    this.#onChange = onChange;
  }

  /** Keeps in mind what the call changes and how it ends. */
  async during(call: AskedCall, work: () => Promise<Outcome>): Promise<Outcome> {
    const entry: Entry = { call };
    this.#entries.set(call.requestId, entry);
    entry.outcome = await this.#current.run(entry, work);
    return entry.outcome;
  }

  /** Looks at what was just written, in whichever call it was. */
  written(batch: readonly Write[]): void {
    const entry = this.#current.getStore();
    const lines = batch.flatMap((write) => (write.op === 'audit' ? [write.line] : []));
    const done = lines.filter(({ outcome, principalId }) => outcome === 'ok' && principalId !== COMMAND_LINE);
    const changes = batch.some(({ op }) => op === 'insert' || op === 'update' || op === 'delete');
    if (!changes || !entry) {
      assert.deepEqual(done, [], 'a line tells of a change that was not made');
      return;
    }
    const { call } = entry;
    assert.equal(entry.line, undefined, `${call.requestId} has changed something twice`);
    assert.equal(lines.length, 1, `${call.name} was written with ${lines.length} lines`);
    const [line] = lines as [AuditLine];
    const { id, principalId, accessKeyId, operation, outcome } = line;
    assert.deepEqual(
      { id, principalId, accessKeyId, operation, outcome },
      {
        id: call.requestId,
        principalId: call.caller.principalId,
        accessKeyId: call.caller.accessKeyId,
        operation: call.name,
        outcome: 'ok',
      },
    );
    entry.line = line;
    this.#onChange(call);
  }

  /** Once nothing is under way: what was answered, what was changed and what the database tells of it are the same. */
  async assertComplete(store: Store, tokenMs: number): Promise<void> {
    const lines = Map.groupBy(await linesOf(store), ({ id }) => id);
    for (const [requestId, { call, line, outcome }] of this.#entries) {
      const found = lines.get(requestId) ?? [];
      assert.ok(found.length <= 1, `${requestId} has ${found.length} lines`);
      if (line) assert.deepEqual(found, [line], `the line of ${call.name} is not the one that was written`);
      else assert.notEqual(found[0]?.outcome, 'ok', `${requestId} has changed nothing`);
      if (outcome === undefined || outcome === 'lost') continue;
      if ('refusal' in outcome) {
        assert.equal(line, undefined, `${call.name} was refused and has changed something`);
      } else if (changesAlways(call) && call.input.clientToken === undefined) {
        assert.ok(line, `${call.name} was answered and has no line`);
      }
    }
    this.#assertTokensOnce(tokenMs);
  }

  /** However often a token was sent, something was changed once for as long as it is remembered. */
  #assertTokensOnce(tokenMs: number): void {
    const withTokens = [...this.#entries.values()].filter(({ call }) => call.input.clientToken !== undefined);
    for (const [token, entries] of Map.groupBy(withTokens, ({ call }) => call.input.clientToken)) {
      const times = entries.flatMap(({ line }) => (line ? [line.at] : [])).sort((a, b) => a - b);
      for (const [index, at] of times.entries()) {
        assert.ok(index === 0 || at >= times[index - 1]! + tokenMs, `${token} has changed something twice`);
      }
      const isAnswered = entries.some(({ outcome }) => outcome && outcome !== 'lost' && 'answer' in outcome);
      if (isAnswered && changesAlways(entries[0]!.call)) assert.ok(times.length > 0, `${token} has no line`);
    }
  }
}

function changesAlways({ name, input }: AskedCall): boolean {
  if (/^(Get|List)/.test(name) || MAY_CHANGE_NOTHING.includes(name)) return false;
  // An update without a value is none.
  return !name.startsWith('Update') || CHANGED_MEMBERS.some((member) => input[member] !== undefined);
}

async function linesOf(store: Store): Promise<AuditLine[]> {
  const found: AuditLine[] = [];
  for (;;) {
    const before = found.at(-1);
    const lines = await store.audit({ limit: LINES_PER_LOOK, ...(before && { before }) });
    found.push(...lines);
    if (lines.length < LINES_PER_LOOK) return found;
  }
}
