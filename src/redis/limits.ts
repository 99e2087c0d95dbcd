/** Bounds of the Redis adapters, with their units. */

/** A command that is unanswered for this long failed; it may still be carried out. */
export const commandMsMax = 1_000;
/** Connecting, up to the first byte. */
export const connectMsMax = 1_000;
/** A connection on which commands wait and nothing arrives for this long is given up. */
export const silentMsMax = 3_000;
/** The subscriber, which waits for no answer of its own, asks for one this often. */
export const pingMs = 2_000;
/** TCP keep-alive begins after this. */
export const keepAliveMs = 10_000;
export const reconnectMsMin = 50;
export const reconnectMsMax = 2_000;
/** Closing waits this long for the other side. */
export const disconnectMsMax = 500;
/** Holders of a rebuild in one call. */
export const fillBatchMax = 500;
/** Holders of a build that was never finished are gone this long after its last chunk of the coupon. */
export const fillExpiryMs = 15 * 60 * 1_000;
