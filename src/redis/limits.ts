/** Bounds of the Redis adapters, with their units. */

/** A command that is unanswered for this long failed; it may still be carried out. */
export const commandMsMax = 1_000;
/** What is popped from a queue and not heard of is lost, so its answer is waited for longer. */
export const popMsMax = 15_000;
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
/** After a refused write Redis is said to be connected again once it has refused none for this long. */
export const steadyMs = 2_000;
/** Closing waits this long for the other side. */
export const disconnectMsMax = 500;
/** Holders of a rebuild in one call. */
export const fillBatchMax = 500;
/** Holders of a build that was never finished are gone this long after its last chunk of the coupon. */
export const fillExpiryMs = 15 * 60 * 1_000;
/** A read that waits for a queue looks this often. */
export const queuePollMs = 20;
/** A start waits this long for Redis, and looks this often. */
export const startMsMax = 10_000;
export const startPollMs = 100;
/** A lease lasts this long after its holder was last heard of, who says so this often. */
export const leaseMs = 3_000;
export const leaseRenewMs = 1_000;
/** Who wants it asks this often, and waits for longer than a dead holder can keep it. */
export const leaseTryMs = 100;
export const leaseWaitMsMax = 5_000;
