-- name: filtered_events
-- `properties->>'plan' = 'pro'` takes less time than `properties @> '{{"plan": "pro"}}'`.
select count(*) as events
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: filtered_users
select count(*) as events, count(distinct user_id) filter (where user_id <> '') as users
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: filtered_per_day
select   date_trunc('day', occurred_at) as day, count(*) as events,
         count(distinct user_id) filter (where user_id <> '') as users
from     events
where    occurred_at >= '{start}' and occurred_at < '{end}' and {filter}
group by grouping sets ((date_trunc('day', occurred_at)), ())
order by day

-- name: wide_users
select count(*) as events, count(distinct user_id) filter (where user_id <> '') as users
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: breakdown
-- The ten values with the most events, all others if there are any, and the total.
with counts as materialized (
    select   {jsonb}, user_id, count(*) as events
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{end}'
    group by {by}, user_id
), top as materialized (
    select   {by}, sum(events)::bigint as events, count(*) filter (where user_id <> '') as users
    from     counts
    group by {by}
    order by events desc, {by}
    limit    10
)
select events, users
from   (
    select 0 as part, events, users
    from   top
    union  all
    select 1, sum(events)::bigint, count(distinct user_id) filter (where user_id <> '')
    from   counts
    where  ({by}) not in (select {by} from top)
    having count(*) > 0
    union  all
    select 2, sum(events)::bigint, count(distinct user_id) filter (where user_id <> '')
    from   counts
) as parts
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
