-- name: user_profile_names
-- The events of a user by name.
select   event_name, count(*), min(occurred_at), max(occurred_at)
from     events
where    user_id = %(user_id)s
and      occurred_at >= %(start)s
and      occurred_at <  %(end)s
and      (%(names)s::text[] is null or event_name = any(%(names)s))
group    by event_name
order    by count(*) desc, event_name collate "C";

-- name: user_profile_slots
-- The quarters of an hour, counted from 1970, in which a user has events. Local days are unions of these.
select   distinct floor(extract(epoch from occurred_at) / 900)::bigint
from     events
where    user_id = %(user_id)s
and      occurred_at >= %(start)s
and      occurred_at <  %(end)s
and      (%(names)s::text[] is null or event_name = any(%(names)s));

-- name: user_profile_properties
-- The latest value of each property of a user that is not null.
select   distinct on (name collate "C") name, value::text, occurred_at
from     events
cross    join lateral jsonb_each(properties) as property (name, value)
where    user_id = %(user_id)s
and      occurred_at >= %(start)s
and      occurred_at <  %(end)s
and      (%(names)s::text[] is null or event_name = any(%(names)s))
and      jsonb_typeof(value) <> 'null'
order    by name collate "C", occurred_at desc, event_id desc;
