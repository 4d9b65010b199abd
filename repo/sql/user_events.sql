-- name: user_events_first
-- The first page of a user's events, newest first. Each row begins with the moment, whether it is that
-- of a replica, and the horizon; the only row of an empty page has nothing else.
select   now(), pg_is_in_recovery(), horizon, event_id, event_name, occurred_at, properties
from     (select (select horizon from retention) as horizon) as retention
left     join lateral (
    select   event_id, event_name, occurred_at, properties::text
    from     events
    where    user_id = %(user_id)s
    and      occurred_at >= greatest(%(start)s, horizon)
    and      occurred_at <  %(end)s
    and      (%(names)s::text[] is null or event_name = any(%(names)s))
    order    by occurred_at desc, event_id desc
    limit    %(limit)s
) as page on true
order    by occurred_at desc, event_id desc;

-- name: user_events_older
-- A page from just below a position. Its moment stands there by itself as well: there the index is entered.
select   now(), pg_is_in_recovery(), horizon, event_id, event_name, occurred_at, properties
from     (select (select horizon from retention) as horizon) as retention
left     join lateral (
    select   event_id, event_name, occurred_at, properties::text
    from     events
    where    user_id = %(user_id)s
    and      occurred_at >= greatest(%(start)s, horizon)
    and      occurred_at <  least(%(end)s, %(moment)s::timestamptz + interval '1 microsecond')
    and      (occurred_at, event_id) < (%(moment)s, %(event_id)s::uuid)
    and      (%(names)s::text[] is null or event_name = any(%(names)s))
    order    by occurred_at desc, event_id desc
    limit    %(limit)s
) as page on true
order    by occurred_at desc, event_id desc;

-- name: user_events_newer
-- A page from just above a position, oldest first.
select   now(), pg_is_in_recovery(), horizon, event_id, event_name, occurred_at, properties
from     (select (select horizon from retention) as horizon) as retention
left     join lateral (
    select   event_id, event_name, occurred_at, properties::text
    from     events
    where    user_id = %(user_id)s
    and      occurred_at >= greatest(%(start)s, horizon, %(moment)s)
    and      occurred_at <  %(end)s
    and      (occurred_at, event_id) > (%(moment)s, %(event_id)s::uuid)
    and      (%(names)s::text[] is null or event_name = any(%(names)s))
    order    by occurred_at, event_id
    limit    %(limit)s
) as page on true
order    by occurred_at, event_id;
