-- name: user_events_older
-- A page of a user's events, newest first, from just below a position.
select   event_id, event_name, occurred_at, properties::text
from     events
where    user_id = %(user_id)s
and      occurred_at >= %(start)s
and      occurred_at <  %(end)s
and      (%(moment)s::timestamptz is null
          or (occurred_at, event_id) < (%(moment)s, %(event_id)s::uuid))
and      (%(names)s::text[] is null or event_name = any(%(names)s))
order    by occurred_at desc, event_id desc
limit    %(limit)s;

-- name: user_events_newer
-- A page of a user's events, oldest first, from just above a position.
select   event_id, event_name, occurred_at, properties::text
from     events
where    user_id = %(user_id)s
and      occurred_at >= %(start)s
and      occurred_at <  %(end)s
and      (occurred_at, event_id) > (%(moment)s, %(event_id)s::uuid)
and      (%(names)s::text[] is null or event_name = any(%(names)s))
order    by occurred_at, event_id
limit    %(limit)s;
