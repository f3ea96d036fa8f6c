/**
 * Says of a call whether it may be answered at all, by what its caller was a member of and had policies for at any moment
 * of the call. It is told by the rows and by tables written out for tests; it must never ask the code that decides in the
 * product. Where a right was changed during the call, both answers are right.
 */
import assert from 'node:assert/strict';
import type { OperationName } from '../../src/contract/index.ts';
import type { Grant } from '../../src/domain/grant.ts';
import type { ServiceError } from '../../src/errors.ts';
import type { Row } from '../../src/store/store.ts';
import { EXPECTED, OF_THE_INSTALLATION, type Who } from '../support/persona-table.ts';
import { both, certain, either, type Facts, type Held, NO, not, YES } from './facts.ts';
import type { Caller, Check, Rule } from './people.ts';

export interface AskedCall {
  readonly requestId: string;
  readonly caller: Caller;
  readonly name: OperationName;
  readonly input: Readonly<Record<string, unknown>>;
  /** What the facts called the moment at which it began. */
  readonly from: number;
}

interface Subject {
  readonly kind: string;
  readonly id: string;
}

/** Members that name what a call is about, the likeliest first; EULAs have no tags and belong to nobody. */
const SUBJECTS: readonly (readonly [member: string, kind: string])[] = [
  ['sessionId', 'streaming-session'],
  ['backupId', 'streaming-session-backup'],
  ['studioComponentId', 'studio-component'],
  ['launchProfileId', 'launch-profile'],
  ['streamingImageId', 'streaming-image'],
  ['studioId', 'studio'],
];

function subjectOf({ name, input }: AskedCall): Subject | undefined {
  if (name.includes('Eula')) return undefined;
  if (typeof input.resourceArn === 'string') {
    const [kind, id] = input.resourceArn.split(':').slice(5).join(':').split('/') as [string, string];
    return { kind, id: kind === 'studio' ? `us-west-2:${id}` : id };
  }
  const found = SUBJECTS.find(([member]) => typeof input[member] === 'string');
  return found && { kind: found[1], id: input[found[0]] as string };
}

const tagsOf = ({ doc }: Row) => (JSON.parse(doc) as { tags?: Record<string, string> }).tags ?? {};

const FOR_MEMBERS = ['CreateStreamingSession', 'StartStreamingSession', 'CreateStreamingSessionStream'];

export class Oracle {
  readonly #facts: Facts;
  readonly #rules: readonly Rule[];

  constructor(facts: Facts, rules: readonly Rule[]) {
    this.#facts = facts;
    this.#rules = rules;
  }

