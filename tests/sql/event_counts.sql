-- name: event_counts
-- Number of events and users in the half-open range [start, end).
select count(*), count(distinct nullif(user_id, ''))
from   events
where  occurred_at >= %(start)s
and    occurred_at <  %(end)s
and    (%(names)s::text[] is null or event_name = any(%(names)s));

-- name: event_counts_series
-- Number of events and users per bucket that has events; `starts` are the buckets' starts, in order.
select width_bucket(occurred_at, %(starts)s::timestamptz[]) - 1 as bucket,
       count(*),
       count(distinct nullif(user_id, ''))
from   events
where  occurred_at >= %(start)s
and    occurred_at <  %(end)s
and    (%(names)s::text[] is null or event_name = any(%(names)s))
group  by bucket;
