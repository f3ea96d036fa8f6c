/**
 * What a workstation on QEMU costs beside the same machine started by hand: the time from the call that asks for one to its
 * first picture in an artist's browser, and its memory. The whole product is measured as it is used: a server in a process
 * of its own, the vendor's client, and a Chromium that is open already. The two take turns, and never run side by side.
 */
import { join } from 'node:path';
import {
  CreateStreamingSessionCommand,
  DeleteStreamingSessionCommand,
  type NimbleClient,
  type StreamingImage,
  type StreamingSession,
} from '@aws-sdk/client-nimble';
import type { BrowserContext, Page } from 'playwright-core';
import {
  createImage,
  type NamedSession,
  openStream,
  readyLaunchProfile,
  readyStudio,
  settledImage,
  settledSession,
} from '../e2e/api.ts';
import { openBrowser, showsPicture } from '../e2e/browser.ts';
import { sdkClient } from '../e2e/clients.ts';
import { Installation } from '../e2e/installation.ts';
import { statusOf } from '../support/qemu-bench.ts';
import { type Owner, temporaryDirectory } from '../support/temporary.ts';
import { tinyImage } from '../support/tiny-image.ts';
import { until } from '../support/until.ts';
import { startByHand } from './by-hand.ts';
import { median } from './load.ts';

export interface WorkstationCosts {
  /** From the call until the session was seen to be READY. */
  readonly readyMs: number;
  /** From there until the picture was in the browser. */
  readonly pictureMs: number;
  readonly byHandMs: number;
  /** Of each round. */
  readonly ratios: readonly number[];
  /** Their median. */
  readonly ratio: number;
  readonly guestMib: number;
  /** Resident, of QEMU. */
  readonly residentMib: number;
}

type Started = Pick<WorkstationCosts, 'readyMs' | 'pictureMs' | 'residentMib'>;

const GUEST_MIB = 192;
const INSTANCE_TYPE = 'g4dn.xlarge';

export async function measureWorkstations(rounds: number): Promise<WorkstationCosts> {
  await using cleanings = new AsyncDisposableStack();
  const owner: Owner = { after: (clean) => cleanings.defer(clean) };
  const desk = await furnish(owner);
  const directory = temporaryDirectory(owner);
  const byHand: number[] = [];
  const ours: Started[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    byHand.push(await startByHand(join(directory, String(round)), GUEST_MIB));
    ours.push(await startOurs(desk));
  }
  const ratios = ours.map(({ readyMs, pictureMs }, index) => (readyMs + pictureMs) / byHand[index]!);
  return {
    readyMs: median(ours.map(({ readyMs }) => readyMs)),
    pictureMs: median(ours.map(({ pictureMs }) => pictureMs)),
    byHandMs: median(byHand),
    ratios,
    ratio: median(ratios),
    guestMib: GUEST_MIB,
    residentMib: Math.max(...ours.map(({ residentMib }) => residentMib)),
  };
}

/** What is there before an artist's day begins. */
interface Desk {
  readonly installation: Installation;
  readonly client: NimbleClient;
  readonly context: BrowserContext;
  readonly studioId: string;
  readonly launchProfileId: string;
}

async function furnish(owner: Owner): Promise<Desk> {
  const installation = new Installation(owner, {
    BACKLOT_COMPUTE: 'qemu',
    BACKLOT_COMPUTE_ACCELERATOR: 'tcg',
    BACKLOT_INSTANCE_TYPES: `${INSTANCE_TYPE}=1:${GUEST_MIB}`,
  });
  const client = sdkClient(owner, installation, await installation.start());
  const studioId = await readyStudio(client, 'film');
  const words = ['machine-image', 'import', await tinyImage(), '--platform', 'LINUX'];
  const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words);
  const imageId = await createImage(client, studioId, ec2ImageId);
  requireState('READY', await settledImage(client, studioId, imageId));
  const launchProfileId = await readyLaunchProfile(client, studioId, imageId, {
    clipboardMode: 'DISABLED',
    ec2InstanceTypes: [INSTANCE_TYPE],
  });
  const { context } = await openBrowser(owner);
  return { installation, client, context, studioId, launchProfileId };
}

/** One session, from the call to the picture; it is gone when this ends. */
async function startOurs({ installation, client, context, studioId, launchProfileId }: Desk): Promise<Started> {
  const page = await context.newPage();
  const calledAt = performance.now();
  const { session } = await client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId }));
  const named = { studioId, sessionId: session!.sessionId! };
  requireState('READY', await settledSession(client, named));
  const readyAt = performance.now();
  await look(page, await openStream(client, named));
  const seenAt = performance.now();
  const residentMib = residentOf(installation.machineOf(named.sessionId)!);
  await page.close();
  await remove(client, named);
  return { readyMs: readyAt - calledAt, pictureMs: seenAt - readyAt, residentMib };
}

async function look(page: Page, url: string): Promise<void> {
  await page.goto(url);
  await until('the page shows a picture', () => showsPicture(page));
}

async function remove(client: NimbleClient, named: NamedSession): Promise<void> {
  await client.send(new DeleteStreamingSessionCommand(named));
  requireState('DELETED', await settledSession(client, named));
}

/** What failed is no measurement. */
function requireState(wanted: string, { state, statusMessage }: StreamingImage | StreamingSession): void {
  if (state !== wanted) throw new Error(`it is ${state}: ${statusMessage}`);
}

function residentOf(pid: number): number {
  return Number.parseInt(statusOf(pid, 'VmRSS')!, 10) / 1_024;
}
