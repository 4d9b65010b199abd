-- name: raw_events
-- The number of events and the users of segments of time, by event name or together. Users are numbered here,
-- since most have no ordinal without rollups, and a number takes 4 bytes. The columns are those of rollups_tail;
-- as there, a user is repeated for each event.
copy (
    with matching as materialized (
        select width_bucket(occurred_at, %(edges)s::timestamptz[]) - 1 as segment,
               case when %(by_name)s then event_name else '' end as event_name,
               user_id
        from   unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) as runs (start_time, end_time)
        cross  join lateral (
            select occurred_at, event_name, user_id
            from   events
            where  occurred_at >= start_time
            and    occurred_at <  end_time
            and    (%(names)s::text[] is null or event_name = any(%(names)s))
        ) as run_events
    ),
    numbered as materialized (
        select user_id, row_number() over ()::int4 as ordinal
        from   (select distinct user_id from matching where user_id <> '') as present
    )
    select   segment,
             count(*)::int8,
             convert_to(event_name, 'UTF8'),
             coalesce(string_agg(int4send(ordinal), ''), ''),
             ''::bytea
    from     matching
    left     join numbered using (user_id)
    group    by segment, event_name
) to stdout (format binary);

-- name: raw_events_estimate
-- The planner's estimate of the number of events in a range.
explain (format json)
select
from   events
where  occurred_at >= %(start)s
and    occurred_at <  %(end)s;
