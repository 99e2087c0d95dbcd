/**
 * Every bound of the system, by name and with its unit. Beyond a bound a request is refused early and cheaply;
 * work that was accepted is never slowed by work that was not.
 */

// --- ids and bodies -------------------------------------------------------------------------------------------
export const userIdLengthMax = 64;
export const couponIdLengthMax = 64;
export const idempotencyKeyLengthMax = 64;
export const couponNameLengthMax = 200;
export const secretLengthMin = 16;
export const stockMax = 10_000_000;
/** A list shows the newest; older ones are asked for by their ids. */
export const couponsListedMax = 1_000;
export const issueBodyBytesMax = 1024;
export const bodyBytesMax = 64 * 1024;
/** Sealed task ids are base64url of nonce, tag and at most two ids: longer text is not one of ours. */
export const taskIdLengthMax = 400;

// --- the front door -------------------------------------------------------------------------------------------
/** Requests waiting in one process for the filter or the log, all partitions together. */
export const acceptQueueMax = 20_000;
/** Entries in one append: a produce request costs 0.35 ms and 4 us an entry, so larger batches gain little. */
export const appendBatchMax = 1_000;
/** Requests in one read of the filter; the script that answers must stay below 5 ms. */
export const filterBatchMax = 500;
/**
 * After a batch of at least so many, and when fewer are waiting, the filter waits this long for the next to grow: where
 * appends go out one by one, the clients of a closed loop would else stay split into groups that wait for each other.
 */
export const filterGatherBatchMin = 16;
export const filterGatherMs = 2;
/** A batch that was handed to the log and is unanswered for this long is answered OUTCOME_UNKNOWN. */
export const appendAnswerMsMax = 900;
/** The filter is advice: a read that takes longer lets everyone pass. */
export const filterMsMax = 250;
/** After a filter read failed, everyone passes for this long before the next try. */
export const filterPauseMs = 500;
/** How long a coupon's phase may be refused by from memory after the read that confirmed it was sent. */
export const latchMsMax = 1_000;
/** Coupons whose state one process follows in its background read. */
export const latchCouponsMax = 1_000;
/** What brokers' clocks may differ by, or step by: a window is spoken of only when it is further away. */
export const clockSkewMsMax = 2_000;
/** What is known of the log's clock holds this long; from `logClockRenewMs` on one request a second goes and asks. */
export const logClockMsMax = 30_000;
export const logClockRenewMs = 10_000;
/** An operator's call (stock, close) waits this long for its entry to be decided. */
export const adminWaitMsMax = 10_000;

/**
 * Answers of one turn in the embedded profile: with all at once both threads wait for each other by turns (20 to 25 %
 * less at 256 connections). In the cluster all at once is better: larger batches, dearer calls.
 */
export const embeddedAnswersPerTurnMax = 24;

// --- stages ---------------------------------------------------------------------------------------------------
/** Entries of one ledger call: 500 take about 2 ms of the script's server. */
export const applyBatchMax = 500;
/** Entries of one append of changes, decided by several ledger calls: so a backlog waits for fewer appends. */
export const reserveBatchMax = 2_000;
/** Characters of one append of changes or dead letters: a few malformed entries can be larger than a log's message. */
export const appendCharactersMax = 2 * 1024 * 1024;
/** Changes of one transaction. */
export const persistBatchMax = 2_000;
export const statsBatchMax = 2_000;
/**
 * Each batch costs its calls, however small it is. After one of at least so many entries, reserve and persist wait for
 * the next to grow, unless there is a backlog.
 */
export const gatherBatchMin = 32;
export const reserveGatherMs = 10;
export const persistGatherMs = 20;
/** A poll with nothing to read returns after this long. */
export const pollMsMax = 1_000;
/** A stage with nothing to read looks after its state this often. */
export const idleTickMs = 1_000;
export const retryMsMin = 50;
export const retryMsMax = 3_000;
/** Places are committed to the log's own books (for lag tools) at most this often. */
export const groupCommitMs = 1_000;
/** A file that took nothing is said not to for so long, unless it does before. */
export const refusingMs = 10_000;
/** What fails again and again is said once, then this often. */
export const sayAgainMs = 10_000;
/** Stopping waits this long for what is under way. */
export const drainMsMax = 5_000;

// --- streams --------------------------------------------------------------------------------------------------
export const streamsMax = 20_000;
export const streamsPerAddressMax = 10_000;
/** Bytes a stream's reader may leave unread before it is dropped. */
export const streamBufferBytesMax = 16 * 1024;
export const progressMsMin = 500;
export const frontierMs = 1_000;
export const pingMs = 15_000;
/** Tasks of one status read. */
export const statusBatchMax = 500;
/** Questions of one partition that wait for such a read: those of all streams at once, and as many again. */
export const statusQueueMax = 2 * streamsMax;
export const streamRetryMsMin = 1_000;
export const streamRetryMsMax = 3_000;

// --- lists ----------------------------------------------------------------------------------------------------
export const pageMax = 200;
