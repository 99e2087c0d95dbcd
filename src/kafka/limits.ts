/** Bounds of the Kafka adapter, with their units. */
import { changeDeadLetters, changeLog, type LogName, requestDeadLetters, requestLog } from '../entry.ts';

/** `createKafkaLog` waits this long for brokers and for leaders of new topics. */
export const startMsMax = 30_000;
export const startRetryMsMin = 200;
export const startRetryMsMax = 2_000;
export const adminRequestMsMax = 5_000;
/** All of one asking for the end of a log. */
export const endMsMax = 12_000;
export const connectMsMax = 2_000;

/** A produce request without an answer is sent again after this long. */
export const produceRequestMsMax = 5_000;
/** Waits between the client's own tries; it tries for ever, and every try that failed is kept until one succeeds. */
export const produceRetryMsMin = 50;
export const produceRetryMsMax = 500;
/** Leaders are looked up again after this long, and after every error. */
export const metadataAgeMsMax = 30_000;

/** Bytes of one fetch; a single larger batch still comes whole. */
export const fetchBytesMax = 256 * 1024;
/** A long poll holds its connection; longer waits are made of several. */
export const fetchWaitMsMax = 2_000;
/** A fetch without an answer fails after this long; far above fetchWaitMsMax. */
export const fetchRequestMsMax = 5_000;
/** All of one fetch, with the question who leads. */
export const fetchMsMax = 12_000;
/** Reads of one partition that may be under way at once in one process. */
export const readersMax = 16;
/** An idle reader keeps its place this long; after that another read may move it. */
export const readerKeepMs = 5_000;
/** An idle reader is closed after this long. */
export const readerIdleMsMax = 30_000;

/** Entries of one partition's end that are kept as they were appended: half a second of 16,000 a second. */
export const tailEntriesMax = 8_192;
/** Their characters: malformed entries, quoted, may be a megabyte each, and a read takes all that is here. */
export const tailCharactersMax = 8 * 1024 * 1024;
/** At the end of a log that this process made grow a moment ago (ms), a read waits so long for that before it asks. */
export const tailGrowsMs = 20;
export const tailWaitMsMax = 10;
/** Only when no other process was seen to append to it for this long. */
export const tailAloneMs = 1_000;

/** Heartbeats come at most so far apart, and three of them into a session. */
export const heartbeatMs = 1_000;
/** Heartbeats that all failed for this long: the membership is made anew. */
export const heartbeatStallMsMax = 15_000;
/** Members have this long to come back when their group shares anew. */
export const rebalanceMsMin = 6_000;
export const joinRetryMs = 500;
/** A join that took longer than this beyond a session is given up, and the membership is made anew. */
export const joinMsMax = 15_000;
export const groupRequestMsMax = 5_000;

/** The broker is asked whether it is there when nothing was heard of it for this long. */
export const probeMs = 400;
export const probeTickMs = 200;
export const probeRequestMsMax = 700;
/** All of one asking, whichever brokers it takes. */
export const probeMsMax = 1_000;

/** `close()` waits this long for connections. */
export const closeMsMax = 2_000;
/** Leaving a group waits this long for a last commit. */
export const lastCommitMsMax = 1_000;
export const leaveMsMax = 800;

/** Bytes of one batch in a log. Changes quote requests, and dead letters quote either of them, in base64. */
export const batchBytesMax: Readonly<Record<LogName, number>> = {
  [requestLog]: 1024 * 1024,
  [changeLog]: 8 * 1024 * 1024,
  [requestDeadLetters]: 12 * 1024 * 1024,
  [changeDeadLetters]: 12 * 1024 * 1024,
};
