/**
 * `POST /login` on the wire: reads the body, and writes the answer in the form that the SDKs' `credential_process` takes.
 * It has no signature, being where one gets what to sign with, so it must be of no use to a page of another site: bodies
 * are JSON by their content type, which such a page may not send unasked, and its asking is not answered (see server.ts).
 */
import { ServiceError, validationFailed } from '../errors.ts';
import type { PlainAnswer, PlainRequest } from './plain.ts';

export interface Login {
  readonly userName: string;
  readonly password: string;
  readonly durationSeconds?: number | undefined;
  readonly remoteAddress: string | undefined;
  readonly requestId: string;
}

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly expiration: string;
}

const USER_NAME_LENGTH_MAX = 128;
const PASSWORD_LENGTH_MAX = 1_024;

/** @throws ServiceError */
export async function answerLogin(
  { contentType, body, origin }: PlainRequest,
  logIn: (login: Login) => Promise<Credentials>,
): Promise<PlainAnswer> {
  if (!/^application\/json\s*(;|$)/i.test(contentType ?? '')) {
    throw new ServiceError('UnsupportedMediaTypeException', 'The Content-Type must be application/json', {
      code: 'NOT_JSON',
    });
  }
  const credentials = await logIn({ ...readLogin(body), ...origin });
  return { status: 200, contentType: 'application/json', body: credentialProcess(credentials), isSecret: true };
}

/** As `credential_process` of the SDKs wants it. */
function credentialProcess({ accessKeyId, secretAccessKey, sessionToken, expiration }: Credentials): string {
  return JSON.stringify({
    Version: 1,
    AccessKeyId: accessKeyId,
    SecretAccessKey: secretAccessKey,
    SessionToken: sessionToken,
    Expiration: expiration,
  });
}

function readLogin(body: Buffer): Omit<Login, 'remoteAddress' | 'requestId'> {
  const { userName, password, durationSeconds } = readObject(body);
  if (durationSeconds !== undefined && durationSeconds !== null && !Number.isSafeInteger(durationSeconds)) {
    throw validationFailed('durationSeconds must be a whole number', 'INVALID_DURATION');
  }
  return {
    userName: readText(userName, 'userName', USER_NAME_LENGTH_MAX),
    password: readText(password, 'password', PASSWORD_LENGTH_MAX),
    durationSeconds: (durationSeconds ?? undefined) as number | undefined,
  };
}

function readObject(body: Buffer): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // What is wrong with it is not told: the text holds a password.
  }
  throw validationFailed('The body must be a JSON object', 'MALFORMED_BODY');
}

function readText(value: unknown, member: string, lengthMax: number): string {
  if (typeof value === 'string' && value !== '' && value.length <= lengthMax && !/\p{Cc}/u.test(value)) return value;
  throw validationFailed(
    `${member} must be a text of 1 to ${lengthMax} characters, none of them a control character`,
    'INVALID_LOGIN',
  );
}
