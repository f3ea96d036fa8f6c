/** A server of its own process that looks for work by itself once an hour: what it does sooner, it was told of. */
import { readConfig } from '../../src/config.ts';
import { createService } from '../../src/service.ts';

const service = await createService(readConfig(), { pollMs: 3_600_000 });
process.once('SIGTERM', () => void service.close());
process.stdout.write(`${await service.listen()}\n`);
