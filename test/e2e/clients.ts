/**
 * Clients that nobody here wrote, pointed at a server: the JavaScript SDK in this process, Debian's AWS CLI and boto3 in
 * processes of their own. They are given the address and the credentials file of the first start, and nothing else.
 */
import { readFileSync } from 'node:fs';
import { NimbleClient, type NimbleClientConfig } from '@aws-sdk/client-nimble';
import type { Finished, Installation, Running, RunningServer, Scope } from './installation.ts';

/** Debian's own, whatever else is on the path. */
const AWS_CLI = '/usr/bin/aws';
const PYTHON = '/usr/bin/python3';

export interface Profile {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly region: string;
}

/** The default profile of a file in the format of AWS's tools. */
export function readProfile(path: string): Profile {
  const text = readFileSync(path, 'utf8');
  const value = (name: string) => new RegExp(`^${name} = (.+)$`, 'm').exec(text)![1]!;
  return {
    accessKeyId: value('aws_access_key_id'),
    secretAccessKey: value('aws_secret_access_key'),
    region: value('region'),
  };
}

/** A client of the JavaScript SDK that is closed when the test ends. */
export function sdkClient(
  scope: Scope,
  { credentials }: Pick<Installation, 'credentials'>,
  { url }: Pick<RunningServer, 'url'>,
  options: NimbleClientConfig = {},
): NimbleClient {
  const { region, ...keys } = readProfile(credentials);
  const client = new NimbleClient({ endpoint: url, region, credentials: keys, ...options });
  scope.after(async () => client.destroy());
  return client;
}

/** Where the AWS CLI and boto3 run, and the credentials that they are given. */
export type Home = Pick<Installation, 'credentials' | 'run'>;

/** How they find their credentials, as the README says. */
function clientEnvironment({ credentials }: Pick<Home, 'credentials'>): Record<string, string> {
  return { AWS_SHARED_CREDENTIALS_FILE: credentials };
}

/** Runs `aws nimble ...`. */
export function awsCli(
  home: Home,
  { url }: Pick<RunningServer, 'url'>,
  words: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Finished> {
  return home.run([AWS_CLI, 'nimble', ...words, '--endpoint-url', url], {
    environment: { ...clientEnvironment(home), ...environment },
  });
}

/** Starts a Python script that finds the server's address in ENDPOINT_URL, and may be told what to do. */
export function startPython(
  home: Pick<Installation, 'credentials' | 'spawn'>,
  { url }: Pick<RunningServer, 'url'>,
  script: string,
  environment: Readonly<Record<string, string>> = {},
): Running {
  const given = { ...clientEnvironment(home), ENDPOINT_URL: url, PYTHONDONTWRITEBYTECODE: '1', ...environment };
  return home.spawn([PYTHON, script], { environment: given, told: true });
}

/** Runs a Python script that finds the server's address in ENDPOINT_URL. */
export function python(
  home: Home,
  { url }: Pick<RunningServer, 'url'>,
  script: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<Finished> {
  return home.run([PYTHON, script], {
    environment: {
      ...clientEnvironment(home),
      ENDPOINT_URL: url,
      PYTHONDONTWRITEBYTECODE: '1',
      ...environment,
    },
  });
}
