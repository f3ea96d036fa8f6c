/**
 * Users of several servers of one database, each with things of its own that nobody else changes: so it knows at every
 * moment what must be there. A call that gets no clear answer is repeated with its client token, through any server, until
 * it has one; what chance decides comes from a seed.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  CreateStreamingImageCommand,
  CreateStudioCommand,
  CreateStudioComponentCommand,
  DeleteStreamingImageCommand,
  DeleteStudioCommand,
  DeleteStudioComponentCommand,
  type NimbleClient,
  UpdateStreamingImageCommand,
  UpdateStudioCommand,
  UpdateStudioComponentCommand,
} from '@aws-sdk/client-nimble';
import type { Random } from '../support/random.ts';
import { until } from '../support/until.ts';
import { ABSENT } from './api.ts';

/** A server as a client sees it, and how many calls have been answered through it. */
export interface Door {
  client: NimbleClient;
  answered: number;
}

export interface Place {
  readonly studioId: string;
  readonly doors: readonly Door[];
}

/** What a user knows of a thing that was made. */
export interface Thing {
  readonly kind: 'studio' | 'studio-component' | 'streaming-image';
  /** Nothing else has it. */
  readonly name: string;
  /** As it was last set. */
  text: string;
  /** Changes that were acknowledged. */
  changes: number;
  deleted: boolean;
}

/** The call that made a thing, to be repeated in the end. */
export interface Made {
  readonly id: string;
  readonly again: (client: NimbleClient) => Promise<string>;
}

type Send = (client: NimbleClient, clientToken: string) => Promise<string>;

const ROLES = {
  adminRoleArn: 'arn:aws:iam::000000000000:role/admin',
  userRoleArn: 'arn:aws:iam::000000000000:role/user',
};

/** Refused by the rules, which is an answer; whatever else is thrown leaves open what came of the call. */
const CLEAR = /^(ConflictException|ServiceQuotaExceededException|ResourceNotFoundException|ValidationException)$/;

export class User {
  readonly things = new Map<string, Thing>();
  readonly made: Made[] = [];
  /** Calls with a token that changed something. */
  acknowledged = 0;
  /** Refusals by name. */
  readonly refusals = new Map<string, number>();
  /** Calls that had to be repeated. */
  repeated = 0;
  readonly #name: string;
  readonly #place: Place;
  readonly #random: Random;
  #serial = 0;

  constructor(name: string, place: Place, random: Random) {
    this.#name = name;
    this.#place = place;
    this.#random = random;
  }

  async run(isOver: () => boolean): Promise<void> {
    while (!isOver()) await this.#step();
  }

  /** Takes over an image that is ready, to be changed and never deleted. */
  own(id: string, thing: Thing): void {
    this.things.set(id, thing);
  }