  /** @throws when the call was made, or refused, and must not have been. */
  assertRightful(call: AskedCall, refusal?: ServiceError): void {
    if (call.caller.role === 'administrator') {
      assert.notEqual(refusal?.code, 'NOT_AUTHORIZED', `${call.name} was refused to the administrator`);
      return;
    }
    // Anything may fail in the midst, and then nothing has been decided.
    if (refusal?.name === 'InternalServerErrorException') return;
    const [isKnown, mayCall] = [this.#isEnabled(call, call.caller.principalId), this.#mayCall(call)];
    const what = `${call.name} by ${call.caller.called} of ${JSON.stringify(call.input)}`;
    if (refusal?.name === 'UnrecognizedClientException') {
      assert.ok(not(isKnown).can, `${what}: the key was refused, and its user is enabled`);
      return;
    }
    assert.ok(isKnown.can, `${what}: the key was taken, and its user is disabled`);
    if (refusal?.code === 'NOT_AUTHORIZED') {
      assert.ok(not(mayCall).can, `${what} was refused, and is allowed`);
      return;
    }
    assert.ok(mayCall.can, `${what} was let through to ${refusal?.message ?? 'an answer'}, and is not allowed`);
    this.#assertMembers(call, what, refusal);
  }

  /** Sessions run for members of their profile only, where a user begins them, and are seen by nobody else. */
  #assertMembers(call: AskedCall, what: string, refusal: ServiceError | undefined): void {
    const { caller, name, input } = call;
    if (caller.role !== 'user' || !FOR_MEMBERS.includes(name)) return;
    const isRefused = refusal?.code === 'NOT_A_MEMBER';
    if (refusal && !isRefused) return;
    const session = this.#facts.since(call.from, 'streaming-session', String(input.sessionId)).find(Boolean);
    const profileId = session?.parentId ?? String(input.launchProfileId);
    const owner = session?.ownerId ?? (input.ownedBy as string | undefined) ?? caller.principalId;
    const members = name === 'CreateStreamingSessionStream' ? [caller.principalId] : [caller.principalId, owner];
    const mayUse = both(...members.map((id) => this.#mayUseProfile(call, profileId, id)));
    assert.ok(isRefused ? not(mayUse).can : mayUse.can, `${what}: ${isRefused ? 'is a member' : 'is no member'}`);
  }

  #mayCall(call: AskedCall): Held {
    const checks = [this.#checkOf(call)];
    const { tags = {} } = call.input;
    if (call.name.startsWith('Create') && Object.keys(tags as object).length > 0) checks.push(this.#checkOfTags(call));
    return both(...checks.map((check) => this.#passes(call, check)));
  }

  #passes(call: AskedCall, check: Check): Held {
    const [allowed, denied] = (['Allow', 'Deny'] as const).map((effect) => this.#saysPolicy(call, check, effect));
    return both(either(allowed!, this.#allowsPersona(call, check.action)), not(denied!));
  }

  // --- Policies ---

  /** What is asked of the resource that the call names. */
  #checkOf(call: AskedCall): Check {
    const { from, name, input } = call;
    const subject = subjectOf(call);
    const held = (is: (row: Row) => boolean): Held =>
      subject ? this.#facts.held(from, subject.kind, subject.id, (row) => isVisible(row, input) && is(row)) : NO;
    const isIn = (studioIds: readonly string[]): Held => {
      if (typeof input.studioId === 'string') return certain(studioIds.includes(input.studioId));
      return held(({ kind, id, studioId }) => studioIds.includes(kind === 'studio' ? id : studioId));
    };
    return {
      action: name,
      shows: (value) => held((row) => tagsOf(row).show === value),
      unseen: subject ? not(held(() => true)) : NO,
      isIn,
    };
  }

  /** What is made has no tags yet. */
  #checkOfTags({ input }: AskedCall): Check {
    const isIn = (studioIds: readonly string[]) => certain(studioIds.includes(input.studioId as string));
    return { action: 'TagResource', shows: () => NO, unseen: NO, isIn };
  }

  /** Whether any policy of this effect that the caller has is about it. */
  #saysPolicy({ caller, from }: AskedCall, check: Check, effect: 'Allow' | 'Deny'): Held {
    const grantId = caller.role === 'service' ? `service/${caller.username}` : `user/${caller.principalId}`;
    const found = this.#rules.flatMap(({ name, wordings }) => {
      const has = this.#facts.held(from, 'grant', grantId, ({ doc }) =>
        (JSON.parse(doc) as Grant).policies.includes(name),
      );
      return wordings.map((wording) => {
        const isWorded = this.#facts.held(from, 'policy', name, (row) => {
          return (JSON.parse(row.private) as { text: string }).text === wording.text;
        });
        return wording.effect === effect ? both(has, isWorded, wording.isAbout(check)) : NO;
      });
    });
    return either(...found);
  }

  // --- Personas ---

  #allowsPersona(call: AskedCall, action: OperationName): Held {
    const { caller, input } = call;
    if (caller.role !== 'user') return NO;
    const { principalId } = caller;
    const studioId = input.studioId as string | undefined;
    const isAnywhere = OF_THE_INSTALLATION.includes(action);
    if (studioId === undefined && !isAnywhere) return NO;
    const uses = this.#usesSomething(call, principalId, studioId);
    const as: Record<Who, () => Held> = {
      admin: () => this.#administers(call, principalId, studioId),
      user: () => uses,
      own: () => both(uses, this.#isOwn(call)),
      member: () => both(uses, this.#usesNamedProfile(call)),
    };
    return either(...EXPECTED[action]!.map((who) => as[who]()));
  }

  #administers({ from }: AskedCall, principalId: string, studioId?: string): Held {
    if (studioId !== undefined) return this.#facts.held(from, 'studio-member', `${studioId}/${principalId}`);
    return this.#facts.anyHeld(from, 'studio-member', ({ ownerId }) => certain(ownerId === principalId));
  }

  /** Memberships stay for as long as their profile is a tombstone, and open nothing any more. */
  #usesSomething(call: AskedCall, principalId: string, studioId?: string): Held {
    return this.#facts.anyHeld(call.from, 'launch-profile-member', (row) => {
      if (studioId !== undefined && row.studioId !== studioId) return NO;
      const isLive = this.#facts.held(call.from, 'launch-profile', row.parentId!, ({ state }) => state !== 'DELETED');
      return both(isLive, this.#isOrIsIn(call, principalId, row.ownerId!));
    });
  }

  #usesNamedProfile(call: AskedCall): Held {
    const { studioId, launchProfileId } = call.input as Record<string, string>;
    const isThere = this.#facts.held(call.from, 'launch-profile', launchProfileId!, (row) => row.studioId === studioId);
    return both(isThere, this.#mayUseProfile(call, launchProfileId!, call.caller.principalId));
  }

  #mayUseProfile(call: AskedCall, profileId: string, principalId: string): Held {
    const { from } = call;
    const isMember = this.#facts.anyHeld(from, 'launch-profile-member', (row) => {
      return row.parentId === profileId ? this.#isOrIsIn(call, principalId, row.ownerId!) : NO;
    });
    const profile = this.#facts.since(from, 'launch-profile', profileId).find(Boolean);
    if (!profile) return NO;
    const isUsable = either(isMember, this.#administers(call, principalId, profile.studioId));
    return both(this.#facts.held(from, profile.kind, profile.id), this.#isEnabled(call, principalId, 'user'), isUsable);
  }

  /** Whether the user is the member, or in the group that is. */
  #isOrIsIn({ from }: AskedCall, userId: string, memberId: string): Held {
    return userId === memberId ? YES : this.#facts.held(from, 'group-member', `${memberId}/${userId}`);
  }

  #isOwn(call: AskedCall): Held {
    const { caller, input, name, from } = call;
    const { principalId } = caller;
    if (name === 'ListLaunchProfiles') return certain(input.principalId === principalId);
    if (name.startsWith('List')) return certain(input.ownedBy === principalId);
    const { kind, id } = subjectOf(call)!;
    return this.#facts.held(from, kind, id, (row) => isVisible(row, input) && row.ownerId === principalId);
  }

  #isEnabled({ caller, from }: AskedCall, principalId: string, role = caller.role): Held {
    return role === 'user' ? this.#facts.held(from, 'user', principalId, ({ state }) => state === 'PRESENT') : YES;
  }
}

/** A row of another studio is none. */
function isVisible({ kind, studioId }: Row, input: AskedCall['input']): boolean {
  return kind === 'studio' || input.studioId === undefined || [input.studioId, 'amazon'].includes(studioId);
}
