/** Commands that read and then write, beside a server that may be writing the same rows. */
import { GuardFailed } from '../store/store.ts';
import { CommandFailed } from './command.ts';

const ATTEMPTS_MAX = 8;

/** Does the work, from its reads on, again whenever something else changed in between. @throws CommandFailed */
export async function undisturbed<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof GuardFailed)) throw error;
    }
  }
  throw new CommandFailed('Others keep changing the same. Try again in a moment.');
}
