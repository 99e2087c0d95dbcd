/** The folder of the embedded profile: the file, and the secret that seals the task ids of that file. */
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Millis } from '../coupon.ts';
import { Refused } from '../errors.ts';
import { secretLengthMin } from '../limits.ts';
import { acquireLock } from '../sqlite/lock.ts';

/** @throws Refused */
export function makeFolder(path: string): void {
  try {
    makeWithParents(path);
  } catch (error) {
    throw new Refused(
      `--data ${path} (DIBS_DATA) cannot be made (${codeOf(error)}): give a folder that this user may write`,
    );
  }
}

/** mkdir's own `recursive` never returns in a folder that was deleted, nor in /proc. */
function makeWithParents(path: string): void {
  const parent = dirname(path);
  if (parent !== path && !isFolder(parent)) makeWithParents(parent);
  try {
    mkdirSync(path);
  } catch (error) {
    if (!isFolder(path)) throw error;
  }
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/**
 * The secret beside the file at `path`: made once, ahead of the file, by the one process that holds the file's lock.
 * @throws Refused
 */
export function keptSecret(path: string, where: string, since: Millis): string {
  makeFolder(dirname(path));
  return readSecret(path) ?? makeSecret(path, where, since);
}

/** Undefined when none is there, or one that was cut short, and nothing was sealed with it. */
function readSecret(path: string): string | undefined {
  const file = secretOf(path);
  let text: string | undefined;
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') {
      throw new Refused(`${file} cannot be read (${codeOf(error)}): let this user read it, or set DIBS_SECRET`);
    }
  }
  if (text !== undefined && text.length >= secretLengthMin) return text;
  if (!existsSync(path)) return undefined;
  const lost =
    text === undefined
      ? `is gone, and ${basename(path)} was made with it: bring it back`
      : 'is cut short: bring it back';
  throw new Refused(`${file} ${lost}, or set DIBS_SECRET to what it was`);
}

function makeSecret(path: string, where: string, since: Millis): string {
  const lock = acquireLock(path, where, since);
  try {
    // Another process may have made it until we got the lock.
    const made = readSecret(path);
    if (made !== undefined) return made;
    const secret = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url');
    writeWhole(secretOf(path), `${secret}\n`);
    return secret;
  } finally {
    lock.close();
  }
}

/** A disk that is full, or a power cut, leaves no half of it. */
function writeWhole(file: string, text: string): void {
  try {
    writeFileSync(`${file}.new`, text, { mode: 0o600, flush: true });
    renameSync(`${file}.new`, file);
  } catch (error) {
    throw new Refused(
      `${file} cannot be written (${codeOf(error)}): make room, or give a --data that this user may write`,
    );
  }
}

const secretOf = (path: string): string => join(dirname(path), 'secret');

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;
