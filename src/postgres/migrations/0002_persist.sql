-- One batch of persist is one call: one round trip, and a process that stalls holds no lock. What runs in each call is
-- plpgsql, whose plans are kept; plans of SQL functions are not.

-- Inserts winners' rows that are all new, and counts them on their coupons; leaves out what has no coupon here. Fails
-- as a whole when one is there already, when the store refuses one, or when it would oversell. Returns how many went in.
-- ON CONFLICT would cost a third more, and in the normal course nothing conflicts.
create function put_new_rows(
  p_partition integer,
  w_coupon text[], w_user text[], w_slot bigint[], w_offset bigint[], w_key text[], w_at bigint[]
) returns integer language plpgsql as $$
declare
  inserted integer;
begin
  insert into user_coupon (coupon_id, slot, user_id, "offset", key, issued_at)
  select c.coupon_id, w.slot::integer, w.user_id, w."offset", w.key, w.at
  from unnest(w_coupon, w_user, w_slot, w_offset, w_key, w_at) as w (coupon_id, user_id, slot, "offset", key, at)
  join coupon c on c.coupon_id = w.coupon_id and c.partition = p_partition;
  get diagnostics inserted = row_count;
  update coupon c
  set issued = c.issued + s.n,
    first_issued_at = least(c.first_issued_at, s.first_at),
    last_issued_at = greatest(c.last_issued_at, s.last_at)
  from (
    select w.coupon_id, count(*)::integer as n, min(w.at) as first_at, max(w.at) as last_at
    from unnest(w_coupon, w_at) as w (coupon_id, at) group by w.coupon_id
  ) s
  where c.coupon_id = s.coupon_id and c.partition = p_partition;
  return inserted;
end $$;

-- The same for rows that may be there, or twice among them: what conflicts is left out, and what is new is counted.
create function put_rows(
  p_partition integer,
  w_coupon text[], w_user text[], w_slot bigint[], w_offset bigint[], w_key text[], w_at bigint[]
) returns integer language plpgsql as $$
declare
  inserted integer;
begin
  with fresh as (
    insert into user_coupon (coupon_id, slot, user_id, "offset", key, issued_at)
    select c.coupon_id, w.slot::integer, w.user_id, w."offset", w.key, w.at
    from unnest(w_coupon, w_user, w_slot, w_offset, w_key, w_at) with ordinality
      as w (coupon_id, user_id, slot, "offset", key, at, n)
    join coupon c on c.coupon_id = w.coupon_id and c.partition = p_partition
    order by w.n
    on conflict do nothing
    returning coupon_id, issued_at
  ), sums as (
    select coupon_id, count(*)::integer as n, min(issued_at) as first_at, max(issued_at) as last_at
    from fresh group by coupon_id
  ), counted as (
    update coupon c
    set issued = c.issued + s.n,
      first_issued_at = least(c.first_issued_at, s.first_at),
      last_issued_at = greatest(c.last_issued_at, s.last_at)
    from sums s
    where c.coupon_id = s.coupon_id
  )
  select coalesce(sum(n), 0) into inserted from sums;
  return inserted;
end $$;

-- Whether an error of a row will be the same the next time: bad data, a constraint, a trigger that raises. A code
-- outside of Postgres' own classes is an operator's trigger's. All else (locks, disk, rights, shutdown) may pass.
create function is_refusal(code text) returns boolean language sql immutable as $$
  select left(code, 2) in ('22', '23', '44', 'P0') or left(code, 2) not in (
    '00', '01', '02', '03', '08', '09', '0A', '0B', '0F', '0L', '0P', '0Z', '20', '21', '24', '25', '26', '27', '28',
    '2B', '2D', '2F', '34', '38', '39', '3B', '3D', '3F', '40', '42', '53', '54', '55', '57', '58', '72', 'F0', 'HV',
    'XX')
$$;

-- put_rows for a batch that the store refused: halves it until the rows refused for good are found; the rest goes in.
create function put_rows_by_halves(
  p_partition integer,
  w_coupon text[], w_user text[], w_slot bigint[], w_offset bigint[], w_key text[], w_at bigint[],
  out inserted integer, out refused_offsets bigint[], out refused_reasons text[]
) language plpgsql as $$
declare
  -- Ranges still to try, the earliest last.
  lows integer[] := array[1];
  highs integer[] := array[cardinality(w_coupon)];
  lo integer;
  hi integer;
  middle integer;
