/**
 * What the text of a setting may be, and the value it stands for: one function for each kind of value. None of them knows
 * a setting, throws, or names the text that it refuses, which may be a password.
 */
import { resolve } from 'node:path';
import { type InstanceTypes, parseInstanceTypes } from './compute/instance-types.ts';
import { STREAMING_SESSION_FAILURES, type StreamingSessionFailure } from './contract/streaming-session.ts';

/** The value, or a sentence fragment that says what it must be. */
export type Parsed<T> = { readonly value: T } | { readonly must: string };
export type Parse<T> = (text: string) => Parsed<T>;

/** A whole number between two others, times `unit`. */
export function whole(min: number, max: number, unit = 1): Parse<number> {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return { value: value * unit };
    return { must: `be a whole number from ${min} to ${max}` };
  };
}

/** A number between two others, times `unit`; fractions are fine. */
export function amount(min: number, max: number, unit: number): Parse<number> {
  return (text) => {
    const value = /^\d{1,9}(\.\d{1,6})?$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return { value: Math.round(value * unit) };
    return { must: `be a number from ${min} to ${max}` };
  };
}

/** Text of this form. */
export function matching(pattern: RegExp, must: string): Parse<string> {
  return (text) => (pattern.test(text) ? { value: text } : { must });
}

/** One of these words. */
export function oneOf<const T extends string>(words: readonly T[]): Parse<T> {
  return (text) => {
    const value = words.find((word) => word === text);
    return value === undefined ? { must: `be one of ${words.join(', ')}` } : { value };
  };
}

/** Empty, or what another setting of this kind may be. */
export function optional<T>(parse: Parse<T>): Parse<T | undefined> {
  return (text) => (text === '' ? { value: undefined } : parse(text));
}

/** Whether it is on. */
export function parseOnOrOff(text: string): Parsed<boolean> {
  return text === 'on' || text === 'off' ? { value: text === 'on' } : { must: 'be on or off' };
}

/** Instance types and their sizes. */
export function parseTypes(text: string): Parsed<InstanceTypes> {
  const value = parseInstanceTypes(text);
  return value ? { value } : { must: 'look like g4dn.xlarge=2:4096,g5.xlarge=4:8192: processors, and memory in MiB' };
}

/** Empty, or a status code that a start can fail with. */
export function parseSimulatedFailure(text: string): Parsed<StreamingSessionFailure | undefined> {
  const value = STREAMING_SESSION_FAILURES.find((code) => code === text);
  return text === '' || value ? { value } : { must: `be empty or one of ${STREAMING_SESSION_FAILURES.join(', ')}` };
}

/** A host may be the directory of a socket: postgres:///database?host=/run/postgresql */
export function parseDatabaseUrl(text: string): Parsed<string | undefined> {
  if (text === '') return { value: undefined };
  const must =
    'be an address such as postgresql://user:password@host:5432/database, where what is no letter and no digit of the ' +
    'password is percent-encoded';
  if (!URL.canParse(text)) return { must };
  const { protocol, hostname, pathname, searchParams } = new URL(text);
  if (!/^postgres(ql)?:$/.test(protocol) || !/^\/[^/]+$/.test(pathname) || !(hostname || searchParams.get('host')))
    return { must };
  return { value: text };
}

/** As its origin, which ends in no slash. */
export function parsePublicUrl(text: string): Parsed<string | undefined> {
  if (text === '') return { value: undefined };
  const must = 'be an http:// or https:// address without a path, for example https://backlot.example.org';
  if (!URL.canParse(text)) return { must };
  const url = new URL(text);
  if (!/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search || url.hash || url.username)
    return { must };
  return { value: url.origin };
}

/** As an absolute path. */
export function parseDirectory(text: string): Parsed<string> {
  return text === '' ? { must: 'be a directory' } : { value: resolve(text) };
}

/** As an absolute path. */
export function parseFile(text: string): Parsed<string | undefined> {
  if (text === '') return { value: undefined };
  return text.endsWith('/') ? { must: 'be a file' } : { value: resolve(text) };
}
