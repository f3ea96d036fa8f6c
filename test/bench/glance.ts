/** The same questions to OpenStack Glance, the image registry of OpenStack, where one runs without authentication. */
import { burst, type LoadRequest } from './load.ts';

const IMAGES = 100;
/** Keeps every worker of a usual Glance busy; with more, lists of 100 wait longer than the 2 s that wrk does. */
export const MOST_CONNECTIONS = 8;

export async function measureGlance(
  url: string,
  options: { directory: string; connections: number; seconds: number; core: string },
): Promise<[string, number][]> {
  const ids: string[] = [];
  for (let index = 0; index < IMAGES; index += 1) {
    const response = await fetch(`${url}/v2/images`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: `Workstation ${index}`, disk_format: 'qcow2', container_format: 'bare' }),
    });
    ids.push(((await response.json()) as { id: string }).id);
  }
  const id = (serial: number) => ids[serial % ids.length]!;
  const patch = JSON.stringify([{ op: 'replace', path: '/name', value: 'Renamed' }]);
  const cases: [string, (serial: number) => LoadRequest & { contentType?: string }][] = [
    ['Get', (serial) => ({ method: 'GET', path: `/v2/images/${id(serial)}` })],
    ['List 100', () => ({ method: 'GET', path: '/v2/images', query: 'limit=100' })],
    [
      'Update',
      (serial) => ({
        method: 'PATCH',
        path: `/v2/images/${id(serial)}`,
        body: patch,
        contentType: 'application/openstack-images-v2.1-json-patch',
      }),
    ],
  ];
  const connections = Math.min(options.connections, MOST_CONNECTIONS);
  const results: [string, number][] = [];
  for (const [name, make] of cases) {
    const requests = Array.from({ length: IMAGES }, (_, serial) => plain(url, make(serial)));
    results.push([name, (await burst(url, requests, { ...options, connections })).perSecond]);
  }
  return results;
}

function plain(
  url: string,
  { method, path, query, body, contentType }: LoadRequest & { contentType?: string },
): string {
  const lines = [`${method} ${path}${query ? `?${query}` : ''} HTTP/1.1`, `host: ${new URL(url).host}`];
  if (body) lines.push(`content-type: ${contentType}`, `content-length: ${Buffer.byteLength(body)}`);
  return `${lines.join('\r\n')}\r\n\r\n${body ?? ''}`;
}
