/** Whom a command is about: the service that `--service` names. */
import { getGrant, type Holder, serviceNamed } from '../domain/grant.ts';
import type { Parts } from '../service.ts';
import type { Row } from '../store/store.ts';
import { type Arguments, CommandFailed, type Option } from './command.ts';

export const HOLDER_OPTIONS: Readonly<Record<string, Option>> = {
  service: { value: 'NAME', meaning: 'Service that has it: aws:username in policies' },
};

/** @throws CommandFailed where none is named, or none that is known: it may be a slip. */
export async function requireHolder(given: Arguments, parts: Parts): Promise<{ holder: Holder; grant: Row }> {
  const holder = await holderOf(given, parts);
  if (!holder) throw new CommandFailed('Say whose: --service NAME.');
  const grant = await getGrant(parts.store, holder);
  if (grant) return { holder, grant };
  throw new CommandFailed(
    `There is no service ${holder.name}. It begins with its first key: backlot access-key create --service ${holder.name}`,
  );
}

export async function holderOf(given: Arguments, parts: Parts): Promise<Holder | undefined> {
  const service = given.option('service');
  return service === undefined ? undefined : serviceNamed(service, parts);
}
