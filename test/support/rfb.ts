/** The least of a viewer: greets a display as RFC 6143 has it, without a password, and asks it for a picture. */
import type { Duplex } from 'node:stream';
import { until } from './until.ts';

const SHARED = 1;
const NO_SECURITY = 1;
const WHOLE_PICTURE = 0;
const UPDATE_REQUEST = 3;
const UPDATE = 0;

export interface SeenDesktop {
  readonly name: string;
  readonly width: number;
  readonly height: number;
}

/** Sections 7.1 to 7.3. The connection is for this alone. */
export async function greetDesktop(connection: Duplex): Promise<SeenDesktop> {
  const take = reader(connection);
  const version = (await take(12)).toString('latin1');
  if (version !== 'RFB 003.008\n') throw new Error(`it greets with ${version}`);
  connection.write(version);
  const offered = await take((await take(1))[0]!);
  if (!offered.includes(NO_SECURITY)) throw new Error(`it asks for one of ${[...offered]}`);
  connection.write(Buffer.from([NO_SECURITY]));
  if ((await take(4)).readUInt32BE() !== 0) throw new Error('it refuses');
  connection.write(Buffer.from([SHARED]));
  const init = await take(24);
  const name = (await take(init.readUInt32BE(20))).toString();
  const [width, height] = [init.readUInt16BE(0), init.readUInt16BE(2)];
  await requirePicture(connection, take, width, height);
  return { name, width, height };
}

/** Sections 7.5.3 and 7.6.1: the picture begins to arrive. */
async function requirePicture(connection: Duplex, take: Take, width: number, height: number): Promise<void> {
  const request = Buffer.alloc(10);
  request.writeUInt8(UPDATE_REQUEST, 0);
  request.writeUInt8(WHOLE_PICTURE, 1);
  request.writeUInt16BE(width, 6);
  request.writeUInt16BE(height, 8);
  connection.write(request);
  const [type] = await take(4);
  if (type !== UPDATE) throw new Error(`it answers with a message of type ${type}`);
  await take(12);
}

type Take = (length: number) => Promise<Buffer>;

function reader(connection: Duplex): Take {
  let held = Buffer.alloc(0);
  connection.on('data', (chunk: Buffer) => {
    held = Buffer.concat([held, chunk]);
  });
  return async (length) => {
    await until(`${length} bytes of the display`, () => held.length >= length);
    const taken = held.subarray(0, length);
    held = held.subarray(length);
    return taken;
  };
}
