/**
 * The one error class of Backlot and the table of every error it can answer with.
 *
 * A ServiceError carries two texts: the outward message, which the caller reads, and an inward detail, which only the
 * log sees. It is turned into bytes at the wire edge and made from a foreign error at the store and driver edges;
 * nothing in between translates errors. The inward detail must never reach a response.
 */

/** HTTP status of every error name. The first seven are the API's modelled exceptions; the rest belong to the front door. */
export const ERROR_STATUS = {
  ValidationException: 400,
  ServiceQuotaExceededException: 402,
  AccessDeniedException: 403,
  ResourceNotFoundException: 404,
  ConflictException: 409,
  ThrottlingException: 429,
  InternalServerErrorException: 500,

  UnknownOperationException: 404,
  NotAcceptableException: 406,
  RequestEntityTooLargeException: 413,
  UnsupportedMediaTypeException: 415,
  ServiceUnavailableException: 503,

  MissingAuthenticationTokenException: 403,
  IncompleteSignatureException: 403,
  InvalidSignatureException: 403,
  UnrecognizedClientException: 403,
  ExpiredTokenException: 403,
} as const;

export type ErrorName = keyof typeof ERROR_STATUS;

export interface ErrorDetails {
  /** Stable UPPER_SNAKE reason that a script can branch on. */
  readonly code?: string;
  /** Facts about the refusal, for example `resourceId` of a 404. */
  readonly context?: Readonly<Record<string, string>>;
  /** When it is worth trying again; whole seconds. */
  readonly retryAfterSeconds?: number;
  /** For the log only. */
  readonly inward?: string;
  readonly cause?: unknown;
}

export class ServiceError extends Error {
  override readonly name: ErrorName;
  readonly status: number;
  readonly code: string | undefined;
  readonly context: Readonly<Record<string, string>> | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly inward: string | undefined;

  constructor(name: ErrorName, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = name;
    this.status = ERROR_STATUS[name];
    this.code = details.code;
    this.context = details.context;
    this.retryAfterSeconds = details.retryAfterSeconds;
    this.inward = details.inward;
  }
}

/** What a caller may see of an error. */
export type OutwardError = Pick<ServiceError, 'name' | 'status' | 'message' | 'code' | 'context' | 'retryAfterSeconds'>;

/** A 404. The API documents `context.resourceId` as the id that was not found. */
export function resourceNotFound(what: string, resourceId: string): ServiceError {
  return new ServiceError('ResourceNotFoundException', `${what} ${resourceId} was not found`, {
    code: 'RESOURCE_NOT_FOUND',
    context: { resourceId },
  });
}

export function validationFailed(message: string, code: string, context?: Record<string, string>): ServiceError {
  return new ServiceError('ValidationException', message, context ? { code, context } : { code });
}

/** A 400 about one member, in the words of the vendor's validation. @param member path below the input, without a slash. */
export function memberRefused(
  member: string,
  rule: string,
  code: string,
  context?: Record<string, string>,
): ServiceError {
  return validationFailed(
    `1 validation error detected. Value at '/${member}' failed to satisfy constraint: ${rule}`,
    code,
    context,
  );
}

const CLIPPED_LENGTH = 64;

/** For messages that repeat what a caller sent, which may be of any length. */
export function clipped(text: string): string {
  return text.length > CLIPPED_LENGTH ? `${text.slice(0, CLIPPED_LENGTH)}…` : text;
}
