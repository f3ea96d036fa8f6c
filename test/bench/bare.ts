/** The bare limit: node:http answering fixed bytes. Its answer is set by `POST /set` with the body to answer with. */
import { createServer } from 'node:http';

let answer = Buffer.from('{}');
const server = createServer((request, response) => {
  const reply = () => {
    response.writeHead(200, [
      'Content-Type',
      'application/json',
      'Content-Length',
      `${answer.length}`,
      'x-amzn-RequestId',
      '00000000-0000-4000-8000-000000000000',
    ]);
    response.end(answer);
  };
  if (request.method === 'GET') return reply();
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    if (request.url === '/set') answer = Buffer.concat(chunks);
    reply();
  });
});
server.listen(Number(process.argv[2]), '127.0.0.1', () => process.stdout.write('ready\n'));
