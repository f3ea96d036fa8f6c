/**
 * What a client token means: the same token with the same input succeeds again and does nothing more; with other input it
 * is refused. Only successes are remembered, in the same write as the change itself.
 */
import { hash } from 'node:crypto';
import type { Operation } from '../contract/operation.ts';
import { validationFailed } from '../errors.ts';
import type { TokenRow } from '../store/store.ts';

/** Digests of one call: `key` of account, principal, operation, path and token; `digest` of everything in it. 128 bits each. */
export interface CallDigest {
  readonly key: string;
  readonly digest: string;
}

/** @param input the validated input, whose members stand in the contract's order, so that equal calls digest equally. */
export function digestCall(
  { accountId, principalId }: { readonly accountId: string; readonly principalId: string },
  operation: Operation,
  input: Readonly<Record<string, unknown>>,
  clientToken: string,
): CallDigest {
  const scope = [accountId, principalId, operation.name, clientToken];
  for (const name in operation.labels) scope.push(input[name] as string);
  return {
    key: hash('sha256', JSON.stringify(scope), 'base64url').slice(0, 22),
    digest: hash('sha256', JSON.stringify(input), 'base64url').slice(0, 22),
  };
}

/** @throws ServiceError ValidationException when the token was used with other parameters. */
export function requireSameInput(remembered: TokenRow, call: CallDigest): void {
  if (remembered.digest === call.digest) return;
  throw validationFailed(
    'The client token was used before with different parameters. Use a new token for a new request.',
    'CLIENT_TOKEN_REUSED',
  );
}
