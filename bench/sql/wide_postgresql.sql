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