begin
  inserted := 0;
  refused_offsets := '{}';
  refused_reasons := '{}';
  -- A check that waits for the end of the transaction would refuse the batch as a whole.
  set constraints all immediate;
  while cardinality(lows) > 0 loop
    lo := lows[cardinality(lows)];
    hi := highs[cardinality(highs)];
    lows := lows[:cardinality(lows) - 1];
    highs := highs[:cardinality(highs) - 1];
    begin
      inserted := inserted + put_rows(p_partition, w_coupon[lo:hi], w_user[lo:hi], w_slot[lo:hi], w_offset[lo:hi],
        w_key[lo:hi], w_at[lo:hi]);
    exception when others or assert_failure then
      if not is_refusal(sqlstate) then
        raise;
      elsif lo = hi then
        refused_offsets := refused_offsets || w_offset[lo];
        refused_reasons := refused_reasons || left(sqlerrm, 500);
      else
        middle := (lo + hi) / 2;
        lows := lows || array[middle + 1, lo];
        highs := highs || array[hi, middle];
      end if;
    end;
  end loop;
end $$;

-- Sale changes; a coupon's row follows a change that is new and the latest so far.
create function put_sales(p_partition integer, p_sales json) returns void language plpgsql as $$
begin
  with fresh as (
    insert into sale_change (coupon_id, "offset", partition, at, stock, opens_at, closes_at, closed, phase, key)
    select s."couponId", s."offset", p_partition, s.at, s.stock, s."opensAt", s."closesAt", s.closed, s.phase, s.key
    from json_to_recordset(p_sales) as s ("couponId" text, "offset" bigint, at bigint, stock integer,
      "opensAt" bigint, "closesAt" bigint, closed boolean, phase text, key text)
    on conflict do nothing
    returning coupon_id, "offset", stock, closed
  ), latest as (
    select distinct on (coupon_id) * from fresh order by coupon_id, "offset" desc
  )
  update coupon c set stock = l.stock, closed = l.closed, sale_offset = l."offset"
  from latest l
  where c.coupon_id = l.coupon_id and c.partition = p_partition and c.sale_offset < l."offset";
end $$;

create function put_set_aside(p_set_aside json) returns void language plpgsql as $$
begin
  insert into set_aside (log, partition, "offset", coupon_id, user_id, slot, key, at, reason, bytes)
  select s.log, s.partition, s."offset", s."couponId", s."userId", s.slot, s.key, s.at, s.reason,
    decode(s.bytes, 'base64')
  from json_to_recordset(p_set_aside) as s (log text, partition integer, "offset" bigint, "couponId" text,
    "userId" text, slot bigint, key text, at bigint, reason text, bytes text)
  on conflict do nothing;
end $$;

create function put_totals(p_partition integer, p_counts json) returns void language plpgsql as $$
begin
  insert into total as t (coupon_id, partition, duplicated, closed, not_open, sold_out)
  select s."couponId", p_partition, s.duplicated, s.closed, s.not_open, s.sold_out
  from json_to_recordset(p_counts) as s ("couponId" text, duplicated bigint, closed bigint, not_open bigint,
    sold_out bigint)
  on conflict (coupon_id) do update set
    duplicated = greatest(t.duplicated, excluded.duplicated),
    closed = greatest(t.closed, excluded.closed),
    not_open = greatest(t.not_open, excluded.not_open),
    sold_out = greatest(t.sold_out, excluded.sold_out);
end $$;

-- Sets aside the winners that have no row of their own now, with the reason. `known_*`: those found by halving.
create function refuse_rows(
  p_partition integer,
  w_coupon text[], w_user text[], w_slot bigint[], w_offset bigint[], w_key text[], w_at bigint[],
  known_offsets bigint[], known_reasons text[],
  out refused_offsets bigint[], out refused_reasons text[]
) language sql as $$
  with missing as (
    select distinct on (w."offset") w.*
    from unnest(w_coupon, w_user, w_slot, w_offset, w_key, w_at)
      as w (coupon_id, user_id, slot, "offset", key, at)
    where not exists (
      select from user_coupon u
      where u.coupon_id = w.coupon_id and u.slot = w.slot and u.user_id = w.user_id and u."offset" = w."offset")
    order by w."offset"
  ), reasoned as (
    select m.*, 'refused_by_store: ' || case
        when k.reason is not null then k.reason
        when c.coupon_id is null then 'no such coupon in this partition'
        when s."offset" is not null and s.user_id = m.user_id
          then format('slot %s was given to this user for request %s', m.slot, s."offset")
        when s."offset" is not null then format('slot %s was given to another user for request %s', m.slot, s."offset")
        else format('the user holds slot %s', u.slot) end as reason
    from missing m
    left join unnest(known_offsets, known_reasons) as k ("offset", reason) on k."offset" = m."offset"
    left join coupon c on c.coupon_id = m.coupon_id and c.partition = p_partition
    left join user_coupon s on s.coupon_id = m.coupon_id and s.slot = m.slot
    left join user_coupon u on u.coupon_id = m.coupon_id and u.user_id = m.user_id
  ), kept as (
    insert into set_aside (log, partition, "offset", coupon_id, user_id, slot, key, at, reason)
    select 'coupon-issued', p_partition, "offset", coupon_id, user_id, slot, key, at, reason from reasoned
    on conflict (log, partition, "offset") do update set coupon_id = excluded.coupon_id, user_id = excluded.user_id,
      slot = excluded.slot, key = excluded.key, at = excluded.at, reason = excluded.reason
    returning "offset", reason
  )
  select coalesce(array_agg("offset" order by "offset"), '{}'), coalesce(array_agg(reason order by "offset"), '{}')
  from kept
