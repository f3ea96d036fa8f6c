/**
 * Backlot with a session whose desktop is at the socket that the arguments name, and with streams whose tickets are known:
 * `node stream-server.ts SOCKET STREAMS`. It prints the ids of the streams, one a line, when it listens.
 */
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Workstation } from '../../src/compute/compute.ts';
import { readConfig } from '../../src/config.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { createService } from '../../src/service.ts';

const HOUR_MS = 3_600_000;

export const ticketOf = (index: number) => String(index).padStart(43, 'T');

async function main(path: string, streams: number): Promise<void> {
  const open = async () => ({
    connect: async () => {
      const connection = connect(path);
      await once(connection, 'connect');
      return connection;
    },
  });
  const there: Workstation[] = [];
  const list = async () => there;
  const service = await createService(readConfig(), { compute: (chosen) => ({ ...chosen, open, list }) });
  const { store, ids, clock } = service.parts;
  const now = clock.now();
  const common = { studioId: 'studio', createdAt: now, dueAt: now + HOUR_MS, state: 'READY' };
  const streamConfiguration = {
    clipboardMode: 'ENABLED',
    ec2InstanceTypes: ['g5.xlarge'],
    streamingImageIds: ['none'],
  };
  const doc = JSON.stringify({ streamConfiguration });
  const profile = newRow({ ...common, kind: KIND.launchProfile, id: ids.short(), dueAt: null, doc });
  const session = newRow({
    ...common,
    kind: KIND.streamingSession,
    id: ids.short(),
    parentId: profile.id,
    ownerId: 'owner',
    doc: '{}',
  });
  there.push({ id: session.id, running: true, hasVolume: true, backupIds: [], changedAt: now });
  const rows = Array.from({ length: streams }, (_, index) => {
    const secret = { expiresAt: now + HOUR_MS, ticketSha256: hash('sha256', ticketOf(index)) };
    const said = JSON.stringify({ createdBy: 'owner', state: 'READY', statusCode: 'STREAM_READY' });
    return newRow({
      ...common,
      kind: KIND.streamingSessionStream,
      id: ids.short(),
      parentId: session.id,
      ownerId: 'owner',
      doc: said,
      private: JSON.stringify(secret),
    });
  });
  await store.write([profile, session, ...rows].map((row) => ({ op: 'insert', row })));
  await service.listen();
  process.stdout.write(`${rows.map(({ id }) => id).join('\n')}\n`);
}

if (import.meta.main) await main(process.argv[2]!, Number(process.argv[3]));
