-- The store's tables. Their constraints are the last wall: if every layer above were wrong, they would still not
-- oversell. Times are ms since 1970 by the log's clock, offsets are places in a partition of a log.

-- Whose rows these are: the log's identity and the secret's fingerprint, noted by the first process.
create table meta (
  name text primary key,
  value text not null
);

create table coupon (
  coupon_id text primary key check (length(coupon_id) between 1 and 64),
  partition integer not null check (partition >= 0),
  -- What the operator asked for: json, not jsonb, so that it comes back as it was given.
  body json not null,
  valid_until bigint,
  created_at bigint not null,
  stock integer not null check (stock between 0 and 10000000),
  closed boolean not null default false,
  -- Offset of the sale change that stock and closed come from.
  sale_offset bigint not null default -1,
  issued integer not null default 0,
  first_issued_at bigint,
  last_issued_at bigint,
  constraint coupon_issued_within_stock check (issued between 0 and stock)
) with (fillfactor = 50);

create index coupon_newest on coupon (created_at desc, coupon_id);

-- The coupon of a row is joined when the row is inserted and is never deleted: a foreign key's trigger would cost
-- as much as the row.
create table user_coupon (
  coupon_id text not null,
  slot integer not null,
  user_id text not null,
  "offset" bigint not null check ("offset" >= 0),
  key text not null check (length(key) = 16),
  issued_at bigint not null check (issued_at >= 0),
  redeemed_at bigint check (redeemed_at >= 0),
  constraint user_coupon_slot_once primary key (coupon_id, slot),
  -- The user first: it also serves the list of a user's coupons.
  constraint user_coupon_user_once unique (user_id, coupon_id),
  constraint user_coupon_slot_from_one check (slot >= 1)
) with (fillfactor = 90);

-- The whole sale after each change of it.
create table sale_change (
  coupon_id text not null,
  "offset" bigint not null check ("offset" >= 0),
  partition integer not null check (partition >= 0),
  at bigint not null,
  stock integer not null check (stock between 0 and 10000000),
  opens_at bigint,
  closes_at bigint,
  closed boolean not null,
  phase text not null check (phase in ('not_open', 'open', 'sold_out', 'closed')),
  key text,
  primary key (coupon_id, "offset")
);

create index sale_change_partition on sale_change (partition, coupon_id, "offset");

-- Requests that did not win, in total, as of the checkpoint.
create table total (
  coupon_id text primary key,
  partition integer not null,
  duplicated bigint not null,
  closed bigint not null,
  not_open bigint not null,
  sold_out bigint not null
) with (fillfactor = 50);

-- slot is not null: a winner whose row was refused; the change can be made again from these columns.
-- slot is null: an entry that cannot be read; its bytes are kept, as bytea because text may hold no NUL.
create table set_aside (
  log text not null,
  partition integer not null check (partition >= 0),
  "offset" bigint not null check ("offset" >= 0),
  coupon_id text,
  user_id text,
  slot bigint,
  key text,
  at bigint not null,
  reason text not null,
  bytes bytea,
  primary key (log, partition, "offset"),
  check (
    bytes is not null
    or (coupon_id is not null and user_id is not null and slot is not null and key is not null)
  )
);

create index set_aside_winner on set_aside (partition, coupon_id, user_id) where slot is not null;
create index set_aside_oldest on set_aside (at, log, partition, "offset");

-- Persist's place in the change log, and the frontier of the request log that the rows are complete up to.
create table checkpoint (
  partition integer primary key check (partition >= 0),
  change_next bigint not null default 0 check (change_next >= 0),
  change_hash text not null default '',
  next bigint not null default 0 check (next >= 0),
  clock bigint not null default 0,
  hash text not null default '',
  malformed bigint not null default 0,
  unknown_coupon bigint not null default 0
) with (fillfactor = 50);

-- Statistics: maxima and minima only, so that a repeat changes nothing.
create table sale_stats (
  coupon_id text primary key,
  first_won_at bigint,
  last_won_at bigint,
  issued bigint not null,
  duplicated bigint not null,
  closed bigint not null,
  not_open bigint not null,
  sold_out bigint not null
) with (fillfactor = 50);

-- Totals as of the end of each second in which something happened.
create table series (
  coupon_id text not null,
  second bigint not null,
  issued bigint not null,
  duplicated bigint not null,
  closed bigint not null,
  not_open bigint not null,
  sold_out bigint not null,
  primary key (coupon_id, second)
) with (fillfactor = 50);

create table place (
  stage text not null,
  partition integer not null,
  next bigint not null,
  primary key (stage, partition)
) with (fillfactor = 50);
