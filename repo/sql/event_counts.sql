-- name: event_counts
-- Events and their users in a half-open range.
select count(*), count(distinct nullif(user_id, ''))
from   events
where  occurred_at >= %(start)s
and    occurred_at <  %(end)s
and    (%(names)s::text[] is null or event_name = any(%(names)s));

-- name: event_counts_series
-- The same for each bucket that has events; `starts` are the buckets' starts, in order.
select width_bucket(occurred_at, %(starts)s::timestamptz[]) - 1 as bucket,
       count(*),
       count(distinct nullif(user_id, ''))
from   events
where  occurred_at >= %(start)s
and    occurred_at <  %(end)s
and    (%(names)s::text[] is null or event_name = any(%(names)s))
group  by bucket;

-- name: event_counts_estimate
-- About how many events a range holds.
explain (format json)
select
from   events
where  occurred_at >= %(start)s
and    occurred_at <  %(end)s;
