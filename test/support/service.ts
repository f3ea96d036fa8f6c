/**
 * The whole service in this process, on a port and a data directory of its own, with what is needed to talk to it: the
 * vendor's client, a signer that none of our code has a part in, and sockets to send anything at all. Everything is
 * closed and gone when the test ends.
 */
import { readFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { Sha256 } from '@aws-crypto/sha256-js';
import { NimbleClient } from '@aws-sdk/client-nimble';
import { SignatureV4 } from '@smithy/signature-v4';
import { readConfig } from '../../src/config.ts';
import { createService, type Overrides, type Service } from '../../src/service.ts';
import { SETTINGS, type Settings } from '../../src/settings.ts';
import { type Answer, bytesOf, Connection, exchange, type Message } from './connection.ts';
import { type Owner, temporaryDirectory } from './temporary.ts';

export interface AccessKeyPair {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** A request before it is signed. */
export interface Draft {
  readonly method?: string;
  /** As on the wire: already percent-encoded. */
  readonly path: string;
  /** Decoded; a list repeats its key. */
  readonly query?: Readonly<Record<string, string | string[]>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Bytes or text as they are; anything else is sent as JSON. */
  readonly body?: unknown;
}

/** Who signs, when, and for what. */
export interface Signing {
  readonly credentials?: AccessKeyPair;
  readonly at?: Date;
  readonly region?: string;
  readonly service?: string;
}

export interface TestService {
  readonly service: Service;
  readonly url: string;
  readonly port: number;
  readonly region: string;
  /** Of the administrator, from the file that the first start wrote. */
  readonly credentials: AccessKeyPair;
  /** The vendor's client, for this service, without retries. */
  readonly client: NimbleClient;
  sign(draft: Draft, signing?: Signing): Promise<Message>;
  /** As `sign`, with the credentials in the query. */
  presign(draft: Draft, signing?: Signing): Promise<Message>;
  connect(options?: { allowHalfOpen?: boolean }): Promise<Connection>;
  send(message: Message): Promise<Answer>;
  /** Signs and sends. */
  call(draft: Draft, signing?: Signing): Promise<Answer>;
  /** Every row of every table but the audit, as a line, to be compared with what is there later. */
  snapshot(): string[];
}

interface Options {
  readonly settings?: Partial<Record<keyof Settings, string>>;
  readonly overrides?: Overrides;
}

export async function startService(t: Owner, { settings = {}, overrides = {} }: Options = {}): Promise<TestService> {
  const closers: (() => unknown)[] = [];
  t.after(async () => {
    for (const close of closers.reverse()) await close();
  });
  const chosen = { dataDir: temporaryDirectory(t), port: '0', logLevel: 'silent', compute: 'simulated', ...settings };
  const variables = Object.entries(chosen).map(([name, value]) => [SETTINGS[name as keyof Settings].env, value]);
  const service = await createService(readConfig(Object.fromEntries(variables)), overrides);
  closers.push(() => service.close());
  const url = await service.listen();
  const port = Number(new URL(url).port);
  const { region } = service.parts.config;
  const credentials = readCredentials(service.parts.directory.credentials);
  const client = new NimbleClient({ endpoint: url, region, credentials, maxAttempts: 1 });
  closers.push(() => client.destroy());

  const signer = ({ credentials: by = credentials, region: scope = region, service: name = 'nimble' }: Signing) =>
    new SignatureV4({ service: name, region: scope, credentials: by, sha256: Sha256 });
  const requestOf = (draft: Draft) => unsigned(draft, `127.0.0.1:${port}`);
  const messageOf = (signed: SignedParts, draft: Draft): Message => ({
    method: signed.method,
    target: targetOf(signed),
    headers: Object.entries(signed.headers),
    body: bodyOf(draft),
  });
  const sign = async (draft: Draft, signing: Signing = {}) =>
    messageOf(await signer(signing).sign(requestOf(draft), { signingDate: signing.at ?? new Date() }), draft);
  const send = (message: Message) => exchange(port, bytesOf(message), { toHead: message.method === 'HEAD' });
  return {
    service,
    url,
    port,
    region,
    credentials,
    client,
    sign,
    presign: async (draft, signing = {}) =>
      messageOf(await signer(signing).presign(requestOf(draft), { signingDate: signing.at ?? new Date() }), draft),
    connect: async (options) => {
      const connection = await Connection.open(port, options);
      closers.push(() => connection.destroy());
      return connection;
    },
    send,
    call: async (draft, signing) => send(await sign(draft, signing)),
    snapshot: () => dump(service.parts.directory.database),
  };
}

function readCredentials(path: string): AccessKeyPair {
  const text = readFileSync(path, 'utf8');
  const entry = (name: string) => new RegExp(`^${name} = (.+)$`, 'm').exec(text)![1]!;
  return { accessKeyId: entry('aws_access_key_id'), secretAccessKey: entry('aws_secret_access_key') };
}

type SignedParts = Awaited<ReturnType<SignatureV4['sign']>>;

function unsigned(draft: Draft, host: string) {
  const body = bodyOf(draft);
  const contentType = body.length > 0 ? { 'content-type': 'application/json' } : {};
  return {
    method: draft.method ?? 'GET',
    protocol: 'http:',
    hostname: '127.0.0.1',
    path: draft.path,
    query: { ...draft.query },
    headers: { host, ...contentType, ...draft.headers },
    body,
  };
}

function bodyOf({ body }: Draft): Buffer {
  if (body === undefined) return Buffer.alloc(0);
  if (Buffer.isBuffer(body)) return body;
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

function targetOf({ path, query = {} }: SignedParts): string {
  const pairs = Object.entries(query).flatMap(([name, values]) =>
    [values ?? ''].flat().map((value) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`),
  );
  return pairs.length === 0 ? path : `${path}?${pairs.join('&')}`;
}

function dump(database: string): string[] {
  const reader = new DatabaseSync(database, { readOnly: true });
  try {
    const tables = reader
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'audit' ORDER BY name")
      .all();
    return tables.flatMap(({ name }) =>
      reader
        .prepare(`SELECT * FROM "${name}" ORDER BY 1, 2`)
        .all()
        .map((row) => `${name}: ${JSON.stringify(row)}`),
    );
  } finally {
    reader.close();
  }
}
