-- Sets aside the winners that have no row of their own now, with the reason. `known_*`: those found by halving, once for
-- each copy of a winner that the batch has: two of one failed the whole batch before, for as long as it was refused.
create or replace function refuse_rows(
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
  ), known as (
    select distinct on (k."offset") k.* from unnest(known_offsets, known_reasons) as k ("offset", reason)
    order by k."offset"
  ), reasoned as (
    select m.*, 'refused_by_store: ' || case
        when k.reason is not null then k.reason
        when c.coupon_id is null then 'no such coupon in this partition'
        when s."offset" is not null and s.user_id = m.user_id
          then format('slot %s was given to this user for request %s', m.slot, s."offset")
        when s."offset" is not null then format('slot %s was given to another user for request %s', m.slot, s."offset")
        when u.slot is not null then format('the user holds slot %s', u.slot)
        else 'the row was not taken, and no error given' end as reason
    from missing m
    left join known k on k."offset" = m."offset"
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
