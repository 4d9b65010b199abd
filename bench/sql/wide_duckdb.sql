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

-- name: funnel
-- The users who reach each step by events after an entry that is at most 7 days before. For each
-- event, `began` is the latest entry of a chain that has reached the step before it.
with steps as (
    select user_id, occurred_at, occurred_at < '{end}' as may_enter,
           case event_name when '{steps[0]}' then 1 when '{steps[1]}' then 2 else 3 end as step
    from   events
    where  occurred_at >= '{start}' and occurred_at < '{followed}'
    and    event_name in {steps} and user_id <> ''
), second as (
    select *, max(case when step = 1 and may_enter then occurred_at end) over chain as began
    from   steps
    window chain as (partition by user_id order by occurred_at, step)
), third as (
    select *, max(case when step = 2 and occurred_at <= began + interval '7 days' then began end)
              over chain as began_second
    from   second
    window chain as (partition by user_id order by occurred_at, step)
)
select count(distinct user_id) filter (where step = 1 and may_enter),
       count(distinct user_id) filter (where step = 2 and occurred_at <= began + interval '7 days'),
       count(distinct user_id) filter (
           where step = 3 and occurred_at <= began_second + interval '7 days'
       )
from   third
