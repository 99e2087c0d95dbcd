/** Exceptions are for broken promises. What a user may meet in the normal course is an outcome, not an error. */

/** The log surely does not hold the entries. */
export class NotAccepted extends Error {
  override name = 'NotAccepted';
}

/** The log did not say whether it holds the entries; asking again with the same key is safe. */
export class OutcomeUnknown extends Error {
  override name = 'OutcomeUnknown';
}

/** A server (log, ledger, store) does not answer. Retrying helps; nothing was decided. */
export class Unavailable extends Error {
  override name = 'Unavailable';
}

/**
 * Retrying cannot help and going on would do harm: a log that was cut or made anew, a hole, a version that this
 * build does not know. The stage stops, `/readyz` and the log say why, an operator must look.
 */
export class Alarm extends Error {
  override name = 'Alarm';
}

/** A setting or a combination of servers that is refused at start, in one sentence with the remedy. */
export class Refused extends Error {
  override name = 'Refused';
}

/** The message of anything that was thrown, with the messages of what it wraps. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return [error.message, ...error.errors.map(messageOf)].filter(Boolean).join(': ');
  }
  if (error instanceof Error) {
    const cause = error.cause instanceof Error ? error.cause.message : '';
    const message = error.message || error.name;
    return message.includes(cause) ? message : `${message}: ${cause}`;
  }
  return String(error);
}
