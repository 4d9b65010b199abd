-- name: events_per_day
select   date_trunc('day', occurred_at, '{tz}') as day, count(*) as events
from     events
where    occurred_at >= '{start}Z' and occurred_at < '{end}Z'
group by day
order by day

-- name: top_events
select   event_name, count(*) as events
from     events
where    occurred_at >= '{start}Z' and occurred_at < '{end}Z'
group by event_name
order by events desc, event_name
limit    10

-- name: unique_users
select count(distinct nullif(user_id, '')) as users
from   events
where  occurred_at >= '{start}Z' and occurred_at < '{end}Z'

-- name: unique_users_per_day
select   date_trunc('day', occurred_at, '{tz}') as day,
         count(distinct nullif(user_id, '')) as users
from     events
where    occurred_at >= '{start}Z' and occurred_at < '{end}Z'
group by day
order by day

-- name: user_events
select   event_id, event_name, occurred_at, properties
from     events
where    user_id = '{user}' and occurred_at >= '{start}Z' and occurred_at < '{end}Z'
order by occurred_at desc, event_id desc
limit    50
