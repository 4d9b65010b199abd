-- name: user_events_first
-- The first page of a user's events, newest first. Each row begins with the time of the snapshot, whether
-- the server is a replica, and the horizon. An empty page is one row with nothing else.
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
-- The page of the next older events. The condition on occurred_at alone is where the index scan starts.
select   now(), pg_is_in_recovery(), horizon, event_id, event_name, occurred_at, properties
from     (select (select horizon from retention) as horizon) as retention
left     join lateral (
    select   event_id, event_name, occurred_at, properties::text
    from     events
    where    user_id = %(user_id)s
    and      occurred_at >= greatest(%(start)s, horizon)
    and      occurred_at <  least(%(end)s, %(occurred_at)s::timestamptz + interval '1 microsecond')
    and      (occurred_at, event_id) < (%(occurred_at)s, %(event_id)s::uuid)
    and      (%(names)s::text[] is null or event_name = any(%(names)s))
    order    by occurred_at desc, event_id desc
    limit    %(limit)s
) as page on true
order    by occurred_at desc, event_id desc;

-- name: user_events_newer
-- The page of the next newer events, oldest first.
select   now(), pg_is_in_recovery(), horizon, event_id, event_name, occurred_at, properties
from     (select (select horizon from retention) as horizon) as retention
left     join lateral (
    select   event_id, event_name, occurred_at, properties::text
    from     events
    where    user_id = %(user_id)s
    and      occurred_at >= greatest(%(start)s, horizon, %(occurred_at)s)
    and      occurred_at <  %(end)s
    and      (occurred_at, event_id) > (%(occurred_at)s, %(event_id)s::uuid)
    and      (%(names)s::text[] is null or event_name = any(%(names)s))
    order    by occurred_at, event_id
    limit    %(limit)s
) as page on true
order    by occurred_at, event_id;
