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
import { GuardFailed, type Write } from '../store/store.ts';
import { authorize } from './access.ts';
import { type AuditedCall, doneLine } from './audit.ts';
import type { Answer, Handler, Origin, Principal, Services } from './context.ts';
import { type CallDigest, digestCall, requireSameInput } from './idempotency.ts';
import { lifecycleOf } from './lifecycles.ts';

/** Decisions overtaken this many times in a row are given up as a conflict. */
const ATTEMPTS_MAX = 8;

/** Of a call that came over no connection. */
const NOWHERE: Origin = {};

type AnyInput = never;
type AnyHandler = Handler<OperationName>;

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
    command(operation, handler, input, principal, services, origin),
  );
}

/** The id that the path ends with: what commands take turns on. */
function resourceOf(operation: Operation, input: Readonly<Record<string, unknown>>): string {
  let id = operation.name;
  for (const label in operation.labels) id = input[label] as string;
  return id;
}

async function command(
  operation: Operation,
  handler: Extract<AnyHandler, { command: unknown }>,
  input: Readonly<Record<string, unknown>>,
  principal: Principal,
  services: Services,
  origin: Origin,
): Promise<Answer> {
  const clientToken = input.clientToken as string | undefined;
  const audited: AuditedCall = { operation, input, principal, origin };
  const scope = { accountId: services.settings.accountId, principalId: principal.principalId };
  const call = clientToken ? digestCall(scope, operation, input, clientToken) : undefined;
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    // Each time anew: what got in between may have been a tag that a policy looks at. Nor is a replay for everyone.
    const permission = authorize({ operation, input, principal, origin }, services);
    if (permission) await permission;
    try {
      return await decideAndWrite(handler, audited, call, services);
    } catch (error) {
      // A token that was used before fails the write, if what it did has not failed the decision: nearly every token is
      // new, and is spared a look.
      const replayed = call && (await replay(handler, call, operation, input, principal, services));
      if (replayed !== undefined) {
        services.audit.add(doneLine(audited, 'replayed', undefined, services));
        return replayed;
      }
      if (!(error instanceof GuardFailed)) throw error;
    }
  }
  throw new ServiceError('ConflictException', 'Others keep changing the same resource. Try again in a moment.', {
    code: 'CONCURRENT_CHANGES',
  });
}

/** @throws GuardFailed when another change got in between, or the token was used before; what the handler throws. */
async function decideAndWrite(
  handler: Extract<AnyHandler, { command: unknown }>,
  audited: AuditedCall,
  call: CallDigest | undefined,
  services: Services,
): Promise<Answer> {
  const mutation = await handler.command(audited.input as AnyInput, audited.principal, services);
  const changes = mutation.writes.some(changesRow);
  const line = doneLine(audited, changes ? 'ok' : 'unchanged', mutation.subject, services);
  const writes: Write[] = [...mutation.writes];
  if (call) writes.push(rememberToken(call, mutation.subject, services));
  if (changes) writes.push({ op: 'audit', line });
  if (changes || call) await services.store.write(writes);
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

/**
 * The present form of what the same call made before; undefined when the token is new or has expired.
 * @throws ServiceError ValidationException when the call was another; ResourceNotFoundException when what it made is gone.
 */
async function replay(
  handler: Extract<AnyHandler, { command: unknown }>,
  call: CallDigest,
  operation: Operation,
  input: Readonly<Record<string, unknown>>,
  principal: Principal,
  services: Services,
): Promise<Answer | undefined> {
  const remembered = await services.store.token(call.key);
  if (!remembered || remembered.expiresAt <= services.clock.now()) return undefined;
  requireSameInput(remembered, call);
  const row = await services.store.get(remembered.kind, remembered.id);
  // What was made may be gone for good by now. Doing it again would be a second thing done with one token.
  if (!row) throw resourceNotFound(lifecycleOf(remembered.kind).noun, remembered.id);
  if (handler.replay) return handler.replay(input as AnyInput, principal, services);
  return documentAnswer(operation, row.doc);
}

function rememberToken(call: CallDigest, subject: { kind: string; id: string }, services: Services): Write {
  const now = services.clock.now();
  return { op: 'token', token: { ...call, ...subject, expiresAt: now + services.settings.tokenMs }, now };
}

/** An answer whose one member is a stored document. */
export function documentAnswer(operation: Pick<Operation, 'output'>, doc: string): string {
  const [member] = Object.keys(operation.output!.members);
  return `{"${member}":${doc}}`;
}
