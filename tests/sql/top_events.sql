-- name: top_events
-- Number of events and users per event name, most events first; the last row, without a name, has the totals.
select   event_name, count(*) as events, count(distinct nullif(user_id, ''))
from     events
where    occurred_at >= %(start)s
and      occurred_at <  %(end)s
and      (%(names)s::text[] is null or event_name = any(%(names)s))
group    by grouping sets ((event_name), ())
order    by grouping(event_name), events desc, event_name collate "C";

-- name: top_events_other
-- Number of users of all events except those of the top names.
select count(distinct nullif(user_id, ''))
from   events
where  occurred_at >= %(start)s
and    occurred_at <  %(end)s
and    (%(names)s::text[] is null or event_name = any(%(names)s))
and    event_name <> all(%(top_names)s);
