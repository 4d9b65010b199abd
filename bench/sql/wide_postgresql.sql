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
