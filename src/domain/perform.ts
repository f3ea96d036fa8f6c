/**
 * Carries out one operation: permission, handler, guarded write with the client token, in the order in which the API checks.
 *
 * A handler reads and decides; this file alone writes what it decided, together with the token and the line of the audit,
 * and nobody is answered before that is durable. When another change got in between, the handler decides again on what
 * now stands.
 */
import type { OperationName } from '../contract/index.ts';
import type { Operation } from '../contract/operation.ts';
import { resourceNotFound, ServiceError } from '../errors.ts';
import { GuardFailed, type TokenRow, type Write } from '../store/store.ts';
import { authorize } from './access.ts';
import { doneLine } from './audit.ts';
import type { Answer, Handler, Origin, Principal, Services } from './context.ts';
import { type CallDigest, digestCall, requireSameInput } from './idempotency.ts';
import { lifecycleOf } from './lifecycles.ts';

/** Decisions overtaken this many times in a row are given up as a conflict. */
const ATTEMPTS_MAX = 8;

/** Of a call that came over no connection. */
const NOWHERE: Origin = {};

type AnyInput = never;
type AnyHandler = Handler<OperationName>;

type CommandHandler = Extract<AnyHandler, { command: unknown }>;

/** One call of an operation that changes something, with all that is known of it. */
interface Command {
  readonly operation: Operation;
  readonly input: Readonly<Record<string, unknown>>;
  readonly principal: Principal;
  readonly origin: Origin;
}

export function perform(
  operation: Operation,
  handler: AnyHandler,
  input: Readonly<Record<string, unknown>>,
  principal: Principal,
  services: Services,
  origin: Origin = NOWHERE,
): Promise<Answer> {
  if ('query' in handler) {
    const permission = authorize({ operation, input, principal, origin }, services);
    if (!permission) return handler.query(input as AnyInput, principal, services);
    return permission.then(() => handler.query(input as AnyInput, principal, services));
  }
  return services.turns.take(resourceOf(operation, input), () =>
    performCommand(handler, { operation, input, principal, origin }, services),
  );
}

/** The id that the path ends with: what commands take turns on. */
function resourceOf(operation: Operation, input: Readonly<Record<string, unknown>>): string {
  let id = operation.name;
  for (const label in operation.labels) id = input[label] as string;
  return id;
}

async function performCommand(handler: CommandHandler, command: Command, services: Services): Promise<Answer> {
  const digest = digestOf(command, services);
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    // Each time anew: what got in between may have been a tag that a policy looks at. Nor is a replay for everyone.
    const permission = authorize(command, services);
    if (permission) await permission;
    try {
      return await decideAndWrite(handler, command, digest, services);
    } catch (error) {
      // A token that was used before fails the write, if what it did has not failed the decision: nearly every token is
      // new, and is spared a look.
      const remembered = digest && (await lookUp(digest, error, services));
      if (digest && remembered && remembered.expiresAt > services.clock.now()) {
        requireSameInput(remembered, digest);
        return replay(handler, command, remembered, services);
      }
      if (!(error instanceof GuardFailed)) throw error;
    }
  }
  throw new ServiceError('ConflictException', 'Others keep changing the same resource. Try again in a moment.', {
    code: 'CONCURRENT_CHANGES',
  });
}

/** Undefined for a call without a client token. */
function digestOf({ operation, input, principal }: Command, { settings }: Services): CallDigest | undefined {
  const clientToken = input.clientToken as string | undefined;
  if (!clientToken) return undefined;
  return digestCall(
    { accountId: settings.accountId, principalId: principal.principalId },
    operation,
    input,
    clientToken,
  );
}

/**
 * What is remembered of the token after `error`. Where the store cannot say, a refusal may be that of a call that was done
 * long ago, and must not be told; a failure of the server's own says more than that the store has failed once more.
 */
async function lookUp({ key }: CallDigest, error: unknown, { store }: Services): Promise<TokenRow | undefined> {
  const isRefusal = error instanceof GuardFailed || (error instanceof ServiceError && error.status < 500);
  return store.token(key).catch((unknown: unknown) => {
    throw isRefusal ? unknown : error;
  });
}

/** @throws GuardFailed when another change got in between, or the token was used before; what the handler throws. */
async function decideAndWrite(
  handler: CommandHandler,
  command: Command,
  digest: CallDigest | undefined,
  services: Services,
): Promise<Answer> {
  const mutation = await handler.command(command.input as AnyInput, command.principal, services);
  const changes = mutation.writes.some(changesRow);
  const line = doneLine(command, changes ? 'ok' : 'unchanged', mutation.subject, services);
  const writes: Write[] = [...mutation.writes];
  if (digest) writes.push(rememberToken(digest, mutation.subject, services));
  if (changes) writes.push({ op: 'audit', line });
  if (changes || digest) await services.store.write(writes);
  // Nothing is lost with a line about nothing, and whoever does nothing over and over must not fill the disk with them.
  if (!changes) services.audit.add(line);
  if (writes.some(makesDue)) services.wake();
  return mutation.answer;
}

/** Guards alone change nothing. */
function changesRow({ op }: Write): boolean {
  return op === 'insert' || op === 'update' || op === 'delete';
}

function makesDue(write: Write): boolean {
  return (write.op === 'insert' || write.op === 'update') && write.row.dueAt !== null;
}

/** The present form of what the call did before. @throws ServiceError ResourceNotFoundException when what it made is gone. */
async function replay(
  handler: CommandHandler,
  command: Command,
  { kind, id }: TokenRow,
  services: Services,
): Promise<Answer> {
  const row = await services.store.get(kind, id);
  // What was made may be gone for good by now. Doing it again would be a second thing done with one token.
  if (!row) throw resourceNotFound(lifecycleOf(kind).noun, id);
  const answer = handler.replay
    ? await handler.replay(command.input as AnyInput, command.principal, services)
    : documentAnswer(command.operation, row.doc);
  services.audit.add(doneLine(command, 'replayed', undefined, services));
  return answer;
}

function rememberToken(digest: CallDigest, subject: { kind: string; id: string }, services: Services): Write {
  const now = services.clock.now();
  return { op: 'token', token: { ...digest, ...subject, expiresAt: now + services.settings.tokenMs }, now };
}

/** An answer whose one member is a stored document. */
export function documentAnswer(operation: Pick<Operation, 'output'>, doc: string): string {
  const [member] = Object.keys(operation.output!.members);
  return `{"${member}":${doc}}`;
}
