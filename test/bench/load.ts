/**
 * Drives HTTP servers with wrk and reads what it measured. Requests are signed beforehand, so that the load costs the same
 * for every server; each worker goes through its list once and starts over only when it is used up.
 */
import { execFile } from 'node:child_process';
import { createHash, createHmac } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface LoadRequest {
  readonly method: string;
  readonly path: string;
  readonly query?: string;
  readonly body?: string;
  readonly clientToken?: string;
}

/** Complete HTTP requests as the real JavaScript client sends them, signed for now. */
export function signer(host: string, region: string, { accessKeyId, secretAccessKey }: Credentials) {
  const timestamp = new Date().toISOString().replace(/[-:]|\.\d{3}/g, '');
  const date = timestamp.slice(0, 8);
  const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest();
  const key = ['nimble', 'aws4_request'].reduce(hmac, hmac(hmac(`AWS4${secretAccessKey}`, date), region));
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
  const scope = `${date}/${region}/nimble/aws4_request`;
  return ({ method, path, query = '', body = '', clientToken }: LoadRequest): string => {
    const payloadHash = sha256(body);
    const headers: [string, string][] = [
      ['amz-sdk-invocation-id', '7b2c0f0e-3c0d-4f0e-8f0e-0f0e3c0d4f0e'],
      ['amz-sdk-request', 'attempt=1; max=3'],
      ...(body ? [['content-type', 'application/json'] as [string, string]] : []),
      ['host', host],
      ...(clientToken ? [['x-amz-client-token', clientToken] as [string, string]] : []),
      ['x-amz-content-sha256', payloadHash],
      ['x-amz-date', timestamp],
      ['x-amz-user-agent', 'aws-sdk-js/3.523.0'],
    ];
    const signedHeaders = headers.map(([name]) => name).join(';');
    const canonical = [
      method,
      path.split('/').map(encodeURIComponent).join('/'),
      query,
      ...headers.map(([name, value]) => `${name}:${value}`),
      '',
      signedHeaders,
      payloadHash,
    ].join('\n');
    const toSign = ['AWS4-HMAC-SHA256', timestamp, scope, sha256(canonical)].join('\n');
    const signature = hmac(key, toSign).toString('hex');
    const authorization = `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`;
    const lines = [
      `${method} ${path}${query ? `?${query}` : ''} HTTP/1.1`,
      ...headers.map(([name, value]) => `${name}: ${value}`),
      `authorization: ${authorization}`,
      'user-agent: aws-sdk-js/3.523.0 ua/2.0 os/linux lang/js md/nodejs#20.20.2 api/nimble#3.523.0',
      ...(body ? [`content-length: ${Buffer.byteLength(body)}`] : []),
    ];
    return `${lines.join('\r\n')}\r\n\r\n${body}`;
  };
}

export interface Measured {
  readonly perSecond: number;
  readonly medianMs: number;
  readonly p99Ms: number;
}

/** Lua for wrk: hands out the requests of a file one after the other, and refuses to measure failures. */
const SCRIPT = `
local requests = {}
for line in io.lines(os.getenv("BENCH_REQUESTS")) do
  requests[#requests + 1] = line:gsub("\\\\r", "\\r"):gsub("\\\\n", "\\n")
end
local at = 0
request = function() at = at % #requests + 1; return requests[at] end
local failures = 0
response = function(status) if status >= 300 then failures = failures + 1; wrk.thread:set("failures", failures) end end
local threads = {}
setup = function(thread) threads[#threads + 1] = thread end
done = function(summary, latency)
  local failed = 0
  for _, thread in ipairs(threads) do failed = failed + (thread:get("failures") or 0) end
  io.stderr:write(string.format('{"requests":%d,"us":%d,"p50":%d,"p99":%d,"failed":%d,"errors":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
`;

/** One burst of wrk on its own core. @throws when a request failed: a failure must not count as fast. */
export async function burst(
  url: string,
  requests: readonly string[],
  options: {
    readonly directory: string;
    readonly connections: number;
    readonly seconds: number;
    readonly core: string;
  },
): Promise<Measured> {
  const script = join(options.directory, 'load.lua');
  const list = join(options.directory, 'requests.txt');
  writeFileSync(script, SCRIPT);
  writeFileSync(list, requests.map((text) => text.replaceAll('\r', '\\r').replaceAll('\n', '\\n')).join('\n'));
  const args = [
    '-c',
    options.core,
    'wrk',
    '-t1',
    `-c${options.connections}`,
    `-d${options.seconds}s`,
    '-s',
    script,
    url,
  ];
  const { stderr } = await run('taskset', args, { env: { ...process.env, BENCH_REQUESTS: list } });
  const result = JSON.parse(stderr.trim().split('\n').at(-1)!) as Record<
    'requests' | 'us' | 'p50' | 'p99' | 'failed' | 'errors',
    number
  >;
  if (result.failed + result.errors > 0) throw new Error(`${url}: ${result.failed} refused, ${result.errors} broken`);
  return { perSecond: (result.requests / result.us) * 1e6, medianMs: result.p50 / 1000, p99Ms: result.p99 / 1000 };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
