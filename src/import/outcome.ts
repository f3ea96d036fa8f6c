/** What becomes of each thing that an import finds, and why. */

/** `new`: it is made, or would be; `there`: it was made before; `left out`: not meant to come; `refused`: mend it. */
export type Result = 'new' | 'there' | 'left out' | 'refused';

export interface Outcome {
  readonly file: string;
  readonly kind: string;
  readonly id: string;
  readonly result: Result;
  /** Why it is not made, or what is different about it. */
  readonly note: string;
}

/** Why there is no importing at all. The message is a sentence for the person at the terminal. */
export class ImportFailed extends Error {
  override readonly name = 'ImportFailed';
}

/** Why one thing is not made. */
export class NotImported extends Error {
  override readonly name = 'NotImported';
  readonly result: 'left out' | 'refused';
  constructor(result: 'left out' | 'refused', message: string) {
    super(message);
    this.result = result;
  }
}
