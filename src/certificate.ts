/**
 * The server's own certificate for TLS, read from the two files that the settings name, at the start and whenever it is
 * renewed. What cannot serve (a file that is not there, a key of another certificate, a key that everybody may read) is
 * refused in one line that names the setting and the file, before anything of it is used. A certificate that has run out
 * is served all the same, and told of: to refuse it would turn the warnings of clients into an outage.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import { reasonOf, StartError } from './data-directory.ts';
import { isSystemError } from './files.ts';
import type { Log } from './log.ts';
import { SETTINGS } from './settings.ts';
import type { Certificate } from './wire/server.ts';

const CERTIFICATE = SETTINGS.tlsCertFile.env;
const KEY = SETTINGS.tlsKeyFile.env;
/** Anybody on the machine; a group such as Debian's `ssl-cert` may be let in. */
const EVERYBODY_MODE = 0o007;
/** Far more than a chain of certificates needs. */
const FILE_BYTES_MAX = 1024 * 1024;

/** Undefined when none is set. @throws StartError */
export function readCertificate({ tlsCertFile, tlsKeyFile }: Config): Certificate | undefined {
  if (tlsCertFile === undefined && tlsKeyFile === undefined) return undefined;
  if (tlsCertFile === undefined) throw new StartError(`${KEY} is set and ${CERTIFICATE} is not: set both, or neither`);
  if (tlsKeyFile === undefined) throw new StartError(`${CERTIFICATE} is set and ${KEY} is not: set both, or neither`);
  const cert = readPem(CERTIFICATE, tlsCertFile);
  const key = readPem(KEY, tlsKeyFile);
  requireSecret(tlsKeyFile);
  const leaf = parsedCertificate(cert, tlsCertFile);
  if (!leaf.checkPrivateKey(parsedKey(key, tlsKeyFile)))
    throw new StartError(`The key in ${tlsKeyFile} (${KEY}) is not that of the first certificate in ${tlsCertFile}`);
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw new StartError(`The certificate in ${tlsCertFile} (${CERTIFICATE}) cannot be used: ${reasonOf(error)}`);
  }
  return { cert, key, validFrom: Date.parse(leaf.validFrom), validTo: Date.parse(leaf.validTo) };
}

/** Says in the log until when the certificate is good, or that it is not. */
export function tellOfCertificate({ validFrom, validTo }: Certificate, { now }: Clock, log: Log): void {
  const period = { validFrom: new Date(validFrom).toISOString(), validTo: new Date(validTo).toISOString() };
  if (now() < validFrom || now() > validTo)
    log.warn(period, 'the TLS certificate is not valid at this time; clients will refuse it');
  else log.info(period, 'the TLS certificate is in use');
}

function readPem(setting: string, file: string): Buffer {
  try {
    const { size } = statSync(file);
    if (size > FILE_BYTES_MAX) throw new Error(`it has ${size} bytes, more than any certificate`);
    return readFileSync(file);
  } catch (error) {
    const reason = isSystemError(error, 'ENOENT', 'ENOTDIR') ? 'it does not exist' : reasonOf(error);
    throw new StartError(`The file ${file} (${setting}) cannot be read: ${reason}`);
  }
}

function requireSecret(file: string): void {
  const mode = statSync(file).mode & 0o777;
  if ((mode & EVERYBODY_MODE) === 0) return;
  throw new StartError(
    `The key ${file} (${KEY}) is within reach of everybody on this machine (mode ${mode.toString(8)}): ` +
      'find out who may have read it, then run chmod 600 on it',
  );
}

function parsedCertificate(pem: Buffer, file: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw new StartError(`The file ${file} (${CERTIFICATE}) does not begin with a certificate in PEM form`);
  }
}

function parsedKey(pem: Buffer, file: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    const locked = isSystemError(error, 'ERR_MISSING_PASSPHRASE') || /ENCRYPTED/.test(pem.toString('latin1'));
    const problem = locked ? 'is locked by a passphrase: write it out without one' : 'holds no private key in PEM form';
    throw new StartError(`The file ${file} (${KEY}) ${problem}`);
  }
}
