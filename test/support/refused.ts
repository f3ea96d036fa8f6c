/** How a call is refused: name, code and facts of the ServiceError are part of the API. */
import assert from 'node:assert/strict';
import { type ErrorName, ServiceError } from '../../src/errors.ts';

/** Asserts that the call fails with this error. `context` names members that must be there; others may be. */
export async function refused(
  call: Promise<unknown>,
  name: ErrorName,
  code?: string,
  context: Record<string, string> = {},
): Promise<void> {
  const error = await call.then(
    (answer) => assert.fail(`answered ${JSON.stringify(answer).slice(0, 300)} instead of ${name}`),
    (reason: unknown) => reason,
  );
  if (!(error instanceof ServiceError)) throw error;
  assert.equal(error.name, name, error.message);
  if (code !== undefined) assert.equal(error.code, code);
  assert.deepEqual({ ...error.context, ...context }, { ...error.context });
}

/** Status of the answer: 200, or that of the refusal. */
export async function statusOf(call: Promise<unknown>): Promise<number> {
  try {
    await call;
    return 200;
  } catch (error) {
    if (error instanceof ServiceError) return error.status;
    throw error;
  }
}
