/** Every command of the command line, in the order of the help. */
import { accessKeyCommands } from './access-key.ts';
import { auditCommands } from './audit.ts';
import { backupCommands } from './backup.ts';
import type { Command } from './command.ts';
import { databaseCommands } from './database.ts';
import { eulaCommands } from './eula.ts';
import { groupCommands } from './group.ts';
import { importCommands } from './import.ts';
import { keyCommands } from './key.ts';
import { machineImageCommands } from './machine-image.ts';
import { passwordCommands } from './password.ts';
import { policyCommands } from './policy.ts';
import { serveCommands } from './serve.ts';
import { sessionCommands } from './session.ts';
import { userCommands } from './user.ts';

export const commands: readonly Command[] = [
  ...serveCommands,
  ...machineImageCommands,
  ...eulaCommands,
  ...userCommands,
  ...passwordCommands,
  ...groupCommands,
  ...accessKeyCommands,
  ...policyCommands,
  ...sessionCommands,
  ...keyCommands,
  ...backupCommands,
  ...databaseCommands,
  ...auditCommands,
  ...importCommands,
];
