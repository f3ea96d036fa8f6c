/** What a handler is given: who calls, and the ports and settings it may use. Types only. */

import type { Clock } from '../clock.ts';
import type { Input, OperationName } from '../contract/index.ts';
import type { Ids } from '../ids.ts';
import type { Keys } from '../keys/keys.ts';
import type { Store, Write } from '../store/store.ts';
import type { AuditTrail } from './audit.ts';
import type { Policies } from './policy.ts';
import type { Turns } from './turns.ts';

export interface DomainSettings {
  readonly region: string;
  readonly accountId: string;
  /** Address that a browser reaches this server at; no trailing slash. */
  readonly publicUrl: () => string;
  readonly tombstoneMs: number;
  /** How long a client token is remembered. */
  readonly tokenMs: number;
  readonly streamingImagesMax: number;
  readonly studioComponentsMax: number;
  readonly sharedFileSystemsMax: number;
  readonly launchProfilesMax: number;
  readonly streamingSessionsMax: number;
  readonly g5SessionsMax: number;
  /** Undefined: as many as the studio may have. */
  readonly sessionsPerOwnerMax: number | undefined;
}

export interface Services {
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  /** For what is sealed in rows and shown to those who may see it. */
  readonly keys: Pick<Keys, 'open'>;
  readonly settings: DomainSettings;
  readonly turns: Turns;
  readonly audit: AuditTrail;
  /** Tells the worker that a row is due. It carries no data, and losing it costs a poll interval and nothing else. */
  readonly wake: () => void;
}

/** Who signed the request. */
export interface Principal {
  readonly accessKeyId: string;
  readonly role: string;
  /** Shows up as `acceptedBy` and the like. */
  readonly principalId: string;
  /** Of the service or the user that the access key was made for. */
  readonly username?: string;
  /** What the principal may do; who is no administrator and has none may do nothing. */
  readonly policies?: readonly Policies[];
}

/** Where a request came from, and what its answer calls it. */
export interface Origin {
  readonly remoteAddress?: string | undefined;
  readonly requestId?: string;
}

/** Body of an answer: JSON, as text or as UTF-8 bytes. */
export type Answer = string | Buffer;

/** What a mutating handler decided. Nothing has happened yet: the writes are done together, then the answer is sent. */
export interface Mutation {
  readonly writes: readonly Write[];
  readonly answer: Answer;
  /** The row whose present form answers a replay of the same client token. */
  readonly subject: { readonly kind: string; readonly id: string };
}

/** Reads and answers. */
export type Query<N extends OperationName> = (
  input: Input<N>,
  principal: Principal,
  services: Services,
) => Promise<Answer>;

/** Reads and decides. May run again when another change got in between, so it must have no effect of its own. */
export type Command<N extends OperationName> = (
  input: Input<N>,
  principal: Principal,
  services: Services,
) => Promise<Mutation>;

export type Handler<N extends OperationName> =
  | { readonly query: Query<N> }
  | {
      readonly command: Command<N> /** Answers a replay in another way than by showing the subject. */;
      readonly replay?: Query<N>;
    };

export type Handlers = { readonly [N in OperationName]: Handler<N> };
