/** Bounds of the HTTP side, with their units. Those that the contract knows are in ../limits.ts. */

/** Sending a request's head, and all of it, may take a client this long. */
export const headersMsMax = 10_000;
export const requestMsMax = 30_000;
/** How often they are held against the two above: those whose time ended in between end in one turn, 25 us each. */
export const expiryCheckMs = 100;
/** How often those that are not node:http's yet are looked at. */
export const connectionCheckMs = 2_000;
/**
 * Connections that wait to be taken in; the kernel's own bound (net.core.somaxconn) may be less. Whose does not fit asks
 * again after 1 s, then 2 s more: with node's 511 those were the slowest of a crowd that had lost its other server.
 */
export const backlogMax = 4_096;
/** A connection without a request is kept this long. */
export const keepAliveMs = 65_000;
/** An answer of which a client takes nothing for this long is given up, and its connection ends. */
export const unreadMsMax = 30_000;
/** Requests of one connection that wait behind the answer to another: each may hold an answer, or an open file. */
export const pipelinedMax = 32;
/** Bytes of a request's line and headers. */
export const headBytesMax = 16 * 1024;
/** Bytes of a head that is read without node:http: browsers send some 700. */
export const bareHeadBytesMax = 4 * 1024;
/** Bytes of a refused request's body that are read and thrown away so that the answer arrives; then it is cut. */
export const drainBytesMax = 8 * 1024 * 1024;
/** A path parameter: longer ones are of no route. The whole head is bounded anyway. */
export const paramLengthMax = 8 * 1024;
/** Users and addresses whose rate is remembered, each; the one unseen for longest is forgotten. */
export const bucketsMax = 50_000;
/** An address that sent more than it may is shut out at most this long after its last fault. */
export const debtMsMax = 10_000;
/** Its connections meanwhile: each is kept this long, so many of all such addresses. */
export const shutOutMsMax = 3_000;
export const shutOutMax = 500;
/** Verified tokens that are remembered. */
export const tokensMax = 10_000;
/** A verified token is believed this long before it is verified again, and never beyond its end. */
export const tokenMsMax = 60_000;
/** What the clock of a token's issuer may differ by, s. */
export const tokenSkewS = 5;
/** A key set is asked for at most this often, whatever came of it, and waited for this long. */
export const jwksMsMin = 10_000;
export const jwksMsMax = 3_000;
/** A key set that is older is asked for again, while its keys serve on. */
export const jwksFreshMsMax = 600_000;
/** Its keys serve for this long while it does not come: whoever gives out the tokens may be away for a day. */
export const jwksKeptMsMax = 24 * 3_600_000;
/** Seconds that a stats answer looks back. */
export const statsSeconds = 300;
/** A point of the series before the window gives its beginning; it is looked for this much further back, s. */
export const statsBaselineSeconds = 3_600;
/** Between two readings of the list, whoever asks. */
export const couponsListedMsMin = 100;
export const deadLettersMax = 200;
/** Verifications of different coupons that wait while one is under way. */
export const verificationsWaitingMax = 16;
/** What `Retry-After` asks for, s. */
export const retryAfterS = { notAccepted: 1, outcomeUnknown: 1, unavailable: 2, streams: 5, pipelined: 1 } as const;
/** Discounts, in the smallest unit of a currency. */
export const discountFixedMax = 1_000_000_000;
/** While the server stops, connections without a request are closed this often. */
export const closeIdleMs = 20;
