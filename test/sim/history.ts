/**
 * What users were told, and which reads that allows. A value read is explained by a write that had begun by then and was
 * not certainly overwritten: no other write was begun after it was acknowledged and acknowledged before the read began.
 * A write that was never answered may or may not have happened; one that was refused has not.
 */
import assert from 'node:assert/strict';
import type { Row } from '../../src/store/store.ts';

type Value = string | undefined;

interface Written {
  readonly value: Value;
  readonly start: number;
  /** Infinity until it is acknowledged. */
  end: number;
}

/** One member of one resource. */
class Register {
  readonly #writes: Written[] = [];

  begin(value: Value, start: number): Written {
    const written = { value, start, end: Number.POSITIVE_INFINITY };
    this.#writes.push(written);
    return written;
  }

  refuse(written: Written): void {
    this.#writes.splice(this.#writes.indexOf(written), 1);
  }

  explains(value: Value, start: number): boolean {
    return this.#writes.some(
      (written) =>
        written.value === value && !this.#writes.some((later) => written.end < later.start && later.end < start),
    );
  }

  toString(): string {
    return this.#writes.map(({ value, start, end }) => `${value}@${start}-${end}`).join(' ');
  }
}

/** A change that a user asked for, and how it was answered. */
export interface PendingChange {
  acknowledge(): void;
  refuse(): void;
}

type Doc = Readonly<Record<string, unknown>>;

const MEMBERS = ['name', 'description', 'displayName', 'adminRoleArn', 'userRoleArn'];
const DELETED_STATES = ['DELETE_IN_PROGRESS', 'DELETE_FAILED', 'DELETED'];

class Subject {
  readonly #registers = new Map<string, Register>();
  /** When the first acknowledged delete was answered. */
  deletedAt = Number.POSITIVE_INFINITY;
  readonly tagKeys = new Set<string>();

  register(name: string): Register {
    let register = this.#registers.get(name);
    if (!register) {
      register = new Register();
      // Nothing was there before all time, and everybody knows it.
      register.begin(undefined, -1).end = -1;
      this.#registers.set(name, register);
    }
    return register;
  }
}

export class History {
  readonly #subjects = new Map<string, Subject>();
  #now = 0;

  /** A moment later than all before. */
  tick(): number {
    this.#now += 1;
    return this.#now;
  }

  #subject(id: string): Subject {
    let subject = this.#subjects.get(id);
    if (!subject) {
      subject = new Subject();
      this.#subjects.set(id, subject);
    }
    return subject;
  }

  /** A resource came to be with these values. Nobody can have asked for a change of it before. */
  created(row: Row): void {
    const doc = JSON.parse(row.doc) as Doc;
    const at = this.tick();
    const values = Object.fromEntries(MEMBERS.map((member) => [member, doc[member] as Value]));
    const tags = doc.tags as Record<string, string>;
    for (const [key, value] of Object.entries(tags)) values[`tag ${key}`] = value;
    this.#begin(row.id, values, at).acknowledge();
  }

  /** @param values by member, or `tag` and a key. */
  change(id: string, values: Readonly<Record<string, Value>>): PendingChange {
    return this.#begin(id, values, this.tick());
  }

  #begin(id: string, values: Readonly<Record<string, Value>>, start: number): PendingChange {
    const subject = this.#subject(id);
    const begun = Object.entries(values).map(([name, value]) => {
      if (name.startsWith('tag ')) subject.tagKeys.add(name.slice('tag '.length));
      const register = subject.register(name);
      return { register, written: register.begin(value, start) };
    });
    return {
      acknowledge: () => {
        const end = this.tick();
        for (const { written } of begun) written.end = end;
      },
      refuse: () => {
        for (const { register, written } of begun) register.refuse(written);
      },
    };
  }

  /** An image's delete was answered. */
  deleted(id: string): void {
    const subject = this.#subject(id);
    subject.deletedAt = Math.min(subject.deletedAt, this.tick());
  }

  /** @param start when the read that found this document began. */
  assertExplained(id: string, doc: Doc, start: number): void {
    const subject = this.#subject(id);
    for (const member of MEMBERS) this.#assertValue(subject, id, member, doc[member] as Value, start);
    this.assertTagsExplained(id, doc.tags as Record<string, string>, start);
    if (subject.deletedAt < start) {
      assert.ok(
        DELETED_STATES.includes(doc.state as string),
        `${id} is ${doc.state} after its delete was acknowledged`,
      );
    }
  }

  assertTagsExplained(id: string, tags: Readonly<Record<string, string>>, start: number): void {
    const subject = this.#subject(id);
    for (const key of new Set([...subject.tagKeys, ...Object.keys(tags)])) {
      this.#assertValue(subject, id, `tag ${key}`, Object.hasOwn(tags, key) ? tags[key] : undefined, start);
    }
  }

  #assertValue(subject: Subject, id: string, name: string, value: Value, start: number): void {
    const register = subject.register(name);
    assert.ok(register.explains(value, start), `${id}: ${name} is ${value} at ${start}; written were ${register}`);
  }
}
