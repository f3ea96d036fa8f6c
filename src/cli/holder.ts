/** Whom a command is about: the service that `--service` names, or the user that `--user` does. */
import { USER } from '../domain/access.ts';
import { getGrant, type Holder, serviceNamed } from '../domain/grant.ts';
import { readUser } from '../domain/user.ts';
import type { Parts } from '../service.ts';
import type { Row } from '../store/store.ts';
import { type Arguments, CommandFailed, type Option } from './command.ts';
import { requireUser } from './user.ts';

export const HOLDER_OPTIONS: Readonly<Record<string, Option>> = {
  service: { value: 'NAME', meaning: 'Service that has it' },
  user: { value: 'NAME', meaning: 'User who has it, by name or id: aws:username in policies' },
};

/**
 * With the grant that there is, if any: users need none.
 * @throws CommandFailed where nobody is named, or a service that is not known: it may be a slip.
 */
export async function requireHolder(
  given: Arguments,
  parts: Parts,
): Promise<{ holder: Holder; grant: Row | undefined }> {
  const holder = await holderOf(given, parts);
  if (!holder) throw new CommandFailed('Say whose: --service NAME or --user NAME.');
  const grant = await getGrant(parts.store, holder);
  if (grant || holder.role === USER) return { holder, grant };
  throw new CommandFailed(
    `There is no service ${holder.name}. It begins with its first key: backlot access-key create --service ${holder.name}`,
  );
}

/** @throws CommandFailed */
export async function holderOf(given: Arguments, parts: Parts): Promise<Holder | undefined> {
  const [service, user] = [given.option('service'), given.option('user')];
  if (service !== undefined && user !== undefined) throw new CommandFailed('Give --service or --user, not both.');
  if (service !== undefined) return serviceNamed(service, parts);
  if (user === undefined) return undefined;
  const row = await requireUser(user, parts.store);
  return { role: USER, name: readUser(row).userName, principalId: row.id };
}
