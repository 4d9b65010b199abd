-- name: top_events
-- Event names by their number of events; the last row, without a name, is all events.
select   event_name, count(*) as events, count(distinct nullif(user_id, ''))
from     events
where    occurred_at >= %(start)s
and      occurred_at <  %(end)s
and      (%(names)s::text[] is null or event_name = any(%(names)s))
group    by grouping sets ((event_name), ())
order    by grouping(event_name), events desc, event_name collate "C";

-- name: top_events_other
-- The users of all events but those of the top names.
select count(distinct nullif(user_id, ''))
from   events
where  occurred_at >= %(start)s
and    occurred_at <  %(end)s
and    (%(names)s::text[] is null or event_name = any(%(names)s))
and    event_name <> all(%(top)s);
