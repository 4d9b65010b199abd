-- name: filtered_events
select count(*) as events
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: filtered_users
select count(*) as events, count(distinct user_id) filter (user_id <> '') as users
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: filtered_per_day
-- Counts of each user and day, for the days and for their total; grouping sets take longer.
with counts as materialized (
    select   epoch_us(occurred_at) // 86400000000 as day, user_id, count(*) as events
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{end}' and {filter}
    group by day, user_id
)
select   day, sum(events)::bigint as events, count(*) filter (user_id <> '') as users
from     counts
group by day
union    all
select   null, sum(events)::bigint, count(distinct user_id) filter (user_id <> '')
from     counts
order by day nulls last

-- name: wide_users
select count(*) as events, count(distinct user_id) filter (user_id <> '') as users
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: breakdown
-- The ten values with the most events, all others if there are any, and the total.
with counts as materialized (
    select   {by}, user_id, count(*) as events
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{end}'
    group by all
), top as materialized (
    select   {by}, sum(events)::bigint as events, count(*) filter (user_id <> '') as users
    from     counts
    group by all
    order by events desc, {by}
    limit    10
)
select events, users
from   (
    select 0 as part, events, users
    from   top
    union  all
    select 1, sum(events)::bigint, count(distinct user_id) filter (user_id <> '')
    from   counts
    anti   join top using ({by})
    having count(*) > 0
    union  all
    select 2, sum(events)::bigint, count(distinct user_id) filter (user_id <> '')
    from   counts
)
order by part, events desc