$$;

-- Deletes the set-aside winners of these offsets that have their row. Most of the time there are none.
create function restore_rows(p_partition integer, w_offset bigint[]) returns bigint[] language plpgsql as $$
declare
  restored bigint[];
begin
  if not exists (select from set_aside where partition = p_partition and slot is not null) then
    return '{}';
  end if;
  with gone as (
    delete from set_aside s
    using user_coupon u
    where s.log = 'coupon-issued' and s.partition = p_partition and s.slot is not null
      and s."offset" = any (w_offset)
      and u.coupon_id = s.coupon_id and u.slot = s.slot and u.user_id = s.user_id and u."offset" = s."offset"
    returning s."offset"
  )
  select coalesce(array_agg("offset" order by "offset"), '{}') into restored from gone;
  return restored;
end $$;

-- The checkpoint's row, locked until the end of the transaction.
create function lock_checkpoint(p_partition integer) returns checkpoint language plpgsql as $$
declare
  place checkpoint;
begin
  select * into place from checkpoint where partition = p_partition for update;
  if not found then
    insert into checkpoint (partition) values (p_partition) on conflict do nothing;
    select * into place from checkpoint where partition = p_partition for update;
  end if;
  return place;
end $$;

-- The whole of a batch. Answers `moved` and the checkpoint that is there when it is not at p_expect. `p_careful`: the
-- batch failed before, so leave out repeats and find the rows to blame.
create function persist(
  p_partition integer, p_expect bigint,
  p_change_next bigint, p_change_hash text, p_next bigint, p_clock bigint, p_hash text,
  p_malformed bigint, p_unknown_coupon bigint,
  w_coupon text[], w_user text[], w_slot bigint[], w_offset bigint[], w_key text[], w_at bigint[],
  p_sales json, p_set_aside json, p_counts json, p_careful boolean,
  out moved boolean, out place checkpoint, out inserted integer,
  out refused_offsets bigint[], out refused_reasons text[], out restored bigint[]
) language plpgsql as $$
begin
  place := lock_checkpoint(p_partition);
  moved := place.change_next <> p_expect;
  if moved then
    return;
  end if;
  if p_next < place.next or p_change_next < place.change_next then
    raise exception 'checkpoint of partition % would go back from % to %', p_partition, place.next, p_next
      using errcode = 'check_violation';
  end if;
  if p_sales is not null then
    perform put_sales(p_partition, p_sales);
  end if;
  if p_set_aside is not null then
    perform put_set_aside(p_set_aside);
  end if;
  inserted := 0;
  if cardinality(w_coupon) > 0 then
    if p_careful then
      select h.inserted, h.refused_offsets, h.refused_reasons into inserted, refused_offsets, refused_reasons
      from put_rows_by_halves(p_partition, w_coupon, w_user, w_slot, w_offset, w_key, w_at) h;
    else
      inserted := put_new_rows(p_partition, w_coupon, w_user, w_slot, w_offset, w_key, w_at);
    end if;
    restored := restore_rows(p_partition, w_offset);
    if inserted < cardinality(w_coupon) then
      select r.refused_offsets, r.refused_reasons into refused_offsets, refused_reasons
      from refuse_rows(p_partition, w_coupon, w_user, w_slot, w_offset, w_key, w_at,
        refused_offsets, refused_reasons) r;
    end if;
  end if;
  if p_counts is not null then
    perform put_totals(p_partition, p_counts);
  end if;
  update checkpoint
  set change_next = p_change_next, change_hash = p_change_hash, next = p_next, clock = p_clock, hash = p_hash,
    malformed = p_malformed, unknown_coupon = p_unknown_coupon
  where partition = p_partition and change_next = p_expect;
end $$;
