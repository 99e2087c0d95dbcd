-- Inserts winners' rows that are all new, and counts them on their coupons. Fails as a whole when one does not go in,
-- whatever kept it out, so that the careful call finds it and counts what went in: an operator's trigger that skips a
-- row was counted as issued before.
create or replace function put_new_rows(
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
  if inserted < cardinality(w_coupon) then
    raise exception 'of % rows % went in', cardinality(w_coupon), inserted using errcode = 'check_violation';
  end if;
  update coupon c
  set issued = c.issued + s.n,
    first_issued_at = least(c.first_issued_at, s.first_at),
    last_issued_at = greatest(c.last_issued_at, s.last_at)
  from (
    select w.coupon_id, count(*)::integer as n, min(w.at) as first_at, max(w.at) as last_at
    from unnest(w_coupon, w_at) as w (coupon_id, at) group by w.coupon_id
  ) s
  where c.coupon_id = s.coupon_id;
  return inserted;
end $$;
