/**
 * Who may call what. The default is to refuse: an operation is allowed only by a rule that says so.
 *
 * Every access key of this installation belongs to its administrator, and the administrator may call every operation.
 * What even an administrator may not change (images provided for every studio) is a rule of the resource.
 */
import type { Operation } from '../contract/operation.ts';
import { ServiceError } from '../errors.ts';
import type { Principal } from './context.ts';

/** @throws ServiceError AccessDeniedException */
export function authorize(principal: Principal, operation: Operation): void {
  if (principal.role === 'administrator') return;
  throw new ServiceError(
    'AccessDeniedException',
    `User ${principal.principalId} is not authorized to perform nimble:${operation.name}`,
    { code: 'NOT_AUTHORIZED' },
  );
}
