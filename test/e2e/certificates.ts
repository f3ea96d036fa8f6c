/** Certificates that sign themselves, made by the real openssl: what a client has to be told of before it trusts them. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

/** Makes a certificate for this machine, good for two days. Its key is for its owner alone. */
export async function makeCertificate(directory: string, name: string): Promise<CertificateFiles> {
  const [cert, key] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc'];
  const names = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'];
  await run('openssl', ['req', ...kind, ...names, '-days', '2', '-out', cert, '-keyout', key]);
  return { cert, key };
}

/** One of the same key that ran out yesterday. */
export async function expired({ cert, key }: CertificateFiles): Promise<CertificateFiles> {
  await run('openssl', ['x509', '-in', cert, '-signkey', key, '-days', '-1', '-out', `${cert}.expired`]);
  return { cert: `${cert}.expired`, key };
}

/** The same key, locked by a passphrase. */
export async function lockedKey({ key }: CertificateFiles): Promise<string> {
  const locked = `${key}.locked`;
  await run('openssl', ['pkey', '-in', key, '-aes256', '-passout', 'pass:secret', '-out', locked]);
  return locked;
}

/** Asks for an address in plain words, by a client that trusts this certificate. */
export function getTrusting(url: string, { cert }: CertificateFiles): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { ca: readFileSync(cert) }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      });
      answer.on('end', () => resolve({ status: answer.statusCode!, text }));
    });
    asked.on('error', reject).end();
  });
}