  async #step(): Promise<void> {
    const kind = this.#random.pick(['studio', 'studio-component', 'studio-component', 'streaming-image'] as const);
    const own = [...this.things].filter(([, thing]) => thing.kind === kind && !thing.deleted);
    const turn = this.#random.next();
    if (own.length === 0 || turn < 0.3) return this.#make(kind);
    const [id, thing] = this.#random.pick(own);
    if (turn < 0.8) return this.#change(id, thing);
    return this.#remove(id, thing);
  }

  async #make(kind: Thing['kind']): Promise<void> {
    this.#serial += 1;
    // As the name of a studio must be.
    const name = `${this.#name}n${this.#serial}`;
    const text = `${name} as made`;
    const send = this.#making(kind, name, text);
    const token = randomUUID();
    const made = await this.#answer((client) => send(client, token), ['ServiceQuotaExceededException']);
    if (!made) return;
    const id = made.answer;
    assert.ok(!this.things.has(id), `${id} was made twice`);
    this.things.set(id, { kind, name, text, changes: 0, deleted: false });
    this.made.push({ id, again: (client) => send(client, token) });
  }

  #making(kind: Thing['kind'], name: string, text: string): Send {
    const { studioId } = this.#place;
    const type = this.#random.pick(['CUSTOM', 'SHARED_FILE_SYSTEM'] as const);
    const component = { studioId, name, description: text, type };
    const sends: Readonly<Record<Thing['kind'], Send>> = {
      studio: async (client, clientToken) => {
        const input = { studioName: name, displayName: text, ...ROLES, clientToken };
        return (await client.send(new CreateStudioCommand(input))).studio!.studioId!;
      },
      'studio-component': async (client, clientToken) => {
        const { studioComponent } = await client.send(new CreateStudioComponentCommand({ ...component, clientToken }));
        return studioComponent!.studioComponentId!;
      },
      'streaming-image': async (client, clientToken) => {
        const input = { studioId, name, description: text, ec2ImageId: ABSENT, clientToken };
        return (await client.send(new CreateStreamingImageCommand(input))).streamingImage!.streamingImageId!;
      },
    };
    return sends[kind];
  }

  async #change(id: string, thing: Thing): Promise<void> {
    const { studioId } = this.#place;
    const text = `${thing.name} changed ${thing.changes + 1}`;
    const token = { clientToken: randomUUID() };
    const component = { studioId, studioComponentId: id, description: text, ...token };
    const image = { studioId, streamingImageId: id, description: text, ...token };
    const sends: Readonly<Record<Thing['kind'], (client: NimbleClient) => Promise<unknown>>> = {
      studio: (client) => client.send(new UpdateStudioCommand({ studioId: id, displayName: text, ...token })),
      'studio-component': (client) => client.send(new UpdateStudioComponentCommand(component)),
      'streaming-image': (client) => client.send(new UpdateStreamingImageCommand(image)),
    };
    // It may still be in the making, or be an image that could not be made.
    if (!(await this.#answer(sends[thing.kind], ['ConflictException']))) return;
    thing.changes += 1;
    thing.text = text;
  }

  async #remove(id: string, thing: Thing): Promise<void> {
    // One that was made before there were users, to be kept.
    if (!this.made.some((made) => made.id === id)) return;
    const { studioId } = this.#place;
    const token = { clientToken: randomUUID() };
    const component = { studioId, studioComponentId: id, ...token };
    const image = { studioId, streamingImageId: id, ...token };
    const sends: Readonly<Record<Thing['kind'], (client: NimbleClient) => Promise<unknown>>> = {
      studio: (client) => client.send(new DeleteStudioCommand({ studioId: id, ...token })),
      'studio-component': (client) => client.send(new DeleteStudioComponentCommand(component)),
      'streaming-image': (client) => client.send(new DeleteStreamingImageCommand(image)),
    };
    if (await this.#answer(sends[thing.kind], ['ConflictException'])) thing.deleted = true;
  }

  /** The clear answer of a call, through whichever server gives one; undefined where it is a refusal that may be. */
  async #answer<T>(
    send: (client: NimbleClient) => Promise<T>,
    mayBe: readonly string[],
  ): Promise<{ readonly answer: T } | undefined> {
    let attempts = 0;
    const outcome = await until('a call has a clear answer', async () => {
      attempts += 1;
      const door = this.#random.pick(this.#place.doors);
      try {
        const answer = await send(door.client);
        door.answered += 1;
        return { isRefused: false, answer } as const;
      } catch (error) {
        if (!CLEAR.test((error as Error).name)) throw error;
        return { isRefused: true, refusal: error as Error } as const;
      }
    });
    if (attempts > 1) this.repeated += 1;
    if (!outcome.isRefused) {
      this.acknowledged += 1;
      return outcome;
    }
    const { name, message } = outcome.refusal;
    assert.ok(mayBe.includes(name), `${name}: ${message}`);
    this.refusals.set(name, (this.refusals.get(name) ?? 0) + 1);
    return undefined;
  }
}
