import { type LogName, logNames } from '../entry.ts';
import { couponIdLengthMax, stockMax, userIdLengthMax } from '../limits.ts';

/** "dibs" in ASCII: tells our files from other SQLite files. */
export const applicationId = 0x64696273;

/** The table of one partition of a log. */
export const logTable = (log: LogName, partition: number): string => (partition === 0 ? log : `${log}.${partition}`);

const createLogTable = (table: string): string => `
CREATE TABLE "${table}" (
  offset INTEGER PRIMARY KEY CHECK (offset >= 0),
  at INTEGER NOT NULL,
  text TEXT NOT NULL
) STRICT;`;

/** Tables of a partition other than 0, which every file has. */
export const addPartition = (partition: number): string =>
  logNames.map(log => createLogTable(logTable(log, partition))).join('');

/**
 * The tables carry the rules: even if every layer above were wrong, no coupon is issued twice to a user, no slot
 * twice, and none beyond the stock.
 */
const first = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('partitions', '1');
${logNames.map(createLogTable).join('')}

CREATE TABLE coupon (
  coupon_id TEXT PRIMARY KEY CHECK (length(coupon_id) BETWEEN 1 AND ${couponIdLengthMax}),
  partition INTEGER NOT NULL CHECK (partition >= 0),
  body TEXT NOT NULL CHECK (json_valid(body)),
  created_at INTEGER NOT NULL,
  stock INTEGER NOT NULL CHECK (stock BETWEEN 0 AND ${stockMax}),
  closed INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)),
  -- Offset of the sale change that stock and closed come from.
  sale_offset INTEGER NOT NULL DEFAULT -1,
  issued INTEGER NOT NULL DEFAULT 0 CHECK (issued >= 0),
  first_issued_at INTEGER,
  last_issued_at INTEGER,
  CHECK (issued <= stock)
) STRICT, WITHOUT ROWID;

-- The b-tree of the second key also finds a user's coupons: there are two trees to write and no third.
CREATE TABLE user_coupon (
  coupon_id TEXT NOT NULL REFERENCES coupon,
  slot INTEGER NOT NULL CHECK (slot >= 1),
  user_id TEXT NOT NULL CHECK (length(user_id) BETWEEN 1 AND ${userIdLengthMax}),
  offset INTEGER NOT NULL CHECK (offset >= 0),
  key TEXT NOT NULL CHECK (length(key) = 16),
  issued_at INTEGER NOT NULL,
  redeemed_at INTEGER,
  PRIMARY KEY (coupon_id, slot),
  UNIQUE (user_id, coupon_id)
) STRICT, WITHOUT ROWID;

-- Without a reference to coupon: a rebuild needs every sale of the partition, even one that has no row.
CREATE TABLE sale_change (
  partition INTEGER NOT NULL CHECK (partition >= 0),
  coupon_id TEXT NOT NULL,
  offset INTEGER NOT NULL CHECK (offset >= 0),
  at INTEGER NOT NULL,
  stock INTEGER NOT NULL CHECK (stock BETWEEN 0 AND ${stockMax}),
  opens_at INTEGER,
  closes_at INTEGER,
  closed INTEGER NOT NULL CHECK (closed IN (0, 1)),
  phase TEXT NOT NULL CHECK (phase IN ('not_open', 'open', 'sold_out', 'closed')),
  key TEXT CHECK (length(key) = 16),
  PRIMARY KEY (partition, coupon_id, offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE totals (
  partition INTEGER NOT NULL,
  coupon_id TEXT NOT NULL,
  duplicated INTEGER NOT NULL CHECK (duplicated >= 0),
  closed INTEGER NOT NULL CHECK (closed >= 0),
  not_open INTEGER NOT NULL CHECK (not_open >= 0),
  sold_out INTEGER NOT NULL CHECK (sold_out >= 0),
  PRIMARY KEY (partition, coupon_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE set_aside (
  log TEXT NOT NULL CHECK (log IN (${logNames.map(name => `'${name}'`).join(', ')})),
  partition INTEGER NOT NULL CHECK (partition >= 0),
  offset INTEGER NOT NULL CHECK (offset >= 0),
  coupon_id TEXT,
  user_id TEXT,
  slot INTEGER,
  key TEXT,
  at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  bytes TEXT NOT NULL,
  PRIMARY KEY (log, partition, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX set_aside_winner ON set_aside (coupon_id, user_id) WHERE slot IS NOT NULL;

CREATE TABLE checkpoint (
  partition INTEGER PRIMARY KEY CHECK (partition >= 0),
  change_next INTEGER NOT NULL CHECK (change_next >= 0),
  change_hash TEXT NOT NULL,
  next INTEGER NOT NULL CHECK (next >= 0),
  clock INTEGER NOT NULL,
  hash TEXT NOT NULL,
  malformed INTEGER NOT NULL CHECK (malformed >= 0),
  unknown_coupon INTEGER NOT NULL CHECK (unknown_coupon >= 0)
) STRICT;

CREATE TABLE place (
  stage TEXT NOT NULL,
  partition INTEGER NOT NULL CHECK (partition >= 0),
  next INTEGER NOT NULL CHECK (next >= 0),
  PRIMARY KEY (stage, partition)
) STRICT, WITHOUT ROWID;

-- Statistics: maxima, and the minimum of first_won_at, so that saving them again changes nothing.
CREATE TABLE stats (
  coupon_id TEXT PRIMARY KEY,
  first_won_at INTEGER,
  last_won_at INTEGER,
  issued INTEGER NOT NULL,
  duplicated INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  not_open INTEGER NOT NULL,
  sold_out INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE series (
  coupon_id TEXT NOT NULL,
  second INTEGER NOT NULL,
  issued INTEGER NOT NULL,
  duplicated INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  not_open INTEGER NOT NULL,
  sold_out INTEGER NOT NULL,
  PRIMARY KEY (coupon_id, second)
) STRICT, WITHOUT ROWID;
`;

/** Step i takes a file from version i to i + 1. A step that was released is never edited. */
export const migrations: readonly string[] = [first];
